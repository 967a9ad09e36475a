"""report.html in headless Chromium: sort, filter, enlarge, dark, narrow and on paper."""

import re
from pathlib import Path

import pytest
from PIL import Image

from fmcib_module.report import write_report
from tests.report.browser import PRESS, SETTLE, chromium, hooked, needs_chromium, see
from tests.report.builders import N_LESIONS, seeds_of, write_output

pytestmark = [pytest.mark.slow, needs_chromium]

ROWS = "[...document.querySelectorAll('#table tbody tr')].map((row) => Number(row.dataset.place))"


def test_rows_are_made_as_they_are_needed(report, tmp_path):
    seen = see(
        report, tmp_path, f"const first = {ROWS}; showMore(); return [first, {ROWS}, byId('count').textContent];"
    )
    assert seen[0] == list(range(40))
    assert seen[1] == list(range(80))
    assert seen[2] == f"{N_LESIONS} lesions"


def test_a_tall_window_is_filled_with_rows(report, tmp_path):
    dom = chromium(tmp_path, SETTLE, "--window-size=1500,9000", "--dump-dom", report.as_uri())
    assert dom.count("<tr data-place=") == N_LESIONS
    dom = chromium(tmp_path, SETTLE, "--window-size=1500,300", "--dump-dom", report.as_uri())
    assert dom.count("<tr data-place=") < N_LESIONS


def test_headings_sort_both_ways_by_number_and_by_name(report, tmp_path):
    script = f"""
        const headings = [...document.querySelectorAll('#table th')];
        const heading = (title) => headings.find((th) => th.textContent.startsWith(title));
        const click = (title) => {{
          heading(title).firstChild.click();
          return [{ROWS}[0], heading(title).getAttribute('aria-sort')];
        }};
        const clicks = ['Volume', 'Volume', 'ROI', 'ROI'].map(click);
        return [...clicks, heading('Volume').hasAttribute('aria-sort')];"""
    seen = see(report, tmp_path, script)
    assert seen == [
        [N_LESIONS - 1, "ascending"],
        [0, "descending"],
        [0, "ascending"],
        [N_LESIONS - 1, "descending"],
        False,
    ]


def test_filters_combine_and_are_counted_and_cleared(report, tmp_path):
    script = f"""
        const choose = ([id, value]) => {{
          byId(id).value = value;
          byId(id).dispatchEvent(new Event('input'));
          return [{ROWS}, byId('count').textContent];
        }};
        const choices = [['flag', 'near_border'], ['kind', 'SEG'], ['search', 'gtv-3'], ['search', 'nothing']];
        const seen = choices.map(choose);
        byId('clear').click();
        return [...seen, [{ROWS}.length, byId('count').textContent]];"""
    flagged, seg, searched, nothing, cleared = see(report, tmp_path, script)
    assert flagged == [list(range(0, N_LESIONS, 3)), f"30 of {N_LESIONS} lesions"]
    assert seg == [list(range(3, N_LESIONS, 6)), f"15 of {N_LESIONS} lesions"]
    assert searched[0] == [3, 33, 39]
    assert nothing == [[], f"0 of {N_LESIONS} lesions"]
    assert cleared == [40, f"{N_LESIONS} lesions"]


def test_a_flag_in_the_summary_shows_its_lesions(report, tmp_path):
    seen = see(report, tmp_path, f"document.querySelector('[data-flag=near_border]').click(); return {ROWS};")
    assert seen == list(range(0, N_LESIONS, 3))


def test_a_picture_enlarges_and_arrow_keys_go_on(report, tmp_path):
    script = f"""{PRESS}
        const shown = () => [byId('viewer').open, byId('viewer-title').textContent];
        document.querySelector('#table .thumb').click();
        const seen = [shown()];
        press(byId('viewer'), 'ArrowRight'); seen.push(shown());
        press(byId('viewer'), 'ArrowLeft'); press(byId('viewer'), 'ArrowLeft'); seen.push(shown());
        seen.push(byId('viewer').querySelectorAll('.near button').length);
        seen.push(byId('viewer').querySelector('.picture img').src.startsWith('data:image/webp'));
        seen.push(byId('viewer').querySelector('a').getAttribute('href'));
        byId('viewer').querySelector('.near button').click(); seen.push(byId('viewer').open);
        byId('close').click(); seen.push(byId('viewer').open);
        return seen;"""
    seen = see(report, tmp_path, script)
    assert seen[:3] == [[True, "1. GTV-0"], [True, "2. GTV-1"], [True, f"{N_LESIONS}. GTV-{N_LESIONS - 1}"]]
    assert seen[3:] == [5, True, "1.2.3.17/qc/005-GTV-89.png", True, False]


def test_lesions_of_a_patient_are_found_sorted_and_coloured_by_pseudonym(report, tmp_path):
    script = f"""
        const column = COLUMNS.find((one) => one.title === 'Patient'); sortBy(column); sortBy(column);
        const last = {ROWS}.slice(0, 3);
        byId('search').value = LESIONS[13].patient; refresh();
        byId('colour').value = 'patient'; byId('colour').dispatchEvent(new Event('input'));
        document.querySelector('#table .thumb').click();
        const told = byId('viewer-body').textContent.includes(LESIONS[13].patient);
        return [last, {ROWS}.sort(), byId('legend').childElementCount, told];"""
    last, found, colours, told = see(report, tmp_path, script)
    assert last == [80, 81, 82]
    assert found == list(range(10, 20))
    assert colours == 8, "seven patients, and the others"
    assert told


def brightness(path: Path) -> float:
    with Image.open(path) as image:
        pixels = image.convert("L").resize((1, 1), Image.Resampling.BOX)
        return float(pixels.tobytes()[0])


def test_light_and_dark_follow_the_button(report, tmp_path):
    shots = {}
    for theme in ("light", "dark"):
        shots[theme] = tmp_path / f"{theme}.png"
        page = hooked(report, tmp_path, f"setTheme('{theme}');")
        chromium(tmp_path, SETTLE, "--window-size=1500,1100", f"--screenshot={shots[theme]}", page)
    assert brightness(shots["light"]) > 170
    assert brightness(shots["dark"]) < 70


@pytest.mark.parametrize("width", [500, 900, 1500])
def test_no_window_scrolls_sideways(report, tmp_path, width):
    script = "return [document.documentElement.scrollWidth, window.innerWidth];"
    needed, there = see(report, tmp_path, script, f"--window-size={width},1000")
    assert needed <= there


def test_all_controls_have_a_name_and_contrast_is_enough(report, tmp_path):
    script = """
        const named = (x) => (x.textContent || x.getAttribute('aria-label') || x.labels?.[0]?.textContent || '').trim();
        const controls = [...document.querySelectorAll('button, select, input')];
        const unnamed = controls.filter((x) => !named(x)).map((x) => x.id);
        const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const light = (colour) => {
          const [r, g, b] = colour.match(/[0-9.]+/g).map((v) => linear(v / 255));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = (x) => {
          const colour = getComputedStyle(x).backgroundColor;
          return colour === 'rgba(0, 0, 0, 0)' && x.parentElement ? ground(x.parentElement) : colour;
        };
        const contrast = (x) => {
          const pair = [light(getComputedStyle(x).color), light(ground(x))];
          return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        };
        const kinds = 'h1, h2, p, td, th, dt, dd, caption, label, .badge, .link, .small, button';
        const texts = [...document.querySelectorAll(kinds)].filter((x) => x.textContent.trim());
        const worst = {};
        for (const theme of ['light', 'dark']) {
          setTheme(theme);
          worst[theme] = Math.min(...texts.map(contrast));
        }
        return [unnamed, worst];"""
    unnamed, worst = see(report, tmp_path, script)
    assert unnamed == []
    assert min(worst.values()) >= 4.5, "WCAG 2.2, 1.4.3"


def test_paper_gets_every_row_and_no_controls(report, tmp_path):
    script = f"""
        window.dispatchEvent(new Event('beforeprint'));
        return {ROWS}.length;"""
    assert see(report, tmp_path, script) == N_LESIONS
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path, SETTLE, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", report.as_uri())
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    assert 3 <= pages <= 15


def test_5000_lesions_open_in_under_3_s(tmp_path):
    write_output(tmp_path / "out", seeds_of(5000), per_series=50)
    report = write_report(tmp_path / "out")
    script = """
        document.body.offsetHeight;
        const opened = performance.now();
        sortBy(COLUMNS[4]); document.body.offsetHeight;
        const sorted = performance.now();
        return [opened, sorted - opened, document.querySelectorAll('#table tbody tr').length];"""
    opened_ms, sort_ms, rows = see(report, tmp_path, script)
    assert report.stat().st_size < 50e6
    assert opened_ms < 3000
    assert sort_ms < 500
    assert rows == 40
