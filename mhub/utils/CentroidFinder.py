"""Step 2: a series with its RTSTRUCT, SEG, seed tables, masks and reports -> seeds."""

from pathlib import Path

from mhubio.core import IO, Instance, InstanceData, Module

from fmcib_module import steps
from fmcib_module.work import load_work, save_work

from .handover import SEEDS, SERIES
from .workflow import config_of, settings_of


class CentroidFinder(Module):
    """Find the centre of every ROI in LPS millimetres; `rois` and `seed_sources` choose among them.

    An ROI without a centre is noted with its reason in the file that is handed on.
    """

    @IO.Instance()
    @IO.Input("series", SERIES, the="series with the objects and files that mark its lesions")
    @IO.Output("seeds", "seeds.json", SEEDS, the="centres of the lesions, and ROIs that have none")
    def task(self, instance: Instance, series: InstanceData, seeds: InstanceData) -> None:
        """One series."""
        work = steps.find(load_work(Path(series.abspath)).series, settings_of(config_of(self.config)))
        save_work(work, Path(seeds.abspath))
        self.log(f"{work.series.uid}: {len(work.seeds)} seed(s), {len(work.failed)} ROI(s) without")
