"""Names of files that come from the input's texts."""

import pytest

from fmcib_module.core.naming import is_safe_file, is_safe_name, picture_name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("GTV-1", "qc/001-GTV-1.png"),
        ("Node 4R", "qc/001-Node_4R.png"),
        ("../../etc", "qc/001-etc.png"),
        ("<script>alert(1)</script>", "qc/001-script_alert_1_script.png"),
        ("", "qc/001.png"),
        ("腫瘍", "qc/001.png"),
        ("a" * 300, f"qc/001-{'a' * 48}.png"),
    ],
)
def test_a_picture_is_named_by_its_lesion_and_never_leaves_its_folder(label, name):
    assert picture_name(0, label) == name
    assert is_safe_file(name)


@pytest.mark.parametrize("name", ["qc/../x", "qc/", "qc/qc/x.png", "other/x.png", "../x", "qc//x", ".x", "qc/.x"])
def test_no_other_folder_is_a_place_for_files(name):
    assert not is_safe_file(name)


def test_one_lesion_more_than_999_still_has_a_name():
    assert is_safe_name(picture_name(1000, "x").removeprefix("qc/"))
