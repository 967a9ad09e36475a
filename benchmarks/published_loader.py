"""The published training loader at work; executed by the published environment's python.

`SSLRadiomicsDataset` and its transforms are the package's own, with the parameters of its pretraining recipe
(experiments/pretraining/fmcib_pretrain.yaml of its repository). One sample is two views of a lesion and two of a
random patch. `fmcib.transforms` also imports a helper of `lighter`, a framework that nothing measured here uses and
that the environment lacks: an empty stand-in takes its place.
"""

import argparse
import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


def published_transform() -> Any:
    """The recipe's transform."""
    misc: Any = ModuleType("lighter.utils.misc")
    misc.ensure_list = list
    sys.modules.update({"lighter": ModuleType("lighter"), "lighter.utils": ModuleType("lighter.utils")})
    sys.modules["lighter.utils.misc"] = misc
    mt: Any = import_module("monai.transforms")
    fmcib: Any = import_module("fmcib.transforms")
    compose: Any = import_module("torchvision.transforms").Compose

    def view() -> Any:
        return compose(
            [
                fmcib.RandomResizedCrop3D(size=50),
                mt.RandAxisFlip(prob=0.5),
                mt.RandHistogramShift(prob=0.5),
                mt.RandGaussianSmooth(prob=0.5),
                mt.SpatialPad(spatial_size=[50, 50, 50]),
                mt.ThresholdIntensity(threshold=-1024, cval=-1024),
                mt.NormalizeIntensity(subtrahend=-1024, divisor=3072),
            ]
        )

    return compose([mt.ToTensor(), mt.EnsureChannelFirst(channel_dim="no_channel"), fmcib.Duplicate(view(), view())])


def main() -> None:
    """Load samples in one process on one thread; write what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV with image_path, coordX, coordY, coordZ")
    parser.add_argument("output", type=Path, help="JSON")
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transform = published_transform()
    datasets: Any = import_module("fmcib.datasets")
    dataset = datasets.SSLRadiomicsDataset(options.table, orient=True, resample_spacing=[1, 1, 1], transform=transform)
    dataset[0]  # imports and file cache are warm
    wall, cpu = time.perf_counter(), time.process_time()
    for row in range(options.samples):
        sample, _ = dataset[row % len(dataset)]
        views = [*sample["positive"], *sample["negative"]]
        if [tuple(view.shape) for view in views] != [(1, 50, 50, 50)] * 4:
            sys.exit("a sample is not four views of 50")
    result = {
        "samples": options.samples,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "versions": {name: version(name) for name in ("foundation-cancer-image-biomarker", "monai", "SimpleITK")},
    }
    options.output.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
