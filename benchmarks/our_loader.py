"""Our training loader at work on one thread: a cache made once, patches read, views made of them."""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from training.data import CacheSource
from training.prepare import PrepareSettings, build_cache
from training.settings import DataSettings, Source
from training.view_settings import ViewSettings
from training.views import LesionViews


def main() -> None:
    """Load batches for some seconds, with and without views; write what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0, help="of processor time, for each of the two")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    settings = PrepareSettings(options.cache.name, "CC0-1.0", tables=(str(options.table.resolve()),))
    report = build_cache(settings, options.cache.parent)
    prepare_s = 0.0 if report.n_kept else time.process_time() - start
    data = DataSettings(Source.CACHE, str(options.cache), batch_size=options.batch_size)
    source, maker = CacheSource(data, seed=1, randoms=True), LesionViews(ViewSettings())
    if not source.n_batches(1):
        sys.exit("there are fewer lesions than a batch needs")
    result = {"batch_size": options.batch_size, "prepare_cpu_s": prepare_s, "lesions": report.n_lesions}
    for name in ("read", "read_and_views"):
        _measure(source, maker, epoch=0, seconds=0.0, views=name != "read")  # warm
        result[name] = _measure(source, maker, epoch=1, seconds=options.seconds, views=name != "read")
    options.output.write_text(json.dumps(result))


def _measure(source: CacheSource, maker: LesionViews, *, epoch: int, seconds: float, views: bool) -> dict[str, float]:
    samples, wall, cpu = 0, time.perf_counter(), time.process_time()
    while not samples or time.process_time() - cpu < seconds:
        for number, batch in enumerate(source.batches(epoch=epoch, first=0, rank=0, world_size=1)):
            if views:
                maker(batch, torch.Generator().manual_seed(number))
            samples += len(batch.lesion_rows)
        epoch += 1
    return {"samples": samples, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


if __name__ == "__main__":
    main()
