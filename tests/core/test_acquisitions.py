"""Which slices of one series are separate acquisitions, and which belong together."""

import pytest

from fmcib_module.core.acquisitions import LabelledSlice, split_acquisitions
from fmcib_module.core.errors import NotOneVolumeError
from fmcib_module.core.stacking import stack_slices
from tests.core.test_stacking import a_slice


def labelled(slices, name="AcquisitionNumber"):
    return [LabelledSlice(s, ((name, str(s.acquisition_number)),)) for s in slices]


def numbered(distances, acquisition, start, **fields):
    return [a_slice((0, 0, d), start + n, acquisition=acquisition, **fields) for n, d in enumerate(distances)]


def test_phases_at_the_same_positions_are_split_by_acquisition_number():
    first, second = numbered([0, 2, 4], 1, 1), numbered([0, 2, 4], 2, 4)
    parts = split_acquisitions(labelled([*second, *first]))
    assert [[s.acquisition_number for s in part] for part in parts] == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize("step", [(1, 4), (2, 1)], ids=["one after the other", "alternating"])
def test_phases_without_any_label_are_split_by_the_order_of_instance_numbers(step):
    between, offset = step
    slices = [a_slice((0, 0, 2 * n), 1 + n * between + phase * offset) for n in range(4) for phase in range(2)]
    parts = split_acquisitions(labelled(slices))
    assert [[s.position_mm[2] for s in part] for part in parts] == [[0, 2, 4, 6], [0, 2, 4, 6]]
    assert {s.instance_number for s in parts[0]} == {1 + n * between for n in range(4)}


def test_one_volume_whose_acquisition_number_counts_up_is_not_split():
    slices = [*numbered([0, 2, 4], 1, 1), *numbered([6, 8, 10], 2, 4)]
    assert [len(part) for part in split_acquisitions(labelled(slices))] == [6]


def test_a_missing_slice_between_two_acquisition_numbers_is_not_hidden_by_a_split():
    slices = [*numbered([0, 2, 4], 1, 1), *numbered([8, 10, 12], 2, 4)]
    assert [len(part) for part in split_acquisitions(labelled(slices))] == [6]


def test_a_thick_and_a_thin_range_in_one_series_are_two_volumes():
    slices = [*numbered([0, 5, 10], 1, 1), *numbered([11, 12, 13, 14], 2, 4)]
    assert [len(part) for part in split_acquisitions(labelled(slices))] == [3, 4]


def test_a_phase_that_misses_a_slice_does_not_keep_the_others_from_being_split():
    slices = [*numbered([0, 2, 4, 6, 8], 1, 1), *numbered([0, 2, 6, 8], 2, 6)]
    assert [len(part) for part in split_acquisitions(labelled(slices))] == [5, 4]


def test_stacks_of_different_size_in_one_series_are_split():
    slices = [*numbered([0, 2, 4], None, 1), *numbered([0, 2, 4], None, 4, shape=(4, 4))]
    assert [part[0].shape for part in split_acquisitions(labelled(slices))] == [(6, 5), (4, 4)]


def test_slices_that_nothing_separates_stay_together_to_be_refused():
    slices = [a_slice((0, 0, 2 * n), 1, uid=f"1.2.{n}.{copy}") for n in range(3) for copy in range(2)]
    parts = split_acquisitions(labelled(slices))
    assert [len(part) for part in parts] == [6]
    with pytest.raises(NotOneVolumeError, match="two slices lie at one position"):
        stack_slices(parts[0], "1.2")


def test_a_gap_in_two_interleaved_acquisitions_is_not_hidden_by_a_split():
    slices = [*numbered([0, 4, 8, 12], 1, 1), *numbered([2, 6, 14], 2, 5)]
    assert [len(part) for part in split_acquisitions(labelled(slices))] == [7]


def test_interleaved_acquisitions_that_are_not_one_volume_together_are_split():
    slices = [*numbered([0, 4, 8, 12], 1, 1), *numbered([1, 5, 9, 13], 2, 5)]
    assert [len(part) for part in split_acquisitions(labelled(slices))] == [4, 4]
