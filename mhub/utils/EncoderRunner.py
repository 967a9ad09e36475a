"""Step 4: patches -> features, in batches across all series."""

from collections.abc import Iterator
from pathlib import Path

from mhubio.core import Instance, Module

from fmcib_module.core.domain import Patch
from fmcib_module.lazy_encoder import LazyEncoder
from fmcib_module.pipeline import encode_stream
from fmcib_module.settings import Settings
from fmcib_module.work import SeriesWork, load_work, save_work

from .handover import (
    ENCODER,
    ENCODER_JSON,
    FEATURES,
    PATCHES,
    VOXELS,
    EncoderFacts,
    add_data,
    find_data,
    load_patches,
    save_values,
)
from .workflow import config_of, exit_on_error, settings_of


class EncoderRunner(Module):
    """Load the network once and run it over the patches of all instances (so there is no @IO.Instance)."""

    def task(self) -> None:
        """All series; a network that cannot be loaded ends the process with exit code 2."""
        facts = EncoderFacts()
        with exit_on_error():
            settings = settings_of(config_of(self.config))
            ready = [found for instance in self.config.data.instances if (found := _patches_of(instance)) is not None]
            jobs = (_job(json_path, voxels, settings) for _, json_path, voxels in ready)
            done = encode_stream(LazyEncoder(settings, facts), jobs)
            for (instance, _, _), work in zip(ready, done, strict=True):  # in the order they went in
                features = add_data(instance, "features.json", FEATURES)
                save_values(work, features.with_suffix(".npz"))
                save_work(work, features)
        add_data(self.config.data.globalInstance, "fmcib_encoder.json", ENCODER).write_bytes(
            ENCODER_JSON.dump_json(facts)
        )


def _patches_of(instance: Instance) -> tuple[Instance, Path, Path] | None:
    json_path, voxels = find_data(instance, PATCHES), find_data(instance, VOXELS)
    return (instance, json_path, voxels) if json_path and voxels else None


def _job(json_path: Path, voxels: Path, settings: Settings) -> tuple[SeriesWork, Iterator[tuple[int, Patch]]]:
    work = load_work(json_path)
    return work, load_patches(voxels, work, settings.mode)
