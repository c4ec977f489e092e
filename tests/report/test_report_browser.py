import json
import math
import re

import numpy as np
import pytest
from helpers import browser
from helpers.accessibility import grave_violations
from helpers.made_up_comparison import EVIL, QUOTES, make_comparison, with_failures, write_report

from vae_jax.report import markup, study_page
from vae_jax.report.group_pictures import PANELS, GroupPictures, Row
from vae_jax.report.png import encode_png

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
    comparison = with_failures(make_comparison(betas=(1e-5, 0.25, 0.5, 16.0), autoencoder=False))
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


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A comparison whose runs have records, a metric that the table does not show, and a picture each."""
    folder = tmp_path_factory.mktemp("recorded")
    comparison = make_comparison(folder=str(folder))
    for run in comparison.runs:
        (folder / run.name / "pictures").mkdir(parents=True)
        (folder / run.name / "pictures" / "samples.png").write_bytes(encode_png(np.full((4, 4, 1), 0.5)))
        lines = [
            json.dumps({"step": step, "split": "validation", "elbo": -30 + step / 100 + run.seed, "rate": 5.0})
            for step in (50, 100)
        ]
        (folder / run.name / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    images = encode_png(np.full((4, 16, 1), 0.5))
    rows = [Row(group.name, group.runs[0], (images,) * len(PANELS)) for group in comparison.groups]
    file = folder / "report.html"
    study_page.write(file, comparison, pictures=GroupPictures(images, "latest", rows, []))
    return comparison, file


ROWS = "[...document.querySelectorAll('#runs-table tbody tr:not(.details)')].filter((row) => !row.hidden)"


def choose(chromium, selector, value, event="change"):
    """Gives a control a value, as a reader does."""
    chromium.evaluate(
        f"(() => {{ const control = document.querySelector({json.dumps(selector)}); "
        f"control.value = {json.dumps(value)}; control.dispatchEvent(new Event('{event}', {{bubbles: true}})); }})()"
    )


def test_words_and_fields_filter_the_runs_and_a_link_to_one_shows_it_again(chromium, recorded):
    comparison, file = recorded
    opened(chromium, file)
    total, count = len(comparison.runs), "document.getElementById('runs-count').textContent"
    assert chromium.evaluate(f"{ROWS}.length") == total
    choose(chromium, "#runs-words", "Beta_4 s1", "input")
    chromium.wait(f"{ROWS}.length === 1")
    assert chromium.evaluate(count) == f"1 of {total} runs"
    choose(chromium, "#runs-words", "", "input")
    choose(chromium, "[data-field='variant.beta']", "4")
    chromium.wait(f"{ROWS}.length === 4")
    choose(chromium, "[data-field='seed']", "2")
    chromium.wait(f"{ROWS}.length === 1")
    assert chromium.evaluate(f"{ROWS}[0].id") == "run-beta_4.0_s2"
    hidden = comparison.groups[0].runs[0]
    chromium.evaluate(f"location.hash = 'run-{hidden}'")
    chromium.wait(f"{ROWS}.length === {total}")
    assert chromium.evaluate(count) == ""
    assert chromium.complaints == []


def test_columns_are_chosen_and_sorted_by(chromium, recorded):
    comparison, file = recorded
    opened(chromium, file)
    choices = chromium.evaluate("[...document.querySelectorAll('.columns input')].map((box) => box.value)")
    assert choices == ["train.steps", "variant.beta", "variant.name", "loss", "rate"]
    heads = "[...document.querySelectorAll('#runs-table th')].map((head) => head.textContent)"
    first = chromium.evaluate(heads)
    for name in ("rate", "variant.beta"):
        chromium.evaluate(f"document.querySelector('.columns input[value=\"{name}\"]').click()")
    chromium.wait(f"{heads}.length === {len(first) + 2}")
    way, cells = click(chromium, "rate")
    rates = sorted(run.metrics["rate"] for run in comparison.runs if "rate" in run.metrics)
    assert (way, cells) == ("ascending", [*map(markup.four_digits, rates), *["none"] * 4])
    chromium.evaluate("document.querySelector('.columns input[value=\"rate\"]').click()")
    chromium.wait(f"{heads}.length === {len(first) + 1}")
    assert chromium.evaluate(heads) == [*first, "variant.beta"]
    assert click(chromium, "variant.beta")[1] == ["1"] * 4 + ["4"] * 4 + ["none"] * 4
    assert chromium.complaints == []


def test_a_run_opens_with_its_config_curves_pictures_and_command(chromium, recorded):
    comparison, file = recorded
    opened(chromium, file)
    best, other = comparison.groups[1].runs[:2]
    button = "document.getElementById('run-{}').querySelector('button')"
    size = "Math.max(...document.querySelector('#rate_distortion').data.flatMap(({marker}) => marker?.size ?? 0))"
    assert chromium.evaluate(size) == 8
    chromium.evaluate(f"{button.format(best)}.click()")
    chromium.wait("document.querySelectorAll('.details .main-svg').length")
    assert best in chromium.evaluate("document.querySelector('.details .command code').textContent")
    fields = chromium.evaluate("document.querySelector('.details details dl').textContent")
    assert "variant.beta4" in fields
    assert "train.steps200" in fields
    titles = chromium.evaluate(
        "[...document.querySelectorAll('.details .ytitle,.details .y2title')].map(e=>e.textContent)"
    )
    assert titles == ["elbo, nats per image", "rate, nats per image"]
    assert chromium.evaluate("document.querySelectorAll('.details .picture img').length") == 1
    assert chromium.evaluate(size) == 16
    chromium.evaluate(f"{button.format(best)}.click()")
    assert chromium.evaluate("document.querySelectorAll('tr.details').length") == 0
    assert chromium.evaluate(size) == 8
    chromium.evaluate(f"{button.format(other)}.click()")
    chromium.wait("document.querySelectorAll('.details').length")
    assert f"{other}/pictures" in chromium.evaluate("document.querySelector('.details').textContent")
    assert chromium.complaints == []


def test_a_command_is_copied(chromium, recorded):
    comparison, file = recorded
    opened(chromium, file)
    chromium.evaluate("navigator.clipboard.writeText = async (text) => { globalThis.copied = text; }")
    chromium.evaluate("document.querySelector('#runs-table td.name button').click()")
    chromium.wait("document.querySelectorAll('.command button').length")
    chromium.evaluate("document.querySelector('.command button').click()")
    chromium.wait("document.querySelector('.command [role=status]').textContent === 'copied'")
    assert comparison.runs[0].name in chromium.evaluate("copied")
    chromium.evaluate("navigator.clipboard.writeText = async () => { throw new Error('refused'); }")
    chromium.evaluate("document.querySelector('.command button').click()")
    chromium.wait("getSelection().toString().includes('vae-jax')")
    assert chromium.complaints == []


DOT = """(() => {
  const dot = document.querySelector('#rate_distortion .points path');
  dot.scrollIntoView({block: 'center', behavior: 'instant'});
  const {left, top, width, height} = dot.getBoundingClientRect();
  return [left + width / 2, top + height / 2];
})()"""


def test_a_dot_and_its_row_light_up_together(chromium, recorded):
    comparison, file = recorded
    opened(chromium, file)
    name = comparison.groups[0].runs[1]
    row = f"document.getElementById('run-{name}')"
    over = "new PointerEvent('pointerover', {bubbles: true})"
    chromium.evaluate(f"{row}.cells[1].dispatchEvent({over})")
    label = "document.querySelector('#rate_distortion .hoverlayer').textContent"
    chromium.wait(f"{label}.includes('{name}')")
    assert chromium.evaluate(f"{row}.classList.contains('lit')")
    chromium.evaluate("document.querySelector('#runs-table table').dispatchEvent(new PointerEvent('pointerleave'))")
    chromium.wait(f"{label} === ''")
    assert chromium.evaluate("document.querySelectorAll('tr.lit').length") == 0
    x, y = chromium.evaluate(DOT)
    chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    chromium.wait("document.querySelectorAll('tr.lit').length === 1")
    assert chromium.evaluate("document.querySelector('tr.lit').id.slice(4)") in chromium.evaluate(label)
    assert chromium.complaints == []


def test_learning_curves_have_a_choice_of_metric(chromium, recorded):
    opened(chromium, recorded[1])
    assert chromium.evaluate("document.querySelectorAll('#forest .scatterlayer .trace').length") == 2
    title = "document.querySelector('#curves .ytitle').textContent"
    assert chromium.evaluate(title).startswith("elbo")
    choose(chromium, "#curves-choice", "rate")
    chromium.wait(f"{title}.startsWith('rate')")
    assert chromium.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium, recorded, scheme):
    chromium.media(prefers_color_scheme=scheme)
    opened(chromium, recorded[1])
    chromium.evaluate("document.querySelector('#runs-table td.name button').click()")
    chromium.wait("document.querySelectorAll('.details .main-svg').length")
    for details in ("details.folded", ".columns"):
        chromium.evaluate(f"document.querySelectorAll('{details}').forEach((place) => {{ place.open = true; }})")
    violations = grave_violations(chromium)
    chromium.media()
    assert violations == []
