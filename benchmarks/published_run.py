"""The published package at work on one scan, as its users run it; executed by the published environment's python.

Two loops, both unchanged code of `foundation-cancer-image-biomarker`:

- features: `fmcib.run.get_features(csv)`, one model, but the scan is read and resampled again for every row;
- mhub: what the MHub model of the paper does for each ROI, `fmcib_model()` and `preprocess(row)`, so the model is
  loaded again as well.

`fmcib_model` takes `model_weights.torch` from the working directory and downloads it only where it is absent, so the
working directory is the folder of the benchmark's own weights. Nothing is replaced in the package.
"""

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

started = time.perf_counter()

import numpy as np  # noqa: E402  (the clock starts before the imports, which are part of a user's run)
import torch  # noqa: E402


def run_features(table: Path, workers: int) -> Any:
    """(n, 4096) features of every row, by the package's own loop."""
    from fmcib.run import get_features  # type: ignore[import-not-found]

    frame = get_features(str(table), num_workers=workers)
    return frame[[f"pred_{n}" for n in range(4096)]].to_numpy(np.float32)


def run_mhub(table: Path) -> Any:
    """(n, 4096) features of every row, by a loop that starts from nothing for each ROI."""
    from fmcib.models import fmcib_model  # type: ignore[import-not-found]
    from fmcib.preprocessing import preprocess  # type: ignore[import-not-found]

    features = []
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            model = fmcib_model()
            point = {key: float(row[key]) for key in ("coordX", "coordY", "coordZ")}
            image = preprocess({"image_path": row["image_path"], **point}).unsqueeze(0)
            features.append(model(image).detach().numpy()[0])
    return np.stack(features)


def main() -> None:
    """Run one loop; save features and what ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV with image_path, coordX, coordY, coordZ")
    parser.add_argument("output", type=Path, help="features as .npy; a .json with versions is written beside it")
    parser.add_argument("--weights-folder", type=Path, required=True, help="holds model_weights.torch")
    parser.add_argument("--loop", choices=["features", "mhub"], default="features")
    parser.add_argument("--workers", type=int, default=0, help="processes of the package's data loader")
    options = parser.parse_args()
    table, output = options.table.resolve(), options.output.resolve()
    os.chdir(options.weights_folder)
    if not Path("model_weights.torch").is_file():
        sys.exit("model_weights.torch is not in the weights folder")
    imported = time.perf_counter()
    features = run_mhub(table) if options.loop == "mhub" else run_features(table, options.workers)
    np.save(output, features)
    output.with_suffix(".json").write_text(
        json.dumps(
            {
                "versions": {name: _version(name) for name in ("foundation-cancer-image-biomarker", "monai", "torch")},
                "threads": torch.get_num_threads(),
                "seconds": {"before_loop": imported - started, "loop": time.perf_counter() - imported},
            }
        )
    )


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)


if __name__ == "__main__":
    main()
