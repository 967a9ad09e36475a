"""Figures from inside a process, each taken in a process of its own and written as JSON.

gemm: the machine's float32 matrix product. encoder: ms per patch of one engine. decode: what one series costs before
the network. headers: how fast files are looked at. first: torch and one forward pass, the least a first result costs.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

GEMM_SIZE: Final = 4096
QUICK_GEMM_SIZE: Final = 256
ROUNDS: Final = 5


def median_seconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of several runs after one that is not counted."""
    run()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def gemm(options: argparse.Namespace) -> dict[str, Any]:
    """GFLOP/s of a square float32 product (2 n^3 operations)."""
    import torch

    n = QUICK_GEMM_SIZE if options.quick else GEMM_SIZE
    a, b = torch.rand(n, n), torch.rand(n, n)
    best = median_seconds(lambda: a @ b)
    return {"size": n, "gflops": 2 * n**3 / best / 1e9, "threads": torch.get_num_threads()}


def encoder(options: argparse.Namespace) -> dict[str, Any]:
    """Ms per patch by batch size, and the features of the same patches for comparison.

    The engine `plain` is the published arithmetic as it stands: the network in eager torch, float32, default layout.
    """
    import numpy as np
    import torch

    from benchmarks.inputs import scan_voxels

    voxels = scan_voxels((50 * 8, 50, 50)).reshape(8, 50, 50, 50)
    patches = ((voxels.astype(np.float32) + 1024) / 3072).astype(np.float32)
    started = time.perf_counter()
    encode, info = _load_engine(options)
    loaded = time.perf_counter() - started
    features = encode(patches)
    ready = time.perf_counter() - started
    per_patch = {
        str(batch): 1000 / batch * median_seconds(partial(encode, patches[:batch]), options.rounds)
        for batch in options.batches
    }
    np.save(options.output.with_suffix(".npy"), features)
    return {
        "ms_per_patch": per_patch,
        "load_s": loaded,
        "first_batch_s": ready - loaded,
        "threads": torch.get_num_threads(),
        "gflop_per_patch": _gflop(options.weights) if options.engine == "plain" else 0.0,
        **info,
    }


def decode(options: argparse.Namespace) -> dict[str, Any]:
    """What one series costs before the network, warm: decoding alone, then with resampling of its patches.

    The slices that are read are counted as files opened after the headers are known, whatever the reader does.
    """
    from dataclasses import replace

    import fmcib_module as fm
    from fmcib_module.core.volume import WHOLE

    series = _series(options.source)
    seeds = fm.find_seeds(series)[: options.lesions]
    opened: set[str] = set()
    sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
    asked: list[tuple[Any, ...]] = []

    def cut() -> None:
        opened.clear()
        asked.clear()
        volume = fm.read_volume(series)

        def read(first: int, stop: int, rows: slice = WHOLE, columns: slice = WHOLE) -> Any:
            asked.append((first, stop, rows, columns))
            return volume.read_slab(first, stop, rows, columns)

        for seed in seeds:
            fm.extract_patch(replace(volume, read_slab=read), seed)

    def decode_only() -> None:
        volume = fm.read_volume(series)
        for region in asked:
            volume.read_slab(*region)

    cut_s = median_seconds(cut)
    slices = sum(name.endswith(".dcm") for name in opened)
    return {
        "lesions": len(seeds),
        "slices_in_series": len(series.instances),
        "slices_opened": slices,
        "cut_s": cut_s,
        "decode_s": median_seconds(decode_only),
    }


def headers(options: argparse.Namespace) -> dict[str, Any]:
    """Files per second of the importer's first pass, files in the page cache."""
    import fmcib_module as fm

    files = sum(path.suffix == ".dcm" for path in options.source.rglob("*"))
    seconds = median_seconds(lambda: fm.read_studies(options.source), rounds=3)
    return {"files": files, "seconds": seconds, "files_per_s": files / seconds}


def first(options: argparse.Namespace) -> dict[str, Any]:
    """Import torch and run one forward pass of the network with weights from nowhere (constant values)."""
    started = time.perf_counter()
    import torch

    imported = time.perf_counter()
    from fmcib_module.adapters.resnet import ResNet3D

    with torch.device("meta"):
        network = ResNet3D(0.25 if options.quick else 2.0)
    network = network.to_empty(device="cpu").eval()
    with torch.inference_mode():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(0.01 if tensor.is_floating_point() else 0)
        network(torch.zeros(1, 1, 50, 50, 50))
    return {"import_torch_s": imported - started, "forward_s": time.perf_counter() - imported}


def _series(folder: Path) -> Any:
    import fmcib_module as fm

    (series,) = (series for study in fm.read_studies(folder) for series in study.series if series.instances)
    return series


def _load_engine(options: argparse.Namespace) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    import torch

    if options.engine != "plain":
        from fmcib_module.adapters.runner import load_encoder

        loaded = load_encoder(options.weights, device="cpu", engine=options.engine, precision=options.precision)
        return loaded.encode, {"described": loaded.describe()}
    network = _plain_network(options.weights)

    def encode(patches: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(patches).unsqueeze(1)).numpy()

    return encode, {}


def _plain_network(weights: str) -> Any:
    from fmcib_module.adapters.checkpoint import load_weights
    from fmcib_module.adapters.resnet import resnet_from_tensors

    info, tensors = load_weights(weights)
    return resnet_from_tensors(tensors, info.name)


def _gflop(weights: str) -> float:
    """Floating-point operations of one patch (2 per multiplication and addition), counted by torch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _plain_network(weights)(torch.zeros(1, 1, 50, 50, 50))
    return float(counter.get_total_flops()) / 1e9


PROBES: Final = {"gemm": gemm, "encoder": encoder, "decode": decode, "headers": headers, "first": first}


def main() -> None:
    """Run one probe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PROBES)
    parser.add_argument("output", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--engine", default="plain")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batches", type=json.loads, default=[8])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--lesions", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.output.write_text(json.dumps(PROBES[options.name](options)))


if __name__ == "__main__":
    main()
