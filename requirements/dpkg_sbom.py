"""Bill of materials (CycloneDX 1.6, JSON) of the Debian or Ubuntu packages below a root folder.

`python -m requirements.dpkg_sbom ROOT OUT.json`, for example on a mounted image; ROOT needs `var/lib/dpkg/status` (or
`status.d`, as images without dpkg have) and `etc/os-release`. Source packages, by which distributions name
vulnerabilities, are properties of each component. Licences are not listed: they stand in each package's
`usr/share/doc/*/copyright`, mostly as prose.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

INSTALLED = "installed"
"""Third word of a package's status, where its files are there (dpkg(1), package states)."""


def main() -> int:
    """Write the bill of a root folder."""
    parser = argparse.ArgumentParser(prog="requirements.dpkg_sbom", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="fmcib", help="of the image")
    options = parser.parse_args()
    bom = bill_of(options.root, options.name)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(to_json(bom), encoding="utf-8")
    sys.stdout.write(f"{options.out.name}: {len(bom.components)} packages\n")
    return 0


def bill_of(root: Path, name: str) -> Bom:
    """What is installed below a root folder.

    Raises:
        FileNotFoundError: It holds no dpkg status or no os-release.
        ValueError: No package is installed there, or one has no version.
    """
    system = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', (root / "etc/os-release").read_text(), flags=re.MULTILINE))
    bom = Bom()
    bom.metadata.component = Component(type=ComponentType.CONTAINER, name=name, bom_ref=name)
    for fields in _paragraphs(root / "var/lib/dpkg"):
        if fields.get("Status", INSTALLED).split()[-1] == INSTALLED:  # status.d knows no other
            bom.components.add(_component(fields, system))
    if not bom.components:
        msg = "no package is installed below this folder"
        raise ValueError(msg)
    bom.register_dependency(bom.metadata.component, bom.components)
    return bom


def to_json(bom: Bom) -> str:
    """The bill as text.

    Raises:
        ValueError: It is not what CycloneDX's strict schema allows.
    """
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(str(error))
    return text


def _component(fields: dict[str, str], system: dict[str, str]) -> Component:
    """One package; its purl is of type deb (package-url specification, PURL types)."""
    try:
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
    except KeyError as error:
        msg = f"package {fields.get('Package', '?')} has no {error.args[0]}"
        raise ValueError(msg) from error
    qualifiers = {"arch": architecture, "distro": f"{system['ID']}-{system.get('VERSION_ID', 'sid')}"}
    purl = PackageURL("deb", system["ID"], name, version, qualifiers)
    source = re.fullmatch(r"(\S+)(?: \((\S+)\))?", fields.get("Source", name))
    if source is None:
        msg = f"package {name} has the source {fields['Source']!r}"
        raise ValueError(msg)
    properties = {"dpkg:source": source[1], "dpkg:source-version": source[2] or version}
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=str(purl),
        purl=purl,
        description=fields.get("Description") or None,
        properties=[Property(name=key, value=value) for key, value in properties.items()],
    )


def _paragraphs(dpkg: Path) -> Iterator[dict[str, str]]:
    """Field -> first line of its value, of each package (deb822(5)); a continuation line starts with a blank."""
    folder = dpkg / "status.d"
    listed = [path for path in sorted(folder.glob("*")) if path.suffix != ".md5sums"] if folder.is_dir() else []
    files = listed or [dpkg / "status"]
    for path in files:
        for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            lines = [line for line in paragraph.splitlines() if line and not line[0].isspace()]
            if lines:
                yield {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


if __name__ == "__main__":
    sys.exit(main())
