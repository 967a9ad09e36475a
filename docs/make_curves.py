"""Draw docs/images/mini-training.png: loss, learning rate and effective rank over the runs that made `mini`.

Run: `python -m docs.make_curves runs/mini-first runs/mini-second runs/mini` (needs matplotlib).
"""

import csv
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

PICTURE = Path(__file__).parent / "images/mini-training.png"
PANELS = {"loss": "loss (weights differ by run)", "learning_rate": "learning rate", "effective_rank": "effective rank"}


def main(runs: list[Path]) -> None:
    """Write the picture: runs one after the other, each from the step where the one before it was left."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(12, 3))
    start = 0
    for number, run in enumerate(runs, start=1):
        with (run / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        steps = [start + int(row["step"]) for row in rows]
        for axis, column in zip(axes, PANELS, strict=True):
            known = [(step, float(row[column])) for step, row in zip(steps, rows, strict=True) if row[column]]
            axis.plot([step for step, _ in known], [value for _, value in known], label=f"run {number}")
        start = max(steps)
    for axis, title in zip(axes, PANELS.values(), strict=True):
        axis.set(title=title, xlabel="step")
        axis.set_ylim(bottom=0)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=80)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
