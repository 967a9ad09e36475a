"""Whole steps on two ranks under DDP: the loss and every gradient are those of one process with the whole batch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.training.ranks import on_two_ranks
from training.batches import Views
from training.methods import Progress, make_method
from training.settings import DataSettings, MethodName, MethodSettings, NetworkSettings
from training.synced_norm import with_synced_norms
from training.synthetic import SyntheticSource, SyntheticViews

TINY = NetworkSettings(widen_factor=0.0625, projection=16)
EDGE = 24
START = Progress(epoch=0, step=0)


def _views(n: int, n_small_crops: int) -> Views:
    source = SyntheticSource(DataSettings(batch_size=n, n_lesions=n, edge=EDGE), seed=0)
    batch = next(source.batches(epoch=0, first=0, rank=0, world_size=1))
    views = SyntheticViews(n_small_crops)(batch, torch.Generator().manual_seed(0))
    lesions, negatives = (tuple(view.double() for view in group) for group in (views.lesions, views.negatives))
    return Views(lesions, negatives, views.lesion_rows)


def _share(views: Views, rank: int) -> Views:
    """One rank's half of a batch."""
    lesions, negatives = (tuple(view.chunk(2)[rank] for view in group) for group in (views.lesions, views.negatives))
    return Views(lesions, negatives, views.lesion_rows.chunk(2)[rank])


def _gradients(name: str, views: Views, rank: int | None) -> dict[str, Tensor]:
    """Of one step in float64: on one rank of two under DDP, norms synced, or (None) with the whole batch."""
    torch.manual_seed(0)
    method = with_synced_norms(
        make_method(TINY, MethodSettings(MethodName(name), n_prototypes=12, queue_length=0)).double()
    )
    model = method if rank is None else DistributedDataParallel(method)
    loss = model(views if rank is None else _share(views, rank), START).loss
    loss.backward()
    gradients = {key: p.grad for key, p in method.named_parameters() if p.grad is not None}
    gradients |= {key: buffer for key, buffer in method.named_buffers() if key.endswith("running_var")}
    return {"loss": loss.detach(), **gradients}


def _rank_gradients(rank: int, names: list[str], views: list[tuple[Tensor, ...]]) -> dict[str, dict[str, Tensor]]:
    lesions, negatives, (rows,) = views
    return {name: _gradients(name, Views(lesions, negatives, rows), rank) for name in names}


@pytest.mark.slow
def test_two_ranks_step_as_one_process_does_with_the_whole_batch(tmp_path: Path) -> None:
    views = _views(n=4, n_small_crops=6)
    names = [MethodName.MODIFIED_SIMCLR.value, MethodName.SIMCLR.value, MethodName.SWAV.value]
    ranks = on_two_ranks(_rank_gradients, tmp_path, names, [views.lesions, views.negatives, (views.lesion_rows,)])
    for name in names:
        whole = _gradients(name, views, None)
        first, second = ranks[0][name], ranks[1][name]
        torch.testing.assert_close((first.pop("loss") + second.pop("loss")) / 2, whole.pop("loss"))
        assert first.keys() == second.keys() == whole.keys()
        for key, expected in whole.items():
            assert torch.equal(first[key], second[key])
            torch.testing.assert_close(first[key], expected, rtol=1e-6, atol=1e-9)
