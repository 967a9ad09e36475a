"""Contents -> report.html (jinja2): the template, its style and its scripts lie in `page/`."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fmcib_module import __version__
from fmcib_module.adapters.atomic import replacing
from fmcib_module.adapters.weights_registry import REGISTRY
from fmcib_module.core.ledger import RoiEntry, SeriesEntry, Status
from fmcib_module.core.naming import REPORT_NAME
from fmcib_module.report.comparison import summarise_drift
from fmcib_module.report.contents import (
    MAP_FROM,
    TSNE_COMPONENTS,
    TSNE_FROM,
    TSNE_UP_TO,
    Contents,
    FeatureMap,
    picture_path,
    read_contents,
)
from fmcib_module.report.texts import RESEARCH_ONLY, flag_meaning, flag_title
from fmcib_module.report.thumbnails import embed_pictures

SCRIPTS: Final = ("base.js", "table.js", "dialog.js", "map.js")
"""In the order in which they are needed."""

RUN_FACTS: Final = (
    "weights",
    "weights_note",
    "weights_sha256",
    "mode",
    "heads",
    "version",
    "versions",
    "encoder",
    "settings",
    "settings_sha256",
    "started",
    "finished",
)
"""What the page says about the run; a run without patches has no encoder, an interrupted one is not finished."""

PICTURES_PER_BLOCK: Final = 50
"""The page decodes a block of pictures when one of them comes into view."""


def write_report(output: str | Path) -> Path:
    """Write OUTPUT/report.html from what a run left there.

    Args:
        output: OUTPUT of a run.

    Returns:
        The report's path.

    Raises:
        OutputError: There is no ledger, something cannot be read, or the page cannot be written.
    """
    output = Path(output)
    contents = read_contents(output)
    page = _environment().get_template("report.html.j2")
    path = output / REPORT_NAME
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(page.generate(**_variables(contents, output)))
    return path


def _environment() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined  # only where a report is written

    folder = files("fmcib_module.report") / "page"
    source = (folder / "report.html.j2").read_text(encoding="utf-8")
    loader = DictLoader({"report.html.j2": source})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"flag_title": flag_title, "flag_meaning": flag_meaning}
    return environment


def _variables(contents: Contents, output: Path) -> dict[str, Any]:
    from markupsafe import Markup

    ledger, folder = contents.ledger, files("fmcib_module.report") / "page"
    flags = sorted({flag for _, roi in contents.lesions for flag in roi.flags})
    return {
        "run": dict.fromkeys(RUN_FACTS, "") | ledger.run,
        "ledger": ledger,
        "counts": ledger.counts(),
        "attention": contents.attention,
        "lesions": contents.lesions,
        "features": contents.features,
        "stability": contents.stability,
        "drift": summarise_drift(contents.lesions),
        "has_map": contents.features is not None and len(contents.lesions) >= MAP_FROM,
        "tsne_from": TSNE_FROM,
        "tsne_up_to": TSNE_UP_TO,
        "tsne_components": TSNE_COMPONENTS,
        "flags": {flag: sum(flag in roi.flags for _, roi in contents.lesions) for flag in flags},
        "weights": next((entry for entry in REGISTRY if entry.name == ledger.run.get("weights")), None),
        "research_only": RESEARCH_ONLY,
        "version": __version__,
        "style": Markup((folder / "report.css").read_text(encoding="utf-8")),
        "script": Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        "data": Markup(script_json(page_data(contents))),
        "picture_blocks": (Markup(block) for block in _picture_blocks(contents, output)),
    }


def page_data(contents: Contents) -> dict[str, Any]:
    """What the page's scripts work on, as plain values; short keys, since there are thousands of lesions."""
    places = {id(entry): n for n, entry in enumerate(contents.ledger.series)}
    return {
        "lesions": [
            _lesion(n, entry, roi, places[id(entry)], contents.features)
            for n, (entry, roi) in enumerate(contents.lesions)
        ],
        "series": [entry.series_uid for entry in contents.ledger.series],
        "heads": contents.ledger.run.get("heads", []),
        "flags": {
            flag: [flag_title(flag), flag_meaning(flag)]
            for flag in {f for _, roi in contents.lesions for f in roi.flags}
        },
        "picturesPerBlock": PICTURES_PER_BLOCK,
    }


def script_json(value: Any) -> str:
    """JSON that can stand inside <script>: no text of the input can end it or start a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _lesion(n: int, entry: SeriesEntry, roi: RoiEntry, series: int, features: FeatureMap | None) -> dict[str, Any]:
    lesion: dict[str, Any] = {
        "roi": roi.label,
        "number": roi.roi_number,
        "kind": roi.kind,
        "flagged": roi.status is Status.FLAGGED,
        "flags": list(roi.flags),
        "lps": [round(v, 1) for v in roi.lps_mm or ()],
        "size": None if roi.extent_mm is None else [round(v, 1) for v in roi.extent_mm],
        "ml": None if roi.volume_mm3 is None else round(roi.volume_mm3 / 1000, 3),
        "series": series,
        "source": roi.source_uid,
        "picture": picture_path(entry, roi),
        "patient": entry.patient,
    }
    if roi.stability is not None and roi.stability.cosine_mean is not None:
        found = roi.stability
        lesion["stable"] = [found.cosine_mean, found.cosine_min, found.n_seeds - found.n_lost, found.n_seeds]
    if roi.drift:
        lesion["drift"] = [[d.mode.value, d.other.value, d.cosine, d.relative_l2] for d in roi.drift]
    if roi.scores:
        lesion["scores"] = roi.scores
    if features is not None:
        lesion["xy"] = _rounded(features.scores[n])
        if features.tsne is not None:
            lesion["tsne"] = _rounded(features.tsne[n])
        near = zip(features.neighbours[n], features.cosines[n], strict=True)
        lesion["near"] = [[int(place), round(float(cosine), 4)] for place, cosine in near]
    return lesion


def _rounded(place: NDArray[np.float64]) -> list[float]:
    return [float(f"{v:.5g}") for v in place]


def _picture_blocks(contents: Contents, output: Path) -> Iterator[str]:
    """Data URIs, one per line and lesion, in blocks that the page reads when they are needed."""
    names = [picture_path(entry, roi) for entry, roi in contents.lesions]
    block: list[str] = []
    for uri in embed_pictures([output / name if name else None for name in names]):
        block.append(uri)
        if len(block) == PICTURES_PER_BLOCK:
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)
