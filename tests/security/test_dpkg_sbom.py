"""The bill of an image's Debian part names what dpkg says is installed, in valid CycloneDX."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from requirements.dpkg_sbom import bill_of, to_json

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u10
Description: GNU C Library: Shared libraries
 Contains the standard libraries.
 .
 Package: not-a-package
 Version: 9

Package: libstdc++6
Status: install ok installed
Architecture: amd64
Source: gcc-12 (12.2.0-14+deb12u1)
Version: 1:12.2.0-14

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 1.0
"""
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {"var/lib/dpkg/status": STATUS, "etc/os-release": OS_RELEASE}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_is_installed_is_listed_with_its_source_and_what_is_not_is_not(root: Path) -> None:
    text = to_json(bill_of(root, "image"))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["type"]) == (
        "CycloneDX",
        "1.6",
        "container",
    )
    first, second = sorted(bill["components"], key=lambda component: component["name"])
    assert len(bill["components"]) == 2
    assert (first["name"], first["version"]) == ("libc6", "2.36-9+deb12u10")
    assert PackageURL.from_string(second["purl"]) == PackageURL(
        "deb", "debian", "libstdc++6", "1:12.2.0-14", {"arch": "amd64", "distro": "debian-12"}
    )
    sources = [{entry["name"]: entry["value"] for entry in component["properties"]} for component in (first, second)]
    assert sources == [
        {"dpkg:source": "glibc", "dpkg:source-version": "2.36-9+deb12u10"},
        {"dpkg:source": "gcc-12", "dpkg:source-version": "12.2.0-14+deb12u1"},
    ]


def test_packages_of_an_image_without_dpkg_are_listed(root: Path) -> None:
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir()
    (folder / "tzdata").write_text("Package: tzdata\nVersion: 2025b\nArchitecture: all\n")
    (folder / "tzdata.md5sums").write_text("0123  usr/share/zoneinfo/UTC\n")
    assert [component.name for component in bill_of(root, "image").components] == ["tzdata"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("", "no package is installed"),
        (STATUS.replace("Version: 2.36-9+deb12u10\n", ""), "libc6 has no Version"),
        (STATUS.replace("Source: glibc", "Source: a b c"), "libc6 has the source 'a b c'"),
    ],
)
def test_a_status_that_says_too_little_is_refused(root: Path, status: str, message: str) -> None:
    (root / "var/lib/dpkg/status").write_text(status)
    with pytest.raises(ValueError, match=message):
        bill_of(root, "image")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="this machine has no dpkg")
def test_dpkg_itself_lists_the_same_on_this_machine() -> None:
    command = [
        "dpkg-query",
        "-W",
        "-f",
        "${db:Status-Status}\t${Package}\t${Version}\t${source:Package}\t${source:Version}\n",
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = {tuple(line.split("\t")[1:]) for line in lines if line.startswith("installed\t")}
    found = set()
    for component in bill_of(Path("/"), "machine").components:
        sources = {entry.name: entry.value for entry in component.properties}
        found.add((component.name, component.version, sources["dpkg:source"], sources["dpkg:source-version"]))
    assert found == expected
