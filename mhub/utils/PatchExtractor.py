"""Step 3: seeds -> patches of 50 x 50 x 50 voxels."""

from pathlib import Path

from mhubio.core import IO, Instance, InstanceData, Module

from fmcib_module import steps
from fmcib_module.work import load_work, save_work

from .handover import PATCHES, SEEDS, VOXELS, save_patch
from .workflow import config_of, settings_of


class PatchExtractor(Module):
    """Cut the network's input around each seed; `mode` says how, `irregular` what to do with uneven slices.

    A seed that has no patch is noted with its reason in the file that is handed on.
    """

    @IO.Instance()
    @IO.Input("seeds", SEEDS, the="centres of the lesions")
    @IO.Output("patches", "patches.json", PATCHES, the="seeds with flags, and ROIs that have no patch")
    @IO.Output("voxels", "patches", VOXELS, the="folder with one array per lesion, named by the seed's place")
    def task(self, instance: Instance, seeds: InstanceData, patches: InstanceData, voxels: InstanceData) -> None:
        """One series."""
        work = load_work(Path(seeds.abspath))
        folder = Path(voxels.abspath)
        folder.mkdir(exist_ok=True)
        for place, patch in steps.cut(work, settings_of(config_of(self.config))):
            save_patch(folder, place, patch)
        save_work(work, Path(patches.abspath))
