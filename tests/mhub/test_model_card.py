"""meta.json and mhub.toml keep the rules that MHub publishes.

Source of the rules: github.com/MHubAI/models, .github/schemas/meta.schema.json and mhubtoml.schema.json, restated here.
"""

import datetime
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter, ValidationError, create_model

from fmcib_module import __version__
from fmcib_module.adapters.weights_registry import REGISTRY
from tests.mhub.chain import ROOT

META = ROOT / "mhub" / "meta.json"
TOML = ROOT / "mhub" / "mhub.toml"


def _all_of(name: str, /, **fields: Any) -> type[BaseModel]:
    """A mapping in which every field is required; MHub allows others beside them."""
    return create_model(name, **{key: (kind, ...) for key, kind in fields.items()})  # type: ignore[no-any-return, call-overload]


Reference = _all_of("Reference", label=str, uri=AnyUrl)
Table = _all_of("Table", label=str, entries=dict[str, str])


class Text(BaseModel):
    """A section of `info`."""

    title: str
    text: str
    references: list[Reference] = []  # type: ignore[valid-type]
    tables: list[Table] = []  # type: ignore[valid-type]


Input = _all_of(
    "Input",
    label=str,
    description=Annotated[str, Field(max_length=200)],
    format=str,
    modality=str,
    bodypartexamined=str,
    slicethickness=str,
    contrast=bool,
    **{"non-contrast": bool},
)
Output = _all_of("Output", type=Literal["Prediction"], valueType=str, label=str, description=str)
Model = _all_of(
    "Model",
    architecture=str,
    training=Literal["supervised", "semi-supervised", "unsupervised", "other"],
    cmpapproach=Literal["2D", "3D", "ensemble"],
)
Samples = _all_of("Samples", vol_samples=int)
Data = _all_of("Data", training=Samples, evaluation=Samples, public=bool, external=bool)
Summary = _all_of("Summary", description=str, inputs=list[Input], outputs=list[Output], model=Model, data=Data)  # type: ignore[valid-type]
Dates = _all_of("Dates", weights=datetime.date, code=datetime.date, pub=datetime.date)
Details = _all_of(
    "Details",
    name=str,
    version=Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")],
    devteam=str,
    type=str,
    date=Dates,
    cite=str,
    license=_all_of("License", code=str, weights=str),
    publications=list[_all_of("Publication", title=str, uri=AnyUrl)],  # type: ignore[misc]
    github=AnyUrl,
    zenodo=AnyUrl,
)
Info = _all_of("Info", use=Text, analyses=Text, evaluation=Text, training=Text, limitations=Text)
Meta = _all_of(
    "Meta",
    id=UUID,
    name=Annotated[str, Field(pattern=r"^[a-z0-9_]+$")],
    title=str,
    summary=Summary,
    details=Details,
    info=Info,
)


def _card() -> dict[str, Any]:
    return TypeAdapter(dict[str, Any]).validate_json(META.read_bytes())


def test_the_card_is_complete() -> None:
    Meta.model_validate(_card())


@pytest.mark.parametrize("part", ["id", "name", "title", "summary", "details", "info"])
def test_a_card_without_a_part_is_refused(part: str) -> None:
    card = _card()
    del card[part]
    with pytest.raises(ValidationError, match=part):
        Meta.model_validate(card)


def test_the_card_says_what_the_package_says() -> None:
    card = _card()
    published = next(entry for entry in REGISTRY if entry.name == "fmcib")
    assert card["details"]["version"] == __version__
    assert card["details"]["license"]["weights"].replace(" ", "-") == published.licence
    assert card["details"]["zenodo"].rpartition("/")[2] in published.url
    assert f"{published.n_features:,} features" in card["summary"]["description"]
    assert UUID(card["id"]).version == 4


def test_the_test_data_is_an_archive_on_zenodo() -> None:
    assert _deployment(TOML)["test"].startswith("https://zenodo.org/records/")


def _deployment(path: Path) -> dict[str, str]:
    deployment: dict[str, str] = tomllib.loads(path.read_text())["model"]["deployment"]
    return deployment
