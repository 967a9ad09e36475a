"""Fuzz the readers, guided by coverage: `python -m tests.fuzz.guided TARGET --seconds 600` (libFuzzer by atheris).

Each input is read as the target's file beside a sound CT: header, ROIs, seeds, and the mask of each seed. Only our own
errors may come out, within 10 s and 2 GB. A finding is left as a file in --findings, and the exit code is not 0.
"""

import argparse
import contextlib
import logging
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fmcib_module"]):
    from fmcib_module.adapters.dicom_header import read_header
    from fmcib_module.adapters.dicom_import import scan_folder
    from fmcib_module.adapters.seed_files import sniff
    from fmcib_module.adapters.seed_finder import find_rois, roi_mask
    from fmcib_module.adapters.volume_reader import read_volume
    from fmcib_module.core.conventions import SeedKind
    from fmcib_module.core.domain import RoiSource, Series
    from fmcib_module.core.errors import InputError
    from fmcib_module.core.volume import Grid

from tests.fuzz.study import write_base

SOURCES = {
    "rtstruct": (SeedKind.RTSTRUCT, "rtstruct.dcm"),
    "seg": (SeedKind.SEG, "seg.dcm"),
    "csv": (SeedKind.POINT, "points.csv"),
    "json": (SeedKind.POINT, "points.json"),
    "markups": (SeedKind.POINT, "points.mrk.json"),
    "fcsv": (SeedKind.POINT, "points.fcsv"),
}
EXAMPLES = {
    "points.json": '[{"coordX": 12, "coordY": -7, "coordZ": 30, "Mhub ROI": "a"}]',
    "points.mrk.json": '{"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": '
    '[{"label": "a", "position": [12, -7, 30]}]}]}',
    "points.fcsv": "# CoordinateSystem = LPS\n# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc\n"
    "1,12,-7,30,0,0,0,1,1,1,0,a,\n",
}


def main() -> None:
    """Set up the target and let libFuzzer run it; never returns."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.guided", description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(SOURCES))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    kind, name = SOURCES[options.target]
    options.findings.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fmcib-guided-"))
    base = write_base(folder / "base")
    corpus = folder / "corpus"
    corpus.mkdir()
    example = (base / name).read_bytes() if (base / name).is_file() else EXAMPLES[name].encode()
    (corpus / name).write_bytes(example)
    target = Target(base, kind, folder / name)
    limits = ["-timeout=10", "-rss_limit_mb=2048", f"-max_total_time={options.seconds}", "-max_len=200000"]
    files = [f"-artifact_prefix={options.findings}/{options.target}-", str(corpus)]
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", "-verbosity=0", *files], target)
    atheris.Fuzz()


class Target:
    """Reads one input as a file of its kind."""

    def __init__(self, base: Path, kind: SeedKind, file: Path) -> None:
        self._file = file
        series = next(one for study in scan_folder(base).studies for one in study.series if not one.skip_reason)
        self._grid: Grid = read_volume(series).grid
        source = next((one for one in series.roi_sources if one.kind is kind), None)
        self._source = replace(source, path=file) if source else RoiSource(file, kind, file.name)
        self._series: Series = replace(series, roi_sources=(self._source,))

    def __call__(self, content: bytes) -> None:
        """Only `InputError` is caught: anything else is a finding."""
        self._file.write_bytes(content)
        if self._source.kind is SeedKind.POINT:
            sniff(self._file)
        else:
            with contextlib.suppress(InputError):
                read_header(self._file)
        seeds, _ = find_rois(self._series)
        for seed in seeds[:3]:
            try:
                roi_mask(self._series, seed, self._grid)
            except InputError:
                continue


if __name__ == "__main__":
    main()
