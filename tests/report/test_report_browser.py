import json
import math
import re

import pytest
from helpers import browser
from helpers.made_up_comparison import EVIL, QUOTES, make_comparison, with_failures, write_report

from vae_jax.report import markup

pytest.importorskip("plotly", reason="plotly is not installed; the extra 'compare' brings it")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(browser.executable() is None, reason="no Chromium here (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def chromium():
    running = browser.Browser()
    yield running
    running.close()


def opened(chromium, file):
    chromium.open(file)
    plots = "[...document.querySelectorAll('.plot')]"
    chromium.wait(f"{plots}.every((place) => place.querySelector('.main-svg') || /^No plot/.test(place.textContent))")
    assert chromium.evaluate(f"{plots}.map((place) => place.textContent).filter((text) => /^No plot/.test(text))") == []
    return chromium


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    comparison = make_comparison(betas=(1.0, 4.0, 16.0), folder=str(folder), evil=EVIL + QUOTES.replace("/", ""))
    return write_report(folder, with_failures(comparison))


def test_a_browser_draws_it_without_complaint_and_loads_nothing(chromium, attacked):
    opened(chromium, attacked)
    assert chromium.evaluate("document.querySelectorAll('.main-svg').length") >= 3
    assert chromium.evaluate("document.querySelectorAll('#rate_distortion .points path').length") >= 13
    assert chromium.complaints == []
    assert [url for url in chromium.requests if not url.startswith("data:")] == [attacked.resolve().as_uri()]
    assert chromium.evaluate("document.title").startswith("Comparison: ")
    assert chromium.evaluate("document.querySelectorAll('svg script, svg a, img[onerror]').length") == 0


def test_the_policy_stops_a_script_that_got_in_all_the_same(chromium, tmp_path):
    file = write_report(tmp_path, make_comparison())
    file.write_text(file.read_text(encoding="utf-8").replace("<h1>", EVIL + "<h1>"), encoding="utf-8")
    opened(chromium, file)
    assert chromium.evaluate("document.title") == "Comparison: runs/study"
    assert any("Content Security Policy" in complaint for complaint in chromium.complaints)


COLUMN = """(() => {
  const table = document.querySelector('#runs-table table');
  const heading = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === NAME);
  if (CLICK) heading.querySelector('span').click();
  return [heading.ariaSort, [...table.tBodies[0].rows].map((row) => row.cells[heading.cellIndex].textContent)];
})()"""


def click(chromium, name):
    """(which way the column is sorted then, its cells)."""
    return chromium.evaluate(COLUMN.replace("NAME", json.dumps(name)).replace("CLICK", "true"))


def test_a_click_sorts_and_what_is_missing_stays_last(chromium, tmp_path):
    comparison = with_failures(make_comparison(betas=(1.0, 4.0, 16.0), autoencoder=False))
    opened(chromium, write_report(tmp_path, comparison))
    known = sorted(run.metrics["elbo"] for run in comparison.runs if run.metrics.get("elbo", math.nan) > -math.inf)
    words = [markup.four_digits(value) for value in (-math.inf, *known)]
    way, cells = click(chromium, "elbo")
    assert (way, cells[: len(words)], sorted(cells[len(words) :])) == ("ascending", words, ["NaN", "none", "none"])
    way, cells = click(chromium, "elbo")
    assert (way, cells[: len(words)]) == ("descending", words[::-1])
    assert sorted(cells[len(words) :]) == ["NaN", "none", "none"]
    way, cells = click(chromium, "run")
    assert (way, cells) == ("ascending", sorted(cells, key=lambda name: float(name.split("_")[1])))
    assert chromium.evaluate("document.querySelectorAll('th[aria-sort]').length") == 1
    enter = "new KeyboardEvent('keydown', {key: 'Enter', bubbles: true})"
    chromium.evaluate(f"document.querySelector('th[aria-sort] span').dispatchEvent({enter})")
    assert chromium.evaluate("document.querySelector('th[aria-sort]').ariaSort") == "descending"


def test_the_page_fits_400_pixels_and_prints(chromium, attacked):
    chromium.resize(400, mobile=True)
    opened(chromium, attacked)
    assert chromium.evaluate("document.documentElement.scrollWidth") <= 400
    assert (
        chromium.evaluate("Math.max(...[...document.querySelectorAll('.main-svg')].map((s) => s.clientWidth))") <= 400
    )
    chromium.resize(1280)
    opened(chromium, attacked)
    paper = chromium.pdf()
    assert paper.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) >= 2
    assert chromium.complaints == []


def test_colours_follow_the_reader(chromium, attacked):
    colours = {}
    for scheme in ("light", "dark"):
        chromium.media(prefers_color_scheme=scheme)
        opened(chromium, attacked)
        ink = "getComputedStyle(document.querySelector('.xtick text')).fill"
        paper = "getComputedStyle(document.documentElement).backgroundColor"
        colours[scheme] = [chromium.evaluate(ink), chromium.evaluate(paper)]
    chromium.media()
    assert colours["light"] == ["rgb(28, 33, 39)", "rgb(255, 255, 255)"]
    assert colours["dark"] == ["rgb(228, 232, 237)", "rgb(20, 23, 27)"]


def test_words_filter_the_runs_and_a_link_to_one_shows_it_again(chromium, tmp_path):
    comparison = make_comparison(folder=str(tmp_path))
    for run in comparison.runs:
        (tmp_path / run.name).mkdir()
        lines = [
            json.dumps({"step": step, "split": "validation", "elbo": -30 + step / 100 + run.seed, "rate": 5.0})
            for step in (50, 100)
        ]
        (tmp_path / run.name / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    opened(chromium, write_report(tmp_path, comparison))
    rows = "[...document.querySelectorAll('#runs-table tbody tr')].filter((row) => !row.hidden).length"
    total = len(comparison.runs)
    assert chromium.evaluate(rows) == total

    def type_words(words):
        chromium.evaluate(
            "(() => { const box = document.getElementById('runs-filter'); "
            f"box.value = {json.dumps(words)}; box.dispatchEvent(new Event('input')); }})()"
        )

    type_words("Beta_4 s1")
    assert chromium.evaluate(rows) == 1
    assert chromium.evaluate("document.getElementById('runs-count').textContent") == f"1 of {total}"
    hidden = comparison.groups[0].runs[0]
    chromium.evaluate(f"location.hash = 'run-{hidden}'")
    chromium.wait(f"{rows} === {total}")
    button = f"document.getElementById('run-{hidden}').querySelector('button')"
    chromium.evaluate(f"{button}.click()")
    shown = chromium.evaluate("document.querySelector('tr.details code').textContent")
    assert hidden in shown
    chromium.evaluate(f"{button}.click()")
    assert chromium.evaluate("document.querySelectorAll('tr.details').length") == 0
    assert chromium.evaluate("document.querySelectorAll('#forest .scatterlayer .trace').length") == 2
    title = "document.querySelector('#curves .ytitle').textContent"
    assert chromium.evaluate(title).startswith("elbo")
    chromium.evaluate(
        "(() => { const choice = document.getElementById('curves-choice'); "
        "choice.value = 'rate'; choice.dispatchEvent(new Event('change')); })()"
    )
    chromium.wait(f"{title}.startsWith('rate')")
    assert chromium.complaints == []
