"""Output folders made without a run: a ledger, the cohort's table and pictures."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmcib_module.adapters.tables import CohortWriter
from fmcib_module.core.conventions import Flag, Mode, SeedKind
from fmcib_module.core.domain import Lesion, Provenance, Seed, Series, SeriesReport
from fmcib_module.core.ledger import Ledger, ProblemEntry, RoiEntry, SeriesEntry, Stage, Status, finish_entry
from fmcib_module.core.naming import picture_name
from fmcib_module.core.report import series_rows

N_FEATURES = 32
N_LESIONS = 90
"""Of the report that the browser's tests look at."""

RUN = {
    "weights": "mini",
    "weights_note": "small network trained by us: not the published model",
    "weights_sha256": "ab" * 32,
    "mode": "published",
    "version": "0.1.0",
    "started": "2000-01-01T00:00:00+00:00",
    "settings": {"rois": [], "sr": True},
}
PROVENANCE = Provenance("mini", "ab" * 32, "", Mode.PUBLISHED, "0.1.0")


def png(seed: int) -> bytes:
    """A picture as large as ours, each with another grey."""
    out = io.BytesIO()
    Image.fromarray(np.full((282, 978), 40 + seed % 200, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def seeds_of(n: int, *, labels: Callable[[int], str] = "GTV-{}".format) -> list[Seed]:
    """Every third one flagged; volumes fall as places rise, which no sorted order by place does."""
    return [
        Seed(
            (float(k), -2.0 * k, 7.0),
            labels(k),
            f"1.2.9.{k}",
            kind=(SeedKind.RTSTRUCT, SeedKind.SEG)[k % 2],
            roi_number=k,
            extent_mm=(10.0, 12.0, 9.0),
            volume_mm3=1000.0 * (n - k),
            flags=(Flag.NEAR_BORDER,) if k % 3 == 0 else (),
        )
        for k in range(n)
    ]


def write_output(
    folder: Path,
    seeds: Sequence[Seed],
    *,
    per_series: int = 5,
    failed: Sequence[RoiEntry] = (),
    problems: Sequence[ProblemEntry] = (),
    pictures: bool = True,
    complete: bool = True,
    features: Callable[[int, NDArray[np.float64]], NDArray[np.float32]] = lambda _, noise: noise.astype(np.float32),
) -> Ledger:
    """Write what the report reads; `features` makes a lesion's of its place and noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    entries = []
    with CohortWriter(folder) as cohort:
        for number, first in enumerate(range(0, len(seeds), per_series)):
            uid, group = f"1.2.3.{number}", seeds[first : first + per_series]
            values = [features(first + k, rng.standard_normal(N_FEATURES)) for k in range(len(group))]
            lesions = tuple(Lesion(seed, value) for seed, value in zip(group, values, strict=True))
            cohort.add(series_rows(SeriesReport(Series(uid, "1.2", "CT"), lesions, PROVENANCE)))
            names = [picture_name(k, seed.label) if pictures else "" for k, seed in enumerate(group)]
            for k, name in enumerate(filter(None, names)):
                (folder / uid / "qc").mkdir(parents=True, exist_ok=True)
                (folder / uid / name).write_bytes(png(first + k))
            rois = tuple(RoiEntry.done(seed, name) for seed, name in zip(group, names, strict=True))
            files = dict.fromkeys(filter(None, names), "00")
            patient = f"P-{number // 2:016x}"  # two series each
            entry = SeriesEntry(
                uid, "1.2", "CT", Status.OK, Stage.DONE, rois=rois, output=uid, files=files, patient=patient
            )
            entries.append(finish_entry(entry))
    if failed:
        bad = SeriesEntry("1.2.3.99", "1.2", "CT", Status.FAILED, Stage.EXTRACT, rois=tuple(failed))
        entries.append(bad)
    ledger = replace(Ledger(RUN), series=tuple(entries), problems=tuple(problems), complete=complete)
    (folder / "run_status.json").write_text(json.dumps(ledger.to_dict()))
    return ledger
