"""The explorer in a browser: everything that a reader can press, drag and type there, on two pages."""

import numpy as np
import pytest
from helpers import browser
from helpers.accessibility import grave_violations
from helpers.untrained_run import on_the_page, some_data, untrained

from vae_jax.data import sprites
from vae_jax.plots import palette, spread
from vae_jax.report import colourings, decoder_export, explorer, latent_controls
from vae_jax.report.codebook import Codebook

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(browser.executable() is None, reason="no Chromium here (apt-get install chromium)"),
]

EVIL = "<img src=x onerror=document.title=1>&amp;"
PIXEL = 0.5 / 255 + decoder_export.TOLERANCE
"""What a grey level on a canvas may be off."""
SCALE, MARGIN = 34, 10
"""Pixels of a map before its first and after its last number."""

TOOLS = """
globalThis.at = (n) => document.querySelectorAll('.vae-explorer')[n];
globalThis.one = (n, place, k = 0) => at(n).querySelectorAll(place)[k];
globalThis.set = (element, value, kind) => {
  element.value = value;
  element.dispatchEvent(new Event(kind));
};
globalThis.grey = (canvas) => Array.from(
  canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).filter((_, i) => i % 4 === 1);
globalThis.colourAt = (n, [x, y]) =>
  Array.from(one(n, '.map').getContext('2d').getImageData(Math.round(x), Math.round(y), 1, 1).data);
globalThis.painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))));
"""


class Page:
    """A page of explorers, each called by its number."""

    def __init__(self, chromium, file, fragments):
        self.chromium = chromium
        file.write_text(explorer.page("explorers", fragments), encoding="utf-8")
        chromium.media(prefers_reduced_motion="reduce")  # a line stands still at its middle
        chromium.resize(1400, 2600)
        chromium.open(file)
        chromium.evaluate(TOOLS)
        chromium.evaluate("painted()")

    def evaluate(self, expression):
        """The value of an expression."""
        return self.chromium.evaluate(expression)

    def code(self, n=0):
        """Where an explorer is."""
        return np.array(self.evaluate(f"Array.from(at({n}).explorer.code())"), np.float32)

    def image(self, n=0, place="figure canvas", k=0):
        """The grey levels of a canvas."""
        return np.array(self.evaluate(f"grey(one({n}, {place!r}, {k}))"))

    def press(self, place, n=0, k=0):
        """Clicks on an element."""
        self.evaluate(f"one({n}, {place!r}, {k}).click()")

    def fill(self, place, value, kind, n=0, k=0):
        """Gives an element a value, with the event of that kind."""
        self.evaluate(f"set(one({n}, {place!r}, {k}), {value!r}, {kind!r})")

    def text(self, place, n=0, k=0):
        """The text of an element."""
        return self.evaluate(f"one({n}, {place!r}, {k}).textContent")

    def mouse(self, kind, place, n=0, held=False):
        """A mouse event at a place (x, y) of a map, in pixels."""
        left, top = self.evaluate(f"(({{left, top}}) => [left + 1, top + 1])(one({n}, '.map').getBoundingClientRect())")
        button = {} if kind == "mouseMoved" and not held else {"button": "left", "clickCount": 1}
        where = {"x": float(left + place[0]), "y": float(top + place[1])}
        self.chromium.call("Input.dispatchMouseEvent", type=kind, buttons=int(held), **where, **button)

    def drag(self, start, end, n=0):
        """From one place of a map to another; a click where they are one."""
        self.mouse("mouseMoved", start, n)
        self.mouse("mousePressed", start, n, held=True)
        if not np.array_equal(start, end):
            self.mouse("mouseMoved", end, n, held=True)
        self.mouse("mouseReleased", end, n)

    def frame(self, n=0):
        """(the middle of a map, how far it reaches from there, pixels of a unit)."""
        view = self.evaluate(f"at({n}).explorer.map.frame()")
        return np.array(view["centre"]), view["reach"], view["unit"]

    def place(self, point, n=0):
        """Where a point (x, y) of a map is, in pixels."""
        centre, reach, unit = self.frame(n)
        x, y = (np.asarray(point) - centre) * [1, -1]
        return SCALE + (x + reach) * unit, MARGIN + (y + reach) * unit

    def point(self, place, n=0):
        """Which point of a map is at a place in pixels."""
        centre, reach, unit = self.frame(n)
        x, y = (np.asarray(place) - [SCALE, MARGIN]) / unit - reach
        return centre + np.array([x, -y])


@pytest.fixture(scope="module")
def chromium():
    running = browser.Browser()
    yield running
    running.close()


DATA = some_data()
RUNS = [untrained(), untrained(**{"latent_dim": 2, "variant.name": "autoencoder"})]
KL = {"kl": [1.0, 3.0, 2.0, 0.0]}


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    """Two runs of the same data and the first once more without its decoder."""
    fragments = [explorer.fragment(run, DATA, name=EVIL) for run in RUNS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_export, "MAX_BYTES", 100)
        fragments.append(explorer.fragment(RUNS[0], DATA, KL, name="large"))
    return Page(chromium, tmp_path_factory.mktemp("explorer") / "numbers.html", fragments)


@pytest.fixture
def page(opened):
    """The same page, as it is at first."""
    opened.mouse("mouseMoved", (-30, -30))
    opened.press(".draw button", k=2)
    return opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, scheme):
    page.chromium.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    violations = grave_violations(page.chromium)
    page.chromium.media(prefers_reduced_motion="reduce")
    assert violations == []


def test_a_browser_decodes_as_jax_does_and_complains_of_nothing(page):
    images = on_the_page(DATA, 8)
    codes = [run.encode(images) for run in (*RUNS, RUNS[0])]
    assert page.chromium.complaints == []
    assert page.evaluate("document.title") == "explorers"
    assert page.text(".run") == EVIL
    assert page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((h) => h.tagName)") == ["H1", *["H2"] * 3]
    for n, (run, z) in enumerate(zip(RUNS, codes, strict=False)):
        assert float(page.evaluate(f"at({n}).dataset.difference")) <= decoder_export.TOLERANCE
        decode = f"(({{decode, codeOf}}) => [0, 1, 2].map((i) => Array.from(decode(codeOf(i)))))(at({n}).explorer)"
        shown = page.evaluate(decode)
        np.testing.assert_allclose(shown, run.decode(z[:3]).reshape(3, -1), atol=decoder_export.TOLERANCE)
    assert len({page.frame(n)[1:] for n in range(3)}) == 1  # as many pixels for a unit on every map
    page.fill("figure input", 7, "change")
    assert [page.evaluate(f"one({n}, 'figure input').value") for n in range(3)] == ["7"] * 3  # where one goes, all go
    for n, (run, z) in enumerate(zip((*RUNS, RUNS[0]), codes, strict=True)):
        np.testing.assert_array_equal(page.image(n, k=1), images[7].ravel())
        np.testing.assert_allclose(page.image(n) / 255, run.decode(z[7:])[0].ravel(), atol=PIXEL)


def test_a_slider_moves_its_latent_alone(page):
    start = page.code()
    name = page.text(".name", k=1)
    page.evaluate("set(one(0, '.sliders input', 1), one(0, '.sliders input', 1).max, 'input')")
    latent, value = int(name.split()[1]), float(page.evaluate("one(0, '.sliders input', 1).max"))
    expected = start.copy()
    expected[latent] = value
    np.testing.assert_allclose(page.code(), expected, atol=0.02)
    np.testing.assert_allclose(page.image() / 255, RUNS[0].decode(page.code()[None])[0].ravel(), atol=PIXEL)
    page.evaluate("at(0).explorer.go(at(0).explorer.code().map(() => -0.001))")
    assert {page.text(".sliders output", k=k) for k in range(4)} == {"0.00"}


def test_draws_are_the_runs_own_and_a_click_takes_one(page):
    draws = explorer.prior_draws(RUNS[0])
    page.press(".draw button", k=0)
    first = page.code()
    start = int(np.abs(draws - first).max(1).argmin())
    np.testing.assert_allclose(first, draws[start], atol=1e-6)
    page.press(".draw button", k=1)
    assert page.evaluate("at(0).querySelectorAll('.draws canvas').length") == 16
    page.press(".draws button", k=3)
    np.testing.assert_allclose(page.code(), draws[start + 4], atol=1e-6)
    np.testing.assert_array_equal(page.image(), page.image(place=".draws canvas", k=3))
    assert page.evaluate("at(2).querySelectorAll('.draw button').length") == 1  # it cannot decode what is drawn


def test_reset_goes_to_the_first_image_in_all(page):
    page.press(".draw button", k=1)
    page.press(".draw button", k=0, n=1)
    page.fill(".line input", 5, "change")
    page.press(".draw button", k=2)
    for n, run in enumerate(RUNS):
        np.testing.assert_allclose(page.code(n), run.encode(on_the_page(DATA, 1))[0], atol=1e-6)
    assert page.evaluate("one(0, '.draws').hidden")
    assert page.evaluate("one(0, '.line button').disabled")


def plane(run):
    """The first map of a run: its rows, and what is taken off a point."""
    codes = run.encode(on_the_page(DATA, 30))
    first = latent_controls.latent_planes(run, codes, None, 2.0)[0]
    return codes, np.array(first["directions"]), np.array(first["offsets"])


def test_a_click_on_the_map_decodes_that_point(page):
    _, rows, offsets = plane(RUNS[0])
    start, place = page.code(), (60.5, 60.5)
    page.drag(place, place)
    moved = page.code()
    np.testing.assert_allclose(moved @ rows.T - offsets, page.point(place), atol=1e-4)
    np.testing.assert_allclose(moved - moved @ rows.T @ rows, start - start @ rows.T @ rows, atol=1e-4)
    page.evaluate("one(0, '.map').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    step = 2 * page.frame()[1] / explorer.MAP_STEPS
    np.testing.assert_allclose(page.code(), moved + step * rows[0], atol=1e-4)
    images = page.image(2)
    page.drag(place, place, n=2)
    assert np.abs(page.image(2) - images).max() > 0  # of images rendered beforehand too


def lone_images(page, points):
    """Two images whose dots no other is near."""
    places = np.array([page.place(point) for point in points])
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + 1e3 * np.eye(len(places))
    return places, np.argsort(-apart.min(1), kind="stable")[:2].tolist()


def test_a_drag_plays_a_line_and_the_pointer_shows_an_image(page):
    codes, rows, offsets = plane(RUNS[0])
    places, (a, b) = lone_images(page, codes @ rows.T - offsets)
    label = on_labels()
    page.mouse("mouseMoved", places[a])
    assert page.text(".hovered") == f"image {a}: {label[a]}"
    np.testing.assert_array_equal(page.image(k=1), on_the_page(DATA, 30)[a].ravel())
    page.drag(places[a], places[b])
    assert [page.evaluate(f"one(0, '.line input', {k}).value") for k in (0, 1)] == [str(a), str(b)]
    np.testing.assert_allclose(page.code(), (codes[a] + codes[b]) / 2, atol=1e-5)
    others = RUNS[1].encode(on_the_page(DATA, 30))
    np.testing.assert_allclose(page.code(1), (others[a] + others[b]) / 2, atol=1e-5)  # the other run plays it too
    page.fill(".line input", 1, "input", k=2)
    np.testing.assert_allclose(page.code(), codes[b], atol=1e-5)
    page.drag(places[a], places[a])
    assert page.evaluate("one(1, 'figure input').value") == str(a)


def on_labels():
    """The class of each image of the page, as it says it."""
    indices = np.arange(DATA.test.size)
    order = spread.spread_positions(DATA.test, indices, DATA.test.size)
    return [str(label) for label in np.asarray(DATA.test.labels)[order]]


def test_a_class_is_hidden_and_shown_again_in_both_runs(page):
    codes, rows, offsets = plane(RUNS[0])
    places, (a, _) = lone_images(page, codes @ rows.T - offsets)
    label = int(on_labels()[a])
    seen = [page.evaluate(f"one({n}, '.map').toDataURL()") for n in (0, 1)]
    page.press(".legend button", k=label)
    for n in (0, 1):
        assert page.evaluate(f"one({n}, '.legend button', {label}).ariaPressed") == "false"
        assert page.evaluate(f"one({n}, '.map').toDataURL()") != seen[n]
    page.mouse("mouseMoved", places[a])
    assert page.text(".hovered") == ""
    page.mouse("mouseMoved", (-30, -30))
    for place, k in ((".legend button", label), (".legend .set", 1), (".legend .set", 0)):  # shown; none; all
        page.press(place, k=k)
        assert (page.evaluate("one(0, '.map').toDataURL()") == seen[0]) == (k != 1 or place == ".legend button")
    page.press(".under input")
    tiled = page.evaluate("one(0, '.map').toDataURL()")
    assert tiled != seen[0]
    page.evaluate("set(one(0, '.sliders input'), one(0, '.sliders input').max, 'input')")
    moved = page.evaluate("one(0, '.map').toDataURL()")
    page.chromium.wait(f"one(0, '.map').toDataURL() !== {moved!r}")  # the images follow once nothing moves
    page.press(".under input")


def test_a_strip_shows_the_latent_of_choice_and_follows_the_code(page):
    page.press(".name", k=2)
    page.evaluate("painted()")
    latent, run = int(page.text(".name", k=2).split()[1]), RUNS[0]
    low, high = (float(page.evaluate(f"one(0, '.sliders input', 2).{end}")) for end in ("min", "max"))
    moved = np.repeat(page.code()[None], 9, axis=0)
    moved[:, latent] = np.linspace(low, high, 9)

    def check(codes):
        shown = [page.image(place=".tiles canvas", k=k) for k in range(9)]
        np.testing.assert_allclose(np.array(shown) / 255, run.decode(codes).reshape(9, -1), atol=PIXEL)

    check(moved)
    assert page.text(".tiles small") == f"{low:.2f}".replace("-", "\N{MINUS SIGN}")
    mark = float(page.evaluate("one(0, '.mark').style.left.replace('%', '')"))
    share = (page.code()[latent] - low) / (high - low)
    assert mark == pytest.approx(100 * (0.5 + 8 * share) / 9, abs=0.1)
    other = (latent + 1) % 4
    page.evaluate(f"at(0).explorer.go(at(0).explorer.code().map((v, i) => i === {other} ? v + 1 : v))")
    page.evaluate("painted()")
    moved[:, other] += 1
    check(moved)
    page.press(".tiles button", k=8)
    np.testing.assert_allclose(page.code(), moved[8], atol=1e-5)
    page.evaluate("painted()")
    assert page.evaluate("one(0, '.tiles button', 8).ariaPressed") == "true"
    page.evaluate("one(0, '.sliders input', 1).focus()")
    assert [page.evaluate(f"one(0, '.name', {k}).ariaPressed") for k in range(4)] == ["false", "true", "false", "false"]


def test_the_strip_of_images_rendered_beforehand_says_so(page):
    assert "rendered beforehand" in page.text(".note", n=2)
    assert page.text(".strip .note", n=2).startswith("held-out image 0, rendered beforehand, latent 1 ")
    start = RUNS[0].encode(on_the_page(DATA, 1))[0]
    last = page.evaluate("one(2, '.sliders input').max")
    page.press(".tiles button", n=2, k=10)
    start[1] = float(last)
    np.testing.assert_allclose(page.code(2), start, atol=1e-5)
    np.testing.assert_allclose(page.image(2) / 255, RUNS[0].decode(start[None])[0].ravel(), atol=PIXEL)


GRID = sprites.load(sizes=(3, 2, 1, 5, 4), resolution=8, split="random 0.5")
VQ = untrained(**{"variant.name": "vq", "variant.codes": 24, "variant.dim": 2})


@pytest.fixture(scope="module")
def others(chromium, tmp_path_factory):
    """A run on factors; one of a codebook, and that once more without its decoder."""
    fragments = [explorer.fragment(untrained(), GRID, name="factors"), explorer.fragment(VQ, DATA, name="codebook")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_export, "MAX_BYTES", 100)
        fragments.append(explorer.fragment(VQ, DATA, name="rendered"))
    return Page(chromium, tmp_path_factory.mktemp("explorer") / "others.html", fragments)


def test_dots_are_coloured_by_each_factor(others):
    colours = [{"name": "shape"}, {"name": "scale"}, {"name": "x"}, {"name": "y"}]
    assert others.evaluate("[...one(0, '.key select').options].map((o) => o.text)") == [c["name"] for c in colours]
    assert others.evaluate("[...at(0).querySelectorAll('.legend button:not(.set)')].map((b) => b.title)") == [
        "shape 0",
        "shape 1",
        "shape 2",
    ]
    others.fill(".key select", "x", "change")
    assert others.evaluate("[...at(0).querySelectorAll('.ramp button')].map((b) => b.ariaLabel)") == [
        f"x {value}" for value in range(5)
    ]
    assert (others.text(".legend > span", k=0), others.text(".legend > span", k=2)) == ("0", "4")
    swatches = others.evaluate("[...at(0).querySelectorAll('.ramp i')].map((i) => i.style.background)")
    ramp = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in palette.ramp_colours(5)]
    assert swatches == [f"rgb({r}, {g}, {b})" for r, g, b in ramp]

    indices = np.arange(GRID.test.size)
    order = spread.spread_positions(GRID.test, indices, GRID.test.size)
    factor = next(c for c in colourings.colourings(GRID, order) if c["name"] == "x")
    codes = untrained().encode(np.asarray(GRID.test.fetch(order)))
    first = latent_controls.latent_planes(untrained(), codes, None, 2.0)[0]
    points = codes @ np.array(first["directions"]).T - np.array(first["offsets"])
    places, (a, _) = lone_images(others, points)
    *shade, _ = others.evaluate(f"colourAt(0, {list(map(float, places[a]))})")
    expected = 255 - 0.75 * (255 - np.array(ramp[factor["indices"][a]]))
    value = factor["indices"][a]
    assert np.abs(np.array(shade) - expected).max() < 60  # the paper is transparent: the colour itself
    others.mouse("mouseMoved", places[a])
    assert f"x {value}" in others.text(".hovered")
    assert "shape " in others.text(".hovered")
    others.press(".ramp button", k=value)
    others.mouse("mouseMoved", places[a])
    assert others.text(".hovered") == ""
    others.press(".legend .set", k=1)
    others.fill(".key select", "y", "change")  # another colouring hides nothing
    others.mouse("mouseMoved", places[a])
    assert f"x {value}" in others.text(".hovered")


def test_a_codebook_is_moved_by_its_indices(others):
    book, n = Codebook.measure(VQ), 1
    codes = VQ.encode(on_the_page(DATA, 30))
    assert others.evaluate("[...at(1).querySelectorAll('.line, figure button:not([hidden])')].length") == 0
    assert others.text(".name", n) == "group 0"
    start = book.assign(codes[:1])[0]
    assert others.evaluate("one(1, '.whole input', 1).value") == str(start[0])
    index = (int(start[1]) + 5) % 24
    others.fill(".whole input", index, "change", n, k=3)
    expected = np.concatenate([book.vectors[0][start[0]], book.vectors[0][index]])
    np.testing.assert_array_equal(others.code(n), expected)
    np.testing.assert_allclose(others.image(n) / 255, VQ.decode(expected[None])[0].ravel(), atol=PIXEL)
    common = others.evaluate("JSON.parse(one(1, 'script').textContent).sliders[0].common")
    rare = next(index for index in range(24) if index not in common)
    others.fill(".whole input", rare, "input", n, k=0)
    np.testing.assert_array_equal(others.code(n)[:2], book.vectors[0][rare])

    others.press(".name", n, k=0)
    others.evaluate("painted()")
    assert others.text(".strip .note", n) == "group 0: its most used vectors, by index; the other groups stay."
    values = [int(others.text(".tiles small", n, k)) for k in range(9)]
    assert values == sorted(values)
    assert rare in values
    others.press(".tiles button", n, k=0)
    np.testing.assert_array_equal(others.code(n)[:2], book.vectors[0][values[0]])

    others.press(".draw button", n)
    np.testing.assert_array_equal(others.code(n), explorer.prior_draws(VQ)[0])


def test_the_map_of_a_codebook_takes_held_out_codes_alone(others):
    codes = VQ.encode(on_the_page(DATA, 30))
    first = latent_controls.latent_planes(VQ, codes, None, 0.0)[0]
    rows, offsets = np.array(first["directions"]), np.array(first["offsets"])
    places = np.array([others.place(point, 1) for point in codes @ rows.T - offsets])
    for corner in ((60, 60), (250, 300)):
        others.drag(corner, corner, n=1)
        nearest = codes[np.hypot(*(places - corner).T).argmin()]
        np.testing.assert_array_equal(others.code(1), nearest)
    others.fill("figure input", int((codes @ rows[0]).argmax()), "change", 1)
    here = others.code(1) @ rows.T - offsets
    others.evaluate("one(1, '.map').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))")
    assert (others.code(1) @ rows.T - offsets)[0] < here[0]
    assert np.abs(codes - others.code(1)).max(1).min() == 0
    last = int(np.hypot(*(places - places[0]).T).argmax())
    others.mouse("mousePressed", places[0], 1, held=True)
    others.mouse("mouseMoved", places[last], 1, held=True)
    np.testing.assert_array_equal(others.code(1), codes[last])
    others.mouse("mouseReleased", places[last], 1)
    others.drag(places[last], places[0], n=1)  # it goes along, and plays no line
    np.testing.assert_array_equal(others.code(1), codes[0])


def test_a_codebook_rendered_beforehand_has_the_vectors_that_are_there(others):
    book, codes = Codebook.measure(VQ), VQ.encode(on_the_page(DATA, 30))
    use = np.bincount(book.assign(codes)[:, 1], minlength=24)
    index = int(use.argmax())
    others.fill(".whole input", index, "change", 2, k=3)
    expected = np.concatenate([codes[0][:2], book.vectors[0][index]])
    np.testing.assert_allclose(others.code(2), expected, atol=1e-6)
    np.testing.assert_allclose(others.image(2) / 255, VQ.decode(expected[None])[0].ravel(), atol=PIXEL)
    allowed = others.evaluate("JSON.parse(one(2, 'script').textContent).sliders[1].allowed")
    other = next(index for index in range(24) if index not in allowed)
    others.fill(".whole input", other, "change", 2, k=3)
    nearest = min(allowed, key=lambda index: abs(index - other))
    np.testing.assert_allclose(others.code(2)[2:], book.vectors[0][nearest], atol=1e-6)
    assert "sliders move 2 groups of the first image" in others.text(".note", 2)


@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_the_screen(others, width):
    others.chromium.resize(width, mobile=width < 500)
    assert others.evaluate("document.documentElement.scrollWidth") <= width
    others.chromium.resize(1400, 2600)


@pytest.mark.parametrize("run", [RUNS[0], VQ], ids=["plane", "codebook"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_map_speaks_of_maps_side_by_side_where_there_are_two(chromium, tmp_path, run, count):
    page = Page(chromium, tmp_path / "page.html", [explorer.fragment(run, DATA, name=str(n)) for n in range(count)])
    for n in range(count):
        hint = page.evaluate(f"one({n}, '.hint').innerText")
        assert ("Maps side by side are to one scale." in hint) == (count == 2)
        assert hint.endswith(".")
    assert page.chromium.complaints == []
