"""report.html: complete, well-formed, harmless whatever the input's texts are, and true to the ledger."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fmcib_module.core.conventions import Flag, SeedKind
from fmcib_module.core.domain import FileProblem, RoiFailure
from fmcib_module.core.errors import OutputError, PixelDataError, SeedNotFoundError
from fmcib_module.core.ledger import Ledger, ProblemEntry, Reason, RoiEntry, SeriesEntry, Stage, Status
from fmcib_module.report import write_report
from fmcib_module.report.contents import gather_attention
from fmcib_module.report.texts import FLAG_MEANINGS, RESEARCH_ONLY
from fmcib_module.report.thumbnails import SIZES, embed_pictures
from tests.report.builders import N_FEATURES, png, seeds_of, write_output

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&<!--\u2028"


class Page(HTMLParser):
    """Checks that elements nest, and gathers texts, attributes and scripts."""

    VOID = frozenset({"meta", "input", "img", "br", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack[-1:] == ["script"]:
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.stack[-1:] != ["style"]:
            self.text += data

    @property
    def data(self):
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == "data")

    @property
    def pictures(self) -> list[str]:
        blocks = [text for attributes, text in self.scripts if attributes.get("class") == "pictures"]
        return [uri for block in blocks for uri in block.split("\n")]


def page_of(folder) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def failure(label="Lost", what="it holds no contours") -> RoiEntry:
    error = SeedNotFoundError(what, "ROI", "draw it again")
    return RoiEntry.failed(RoiFailure(label, 7, "1.2.9", SeedKind.RTSTRUCT, error), Stage.FIND)


def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere(tmp_path):
    write_output(tmp_path, seeds_of(7))
    page = page_of(tmp_path)
    assert len(page.ids) == len(set(page.ids))
    loading = {(tag, name) for tag, name, _ in page.attributes if name in {"src", "srcset", "data", "poster"}}
    assert loading == set()
    assert all(value.startswith("#") for tag, name, value in page.attributes if name == "href")
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in (value or ""))
    assert policy.startswith("default-src 'none'; img-src data:;")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:url\(|@import|fetch\(|XMLHttpRequest)", html)


def test_every_lesion_is_there_with_its_picture_and_numbers(tmp_path):
    write_output(tmp_path, seeds_of(60), per_series=7)
    page = page_of(tmp_path)
    assert [x["roi"] for x in page.data["lesions"]] == [f"GTV-{n}" for n in range(60)]
    assert page.data["lesions"][8]["lps"] == [8.0, -16.0, 7.0]
    assert page.data["lesions"][8]["series"] == 1
    assert len(page.pictures) == 60
    for n in (0, 49, 50, 59):
        image = Image.open(io.BytesIO(base64.b64decode(page.pictures[n].partition(",")[2])))
        assert np.asarray(image.convert("L")).mean() == pytest.approx(40 + n, abs=2)
    assert page.data["lesions"][0]["picture"] == "1.2.3.0/qc/001-GTV-0.png"


def test_neighbours_and_map_come_from_the_table(tmp_path):
    write_output(tmp_path, seeds_of(12))
    page = page_of(tmp_path)
    for n, lesion in enumerate(page.data["lesions"]):
        assert len(lesion["xy"]) == 2
        assert [place for place, _ in lesion["near"]] != [n]
        cosines = [cosine for _, cosine in lesion["near"]]
        assert cosines == sorted(cosines, reverse=True)
    assert "Principal component analysis of the 32 features" in page.text


def test_no_text_of_the_input_can_become_markup(tmp_path):
    seeds = seeds_of(4, labels=lambda n: HOSTILE + str(n))
    problem = ProblemEntry.of(FileProblem(HOSTILE, "", PixelDataError(HOSTILE, HOSTILE, HOSTILE)))
    write_output(tmp_path, seeds, failed=[failure(HOSTILE, HOSTILE)], problems=[problem])
    page = page_of(tmp_path)
    assert [x["roi"] for x in page.data["lesions"]] == [HOSTILE + str(n) for n in range(4)]
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    executable = [text for attributes, text in page.scripts if attributes.get("type") is None]
    assert len(executable) == 1
    assert "alert" not in executable[0]
    assert HOSTILE.replace("\u2028", "") in page.text.replace("\u2028", "")


def test_failures_stand_on_top_with_what_to_do(tmp_path):
    problem = ProblemEntry.of(FileProblem("a/b.dcm", "", PixelDataError("cut short", "b.dcm", "copy it again")))
    failed = [failure(f"R{n}") for n in range(3)]
    write_output(tmp_path, seeds_of(2), failed=failed, problems=[problem])
    text = page_of(tmp_path).text
    assert text.index("it holds no contours") < text.index("cut short") < text.index("Map of the features")
    assert "draw it again" in text
    assert "3 places" in text
    assert "file a/b.dcm" in text
    assert "Every requested lesion has features" not in text


def test_a_series_whose_objects_could_not_be_written_says_so_beside_its_failed_rois():
    reason = Reason.of(OutputError("the SR cannot be made", "1.2.3", "free disk space"))
    entry = SeriesEntry("1.2.3", "1.2", "CT", Status.FAILED, Stage.WRITE, reason, rois=(failure(),))
    assert {item.what for item in gather_attention(Ledger({}, (entry,)))} == {
        "the SR cannot be made",
        "it holds no contours",
    }


def test_equal_labels_of_several_sources_count_one_by_one():
    rois = tuple(replace(failure(), source_uid=f"1.2.9.{n}") for n in range(4))
    entry = SeriesEntry("1.2.3", "1.2", "CT", Status.FAILED, Stage.FIND, Reason("x", "none of 4", "", ""), rois=rois)
    [item] = gather_attention(Ledger({}, (entry,)))
    assert len(item.places) == 4


def test_a_run_without_a_lesion_has_a_page_too(tmp_path):
    write_output(tmp_path, [])
    page = page_of(tmp_path)
    assert page.data["lesions"] == []
    assert "There is no lesion to show" in page.text
    assert RESEARCH_ONLY in page.text


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_lesions_have_no_map_that_says_nothing(tmp_path, n):
    write_output(tmp_path, seeds_of(n))
    assert ("points" in page_of(tmp_path).ids) == (n == 3)


@pytest.mark.parametrize("n", [29, 30])
def test_from_30_lesions_on_there_is_a_map_by_tsne_too(tmp_path, n):
    write_output(tmp_path, seeds_of(n), pictures=False)
    page = page_of(tmp_path)
    choices = [value for tag, name, value in page.attributes if tag == "input" and name == "value"]
    assert choices == (["xy", "tsne"] if n == 30 else [])
    assert all(("tsne" in lesion) == (n == 30) for lesion in page.data["lesions"])
    assert ("From 30 lesions on there is a map by t-SNE too" in page.text) == (n == 29)


def test_more_lesions_than_tsne_takes_have_pca_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("fmcib_module.report.contents.TSNE_UP_TO", 30)
    monkeypatch.setattr("fmcib_module.report.writer.TSNE_UP_TO", 30)
    write_output(tmp_path, seeds_of(31), pictures=False)
    page = page_of(tmp_path)
    assert all("xy" in lesion and "tsne" not in lesion for lesion in page.data["lesions"])
    assert "A map by t-SNE is drawn for 30 lesions at the most" in page.text


def test_lesions_with_equal_features_have_no_map_by_tsne(tmp_path):
    write_output(tmp_path, seeds_of(30), pictures=False, features=lambda _, __: np.ones(8, dtype=np.float32))
    assert "tsne" not in page_of(tmp_path).data["lesions"][0]


def test_planted_groups_lie_apart_on_the_map_by_tsne(tmp_path):
    def planted(place, noise):
        return (noise + 4 * np.eye(N_FEATURES)[place % 4]).astype(np.float32)

    write_output(tmp_path, seeds_of(60), pictures=False, features=planted)
    places = np.array([lesion["tsne"] for lesion in page_of(tmp_path).data["lesions"]])
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    same = distances.argmin(axis=1) % 4 == np.arange(60) % 4
    assert same.mean() > 0.9


def test_the_page_names_weights_note_mode_and_research_use(tmp_path):
    write_output(tmp_path, seeds_of(1))
    text = page_of(tmp_path).text
    for words in ("not the published model", "published", "ab" * 32, RESEARCH_ONLY, "All 1 series"):
        assert words in text


def test_an_interrupted_run_says_so_and_needs_no_table(tmp_path):
    write_output(tmp_path, seeds_of(4), complete=False)
    (tmp_path / "features.parquet").unlink()
    page = page_of(tmp_path)
    assert "interrupted" in page.text
    assert "no map" in page.text
    assert "near" not in page.data["lesions"][0]


def test_a_table_of_other_lesions_is_not_shown_as_theirs(tmp_path):
    write_output(tmp_path / "other", seeds_of(4, labels=lambda n: f"other {n}"))
    write_output(tmp_path / "out", seeds_of(4))
    (tmp_path / "other" / "features.parquet").replace(tmp_path / "out" / "features.parquet")
    assert "xy" not in page_of(tmp_path / "out").data["lesions"][0]


def test_pictures_that_are_gone_or_no_pictures_are_left_out(tmp_path):
    write_output(tmp_path, seeds_of(3))
    (tmp_path / "1.2.3.0" / "qc" / "001-GTV-0.png").unlink()
    (tmp_path / "1.2.3.0" / "qc" / "002-GTV-1.png").write_bytes(b"not a picture")
    assert [bool(uri) for uri in page_of(tmp_path).pictures] == [False, False, True]


def test_a_ledger_cannot_point_the_report_at_other_files(tmp_path):
    write_output(tmp_path, seeds_of(1))
    (tmp_path / "secret.png").write_bytes(png(3))
    path = tmp_path / "run_status.json"
    path.write_text(path.read_text().replace('"picture": "qc/001-GTV-0.png"', '"picture": "../secret.png"'))
    page = page_of(tmp_path)
    assert page.pictures == [""]
    assert page.data["lesions"][0]["picture"] == ""


@pytest.mark.parametrize("n", [size.most for size in SIZES])
def test_thousands_of_noisy_pictures_stay_under_50_mb(tmp_path, n):
    noise = np.random.default_rng(0).normal(120, 40, (70, 244)).clip(0, 239).astype(np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).resize((978, 282), Image.Resampling.BICUBIC).save(path)  # grain as CT shows it
    uris = embed_pictures([path, *[None] * (n - 1)])
    assert n * (len(next(uris)) + 700) < 50e6


def test_beyond_that_the_page_links_to_the_files():
    assert set(embed_pictures([None] * (SIZES[-1].most + 1))) == {""}


def test_every_flag_has_a_meaning():
    assert set(FLAG_MEANINGS) == set(Flag)


def test_a_folder_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"no run_status.json.*give the OUTPUT folder"):
        write_report(tmp_path)
