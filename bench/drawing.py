"""What the pictures have in common: SVG, the same file for the same numbers. Needs matplotlib."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

# No date, no random names; text stays text.
matplotlib.rcParams["svg.hashsalt"] = "lstm"
matplotlib.rcParams["svg.fonttype"] = "none"


def axes_of(width, height):
    figure, axes = plt.subplots(figsize=(width, height))
    axes.grid(alpha=0.25)
    return figure, axes


def save(figure, axes, picture):
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, metadata={"Date": None, "Creator": None})
