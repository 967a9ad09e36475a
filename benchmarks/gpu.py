"""Everything that needs a CUDA device, checked and timed in one call: `python -m benchmarks.gpu`.

Checks float32 against the CPU, bf16's cosine, that a patch's features do not depend on its batch, the out-of-memory
back-off, and (with several devices) the pool; times every engine and precision at several batch sizes, with the copy to
the device in the loop, as ms per patch and TFLOP/s beside the device's measured matrix product. Needs torch 2.11 or
newer and the runtime packages; the published network with random weights is made on the spot. Prints JSON; exit code 1
if a check fails.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.inputs import write_weights
from fmcib_module.adapters.engine_pool import PoolForward, WorkerPlan
from fmcib_module.adapters.runner import Encoder, load_encoder, visible_cuda_devices

FLOP_PER_PATCH: Final = 25.7e9
"""Forward pass of the published network on one patch: two per multiplication and addition."""

GEMM_SIZE: Final = 8192
BATCHES: Final = (1, 8, 64, 256)
ABSOLUTE, RELATIVE_L2, MIN_COSINE = 2e-5, 2e-6, 0.9999


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: there is no CUDA device here")
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "random.torch"
        write_weights(weights)
        checks = check_all(weights)
        report = {"device": describe_device(), "checks": checks, "timings": time_all(weights, options.repeats)}
    print(json.dumps(report, indent=1))
    sys.exit(0 if all(check["passed"] for check in checks.values()) else 1)


def describe_device() -> dict[str, Any]:
    """The card and what drives it."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "devices": torch.cuda.device_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gemm_tflops": {name: round(gemm_tflops(dtype), 1) for name, dtype in DTYPES.items()},
    }


DTYPES: Final = {"float32": torch.float32, "bf16": torch.bfloat16}


def check_all(weights: Path) -> dict[str, dict[str, Any]]:
    """Every check: whether it passed, and its figures."""
    patches = np.random.default_rng(0).random((5, 50, 50, 50), dtype=np.float32)
    expected = load_encoder(weights, device="cpu", engine="torch").encode(patches)
    exact = load_encoder(weights, device="cuda")
    found = exact.encode(patches)
    norms = np.linalg.norm(expected, axis=1)
    scale = max(1.0, float(np.abs(expected).max()) / 10)  # the absolute limit is stated for features up to 10
    absolute, relative = np.abs(found - expected).max(), (np.linalg.norm(found - expected, axis=1) / norms).max()
    bf16 = load_encoder(weights, device="cuda", precision="bf16").encode(patches)
    cosine = (np.sum(bf16 * expected, axis=1) / (np.linalg.norm(bf16, axis=1) * norms)).min()
    alone = np.concatenate([exact.encode(patch[None]) for patch in patches])
    checks = {
        "float32 equals the CPU": verdict(
            absolute <= ABSOLUTE * scale and relative <= RELATIVE_L2, absolute=absolute, relative_l2=relative
        ),
        "bf16 is close to float32": verdict(cosine > MIN_COSINE, cosine=cosine),
        "a patch alone has the same bits": verdict(np.array_equal(alone, found)),
        "out of memory halves the batch": check_memory(weights, patches, found),
    }
    if torch.cuda.device_count() > 1:
        checks["a pool of devices equals one"] = check_pool(weights, patches, found)
    return checks


def check_memory(weights: Path, patches: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, Any]:
    """Leave the process little memory and ask for a batch that cannot fit."""
    encoder = load_encoder(weights, device="cuda")
    free, total = torch.cuda.mem_get_info()
    limit = (torch.cuda.memory_reserved() + min(free, 6 * 2**30)) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit))
    try:
        many = np.concatenate([patches] * 100)
        features = encoder.encode(many, batch_size=len(many))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    return verdict(np.allclose(features, np.concatenate([expected] * 100), atol=1e-4), asked=len(many))


def check_pool(weights: Path, patches: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, Any]:
    """One process per device gives what one device gives."""
    plans = [WorkerPlan(str(weights), "cuda", "torch", "float32", visible=name) for name in visible_cuda_devices()]
    pool = PoolForward(plans, expected.shape[1])
    try:
        return verdict(np.allclose(pool(patches[:, None]), expected, atol=1e-4), processes=len(plans))
    finally:
        pool.close()


def time_all(weights: Path, repeats: int) -> list[dict[str, Any]]:
    """Each engine, precision and batch size in turn."""
    rows = []
    for engine in ("torch", "compile"):
        for precision in ("float32", "bf16"):
            encoder = load_encoder(weights, device="cuda", engine=engine, precision=precision)
            for batch in BATCHES:
                rows.append(
                    {"engine": engine, "precision": precision, "batch": batch, **time_encoder(encoder, batch, repeats)}
                )
            del encoder
            torch.cuda.empty_cache()
    return rows


def time_encoder(encoder: Encoder, batch: int, repeats: int) -> dict[str, float]:
    """Whole calls: copy to the device, forward pass, features back."""
    patches = np.random.default_rng(0).random((batch, 50, 50, 50), dtype=np.float32)
    seconds = timed(lambda: encoder.encode(patches, batch_size=batch), repeats)
    return {
        "ms_per_patch": round(seconds / batch * 1e3, 3),
        "tflops": round(FLOP_PER_PATCH * batch / seconds / 1e12, 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }


def gemm_tflops(dtype: torch.dtype) -> float:
    """The device's matrix product, for comparison; TF32 off."""
    a = torch.randn(GEMM_SIZE, GEMM_SIZE, device="cuda", dtype=dtype)
    return 2 * GEMM_SIZE**3 / timed(lambda: a @ a, 10) / 1e12


def timed(call: Callable[[], object], repeats: int) -> float:
    """Median seconds, after two calls to warm up."""
    samples = []
    for number in range(repeats + 2):
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if number >= 2:
            samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def verdict(passed: bool | np.bool_, **figures: float) -> dict[str, Any]:
    """A check's outcome."""
    return {"passed": bool(passed), **{name: float(value) for name, value in figures.items()}}


if __name__ == "__main__":
    main()
