"""Our safetensors files and the library's are the same format."""

import numpy as np
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fmcib_module.adapters.tensor_file import read_header, read_metadata, write_tensors
from tests.adapters.small_weights import small_tensors


def test_the_safetensors_library_reads_what_we_write(tmp_path):
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array(7),
        "c": np.zeros((0, 2), dtype=np.float32),
        "half": np.arange(3, dtype=np.float16),
    }
    write_tensors(tmp_path / "x.safetensors", arrays, {"note": "n", "a": "b"})
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array)
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"a": "b", "note": "n"}


def test_we_read_what_the_safetensors_library_writes(tmp_path):
    save_file(small_tensors(), tmp_path / "x.safetensors", {"note": "n"})
    assert read_metadata(tmp_path / "x.safetensors") == {"note": "n"}
    assert read_header(tmp_path / "x.safetensors")["conv1.weight"]["shape"] == [16, 1, 7, 7, 7]


def test_equal_tensors_give_equal_bytes_whatever_their_order(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32), "a": np.array(7)}
    write_tensors(tmp_path / "x.safetensors", arrays, {"note": "n", "a": "b"})
    write_tensors(tmp_path / "y.safetensors", dict(reversed(arrays.items())), {"a": "b", "note": "n"})
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()
