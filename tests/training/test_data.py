"""Batches from the cache: the same whoever reads them, split by patient, random patches where they should be."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fmcib_module.core.errors import ConfigError, InputError
from tests.training import scans
from training.batches import PatchBatch
from training.data import CacheSource, random_centre
from training.methods import make_method
from training.prepare import PrepareSettings, build_cache
from training.pretrain import open_data, run
from training.settings import (
    DataSettings,
    MethodSettings,
    NetworkSettings,
    Randoms,
    Source,
    TrainerSettings,
    TrainingSettings,
)
from training.view_settings import ViewSettings
from training.views import LesionViews


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 scans of 79 x 87 x 88 mm with 4 lesions each; patients p0 to p4."""
    return scans.make_cache(tmp_path_factory.mktemp("data"), n_scans=5, lesions_per_scan=4).folder


def _source(folder: Path, **changes: object) -> CacheSource:
    settings = replace(DataSettings(Source.CACHE, str(folder), batch_size=3), **changes)  # type: ignore[arg-type]
    return CacheSource(settings, seed=1, randoms=True)


def _batches(source: CacheSource, epoch: int = 0, first: int = 0, rank: int = 0, world: int = 1) -> list[PatchBatch]:
    return list(source.batches(epoch=epoch, first=first, rank=rank, world_size=world))


def _equal(a: PatchBatch, b: PatchBatch) -> bool:
    assert a.randoms_hu is not None
    assert b.randoms_hu is not None
    same = torch.equal(a.lesion_rows, b.lesion_rows) and torch.equal(a.lesions_hu, b.lesions_hu)
    return same and torch.equal(a.randoms_hu, b.randoms_hu)


def test_a_batch_holds_the_crops_of_its_rows(cache_folder: Path) -> None:
    source = _source(cache_folder, margin=4)
    batch = _batches(source)[1]
    assert batch.lesions_hu.shape == (3, 1, 58, 58, 58)
    assert batch.lesions_hu.dtype == torch.int16
    for patch, row in zip(batch.lesions_hu, batch.lesion_rows.tolist(), strict=True):
        lesion = source.cache.lesions[row]
        assert np.array_equal(patch[0].numpy(), source.cache.read_box(lesion.scan, lesion.centre_zyx, 58))


def test_threads_and_where_one_starts_change_no_batch(cache_folder: Path) -> None:
    expected = _batches(_source(cache_folder), epoch=2)
    assert len(expected) == 6
    ahead = _batches(_source(cache_folder, workers=3), epoch=2)
    late = _batches(_source(cache_folder, workers=1), epoch=2, first=4)
    assert all(_equal(a, b) for a, b in zip(expected, ahead, strict=True))
    assert all(_equal(a, b) for a, b in zip(expected[4:], late, strict=True))
    stopped = _source(cache_folder, workers=2).batches(epoch=2, first=0, rank=0, world_size=1)
    assert _equal(next(stopped), expected[0])


def test_epochs_come_in_another_order_with_other_random_patches(cache_folder: Path) -> None:
    source = _source(cache_folder)
    orders = [source.epoch_order(epoch).tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    first, second = (source.read_batch(np.array([3]), epoch).randoms_hu for epoch in (0, 1))
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)


def test_a_random_patch_does_not_depend_on_the_batch(cache_folder: Path) -> None:
    source = _source(cache_folder)
    alone, among = source.read_batch(np.array([7]), 1), source.read_batch(np.array([2, 7, 5]), 1)
    assert alone.randoms_hu is not None
    assert among.randoms_hu is not None
    assert torch.equal(alone.randoms_hu[0], among.randoms_hu[1])


def test_ranks_share_an_epoch_without_overlap(cache_folder: Path) -> None:
    source = _source(cache_folder)
    rows = [
        row for rank in range(2) for batch in _batches(source, rank=rank, world=2) for row in batch.lesion_rows.tolist()
    ]
    assert len(rows) == len(set(rows)) == 18
    assert source.n_batches(2) == 3


def test_random_patches_lie_in_the_scan_apart_from_the_lesion() -> None:
    shape, lesion = (120, 90, 76), (30, 40, 38)
    rng = np.random.default_rng(0)
    centres = np.array([random_centre(shape, lesion, rng) for _ in range(2000)])
    assert (centres >= 25).all()
    assert (centres <= np.array(shape) - 25).all()
    assert (np.abs(centres - lesion).max(axis=1) >= 50).all()
    anywhere = np.array([random_centre(shape, None, rng) for _ in range(2000)])
    assert (np.abs(anywhere - lesion).max(axis=1) < 50).any()
    # uniform over all centres that there are: both ends as often as any other
    counts = np.bincount(anywhere[:, 2] - 25, minlength=27)
    assert len(counts) == 27
    assert counts.min() > 40


def test_random_patches_are_uniform_over_the_free_places() -> None:
    shape, lesion = (102, 50, 50), (26, 25, 25)  # free centres: z of 76 and 77
    rng = np.random.default_rng(1)
    found = [random_centre(shape, lesion, rng) for _ in range(400)]
    assert {z for z, _, _ in found} == {76, 77}
    assert [z for z, _, _ in found].count(76) == pytest.approx(200, abs=40)


def test_in_a_small_scan_random_patches_are_as_far_as_they_can_be_and_differ() -> None:
    lesion, rng = (30, 30, 20), np.random.default_rng(0)
    centres = [random_centre((80, 60, 40), lesion, rng) for _ in range(50)]
    assert {x for _, _, x in centres} == {20}  # an axis shorter than the patch
    assert min(max(abs(z - 30), abs(y - 30)) for z, y, _ in centres) == 20  # of at most 25
    assert len(set(centres)) > 20


def test_other_lesions_of_the_scan_can_be_the_random_patches(tmp_path: Path) -> None:
    image = scans.write_image(tmp_path / "a.nrrd", size=(60, 40, 30))
    places = [image.TransformIndexToPhysicalPoint(index) for index in ((15, 20, 15), (45, 20, 15))]
    scans.write_table(tmp_path / "t.csv", [scans.lesion("a.nrrd", place) for place in places])
    build_cache(PrepareSettings("cache", "CC0-1.0", tables=("t.csv",)), tmp_path)
    source = _source(tmp_path / "cache", randoms=Randoms.OTHER_LESIONS)
    batch = source.read_batch(np.array([0, 1]), 0)
    assert batch.randoms_hu is not None
    assert torch.equal(batch.randoms_hu, batch.lesions_hu.flip(0))


def test_only_lesions_of_the_split_are_learned_from(tmp_path: Path) -> None:
    settings = replace(scans.make_inputs(tmp_path, n_scans=5), val=0.4)
    build_cache(settings, tmp_path)
    train, val = (_source(tmp_path / "cache", split=split, batch_size=1) for split in ("train", "val"))
    patients = [{s.cache.lesions[row].patient for row in s.epoch_order(0)} for s in (train, val)]
    assert (len(patients[0]), len(patients[1])) == (3, 2)
    assert not patients[0] & patients[1]
    with pytest.raises(InputError, match="no lesion in split 'test'"):
        _source(tmp_path / "cache", split="test")
    with pytest.raises(InputError, match="no split 'training'"):
        _source(tmp_path / "cache", split="training")


def test_labelled_patches_carry_classes_and_patients(cache_folder: Path) -> None:
    source = _source(cache_folder, labelled_split="train")
    labelled = source.labelled()
    assert labelled is not None
    lesions = source.cache.lesions
    assert labelled.labels.tolist() == [int(lesion.label[-1]) for lesion in lesions]
    assert labelled.groups.tolist() == [int(lesion.patient[-1]) for lesion in lesions]
    crop = scans.scaled(source.cache.read_crop(4, 50))
    np.testing.assert_allclose(labelled.patches[4, 0], crop, atol=1e-6)
    assert _source(cache_folder).labelled() is None


def test_a_margin_beyond_the_cached_crops_is_refused(cache_folder: Path) -> None:
    with pytest.raises(ConfigError, match="the cache has 7"):
        _source(cache_folder, margin=8)


def test_a_run_trains_on_a_cache(cache_folder: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(
        run=str(tmp_path / "run"),
        data=DataSettings(Source.CACHE, str(cache_folder), batch_size=4, workers=1),
        views=ViewSettings(small_size=25),
        network=NetworkSettings(widen_factor=0.0625, projection=8),
        trainer=TrainerSettings(epochs=1, max_steps=2, threads=1, log_steps=1),
    )
    source, maker = open_data(settings, make_method(settings.network, MethodSettings()))
    assert isinstance(source, CacheSource)
    assert isinstance(maker, LesionViews)
    module = run(settings)
    assert all(bool(torch.isfinite(p).all()) for p in itertools.islice(module.method.parameters(), 5))
