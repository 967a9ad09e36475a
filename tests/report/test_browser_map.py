"""The map of report.html in headless Chromium: points, colours, and the choice between PCA and t-SNE."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.report.browser import PRESS, needs_chromium, see
from tests.report.builders import N_LESIONS

pytestmark = [pytest.mark.slow, needs_chromium]


def data_of(report: Path):
    """What the page's scripts work on."""
    return json.loads(re.search(r'id="data">(.*?)</script>', report.read_text(encoding="utf-8"))[1])


def test_points_of_the_map_show_their_picture_and_open(report, tmp_path):
    script = f"""{PRESS}
        const dot = document.querySelector('.dot[data-place="5"]');
        dot.dispatchEvent(new MouseEvent('mousemove', {{ bubbles: true }}));
        const seen = [byId('tip').hidden, byId('tip').textContent, Boolean(byId('tip').querySelector('img'))];
        byId('points').dispatchEvent(new MouseEvent('mouseleave')); seen.push(byId('tip').hidden);
        press(byId('points'), 'ArrowRight'); press(byId('points'), 'ArrowRight'); seen.push(byId('spoken').textContent);
        press(byId('points'), 'Enter'); seen.push(byId('viewer-title').textContent);
        seen.push(document.querySelectorAll('.dot').length);
        return seen;"""
    seen = see(report, tmp_path, script)
    assert seen == [False, "6. GTV-5 ", True, True, "GTV-1, ok", "2. GTV-1", N_LESIONS]


def test_filters_fade_points_and_colours_have_a_legend(report, tmp_path):
    script = """
        byId('kind').value = 'SEG'; refresh();
        const faded = document.querySelectorAll('.dot.faded').length;
        byId('colour').value = 'source'; byId('colour').dispatchEvent(new Event('input'));
        return [faded, byId('legend').textContent, new Set(dots.map((dot) => dot.getAttribute('fill'))).size];"""
    assert see(report, tmp_path, script) == [N_LESIONS // 2, "RTSTRUCT (45)SEG (45)", 2]


def test_the_map_is_chosen_by_keyboard_and_said_in_words(report, tmp_path):
    script = """
        const [pca, tsne] = document.querySelectorAll('[name=map]');
        const seen = (selector) => [...document.querySelectorAll(selector)].filter((x) => x.getClientRects().length);
        const state = () => [
          dots.map((dot) => [Number(dot.getAttribute('cx')), Number(dot.getAttribute('cy'))]),
          seen('[data-about]').map((x) => x.textContent.slice(0, 9)),
          seen('#points .axis').length,
          byId('points').getAttribute('aria-label').split('.')[0],
          byId('spoken').textContent,
        ];
        const names = [pca, tsne].map((x) => x.labels[0].textContent);
        const first = state();
        tsne.focus();
        const focused = document.activeElement === tsne;
        tsne.click();
        const second = state();
        pca.click();
        return [names, focused, first, second, state()];"""
    names, focused, first, second, third = see(report, tmp_path, script)
    assert names == ["PCA", "t-SNE"]
    assert focused
    assert first[1:4] == [["Principal"], 4, "Lesions on the first two principal components"]
    assert second[1:] == [["t-SNE of "], 0, "Lesions by t-SNE", "The map shows the lesions by t-SNE."]
    assert third[:3] == first[:3]
    shown = [np.array(state[0]) for state in (first, second)]
    for map_name, dots in zip(("xy", "tsne"), shown, strict=True):
        wanted = np.array([lesion[map_name] for lesion in data_of(report)["lesions"]]) * [1, -1]
        scale = 348 / np.ptp(wanted, axis=0).max()  # the plot's edge less its margins
        np.testing.assert_allclose(dots - dots.mean(axis=0), (wanted - wanted.mean(axis=0)) * scale, atol=0.02)


def test_paper_shows_the_chosen_map_and_what_it_is(report, tmp_path):
    script = """
        document.querySelectorAll('[name=map]')[1].click();
        const rules = [...document.styleSheets[0].cssRules].find((rule) => rule.conditionText === 'print');
        const style = document.createElement('style');
        style.textContent = [...rules.cssRules].map((rule) => rule.cssText).join('\\n');
        document.head.append(style);
        const seen = (x) => x.getClientRects().length > 0;
        const about = [...document.querySelectorAll('[data-about]')].filter(seen).map((x) => x.dataset.about);
        return [about, seen(document.querySelector('.switch')), seen(byId('points'))];"""
    assert see(report, tmp_path, script) == [["tsne"], False, True]
