"""The notebook of `examples/` runs from end to end."""

import pathlib

import pytest

pytest.importorskip("torch", reason="torch is not installed, which the notebook starts from")
pytest.importorskip("matplotlib", reason="matplotlib is not installed, which the notebook draws with")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed, which reads the notebook")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed, which runs the notebook")
pytest.importorskip("ipykernel", reason="ipykernel is not installed, which runs the notebook's cells")

NOTEBOOK = pathlib.Path(__file__).resolve().parents[3] / "examples" / "from_torch.ipynb"


def test_the_notebook_runs_and_draws():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == 10
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    drawn = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(drawn) == 4
