"""Writes `table.parquet`: a table as pandas writes it, for `data/parquet.rs`.

    pip install pandas==2.3.3 pyarrow==22.0.0
    python crates/lstm/tests/golden/parquet.py
"""

from pathlib import Path

import pandas as pd

table = pd.DataFrame(
    {
        "date": pd.date_range("2020-01-01", periods=4, freq="h"),
        "instant": pd.date_range("2020-01-01", periods=4, freq="h", tz="Europe/Berlin"),
        "load": [1.5, None, -0.25, 1e-7],
        "note": ["a, b", None, "ü", "x"],
        "count": [1, 2, 3, 4],
    }
)
table.to_parquet(Path(__file__).with_name("table.parquet"), index=False)
