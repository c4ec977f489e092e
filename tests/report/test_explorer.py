import base64
import functools
import html
import io
import json
import math
import re
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.made_up_comparison import make_comparison
from helpers.strict_promotion import strict_promotion
from PIL import Image

from vae_jax import cli, data, model
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.models import likelihoods
from vae_jax.plots import spread
from vae_jax.report import comparison_files, decoder_export, explorer, markup
from vae_jax.training.step import evaluation_params, initial_state

NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_node = pytest.mark.skipif(NODE is None, reason="runs the page's decoder in node, which is not installed")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="opens the page in Chromium, which is not installed")

IN_NODE = """
const fs = require("fs");
require("vm").runInThisContext(fs.readFileSync(process.argv[1], "utf8"));
const { model, codes } = JSON.parse(fs.readFileSync(0, "utf8"));
const decode = vaeDecoder.decoder(model);
console.log(JSON.stringify(codes.map((code) => Array.from(decode(Float32Array.from(code))))));
"""


@functools.cache
def untrained(shape=(8, 8, 1), size=1.0, **fields) -> TrainedModel:
    """A run of no step whose weights, biases too, are noise."""
    fields = {"net.hidden": "(12, 9)", "latent_dim": 4, **fields}
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    config = parse_config(["--config=digits", *words])
    built = model.build(config, shape)
    # Only the shapes are of the initial state: to compile what draws it takes longer than all that is tested.
    shapes = jax.eval_shape(lambda: evaluation_params(initial_state(built, config, shape)))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(size * noise(rng, leaf.shape)), shapes)
    return TrainedModel(config.to_dict(), shape, built, params, 0)


def noise(rng, shape):
    """Weights of about the size that they start with, and biases that are not zero."""
    scale = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.1
    return np.float32(scale * rng.normal(size=shape))


def some_data(shape=(8, 8, 1), n=30, labels=True):
    draw = np.random.default_rng(2)
    images, label = draw.integers(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % 10 if labels else None
    return data.from_arrays(images, label, images, label)


def on_the_page(dataset, count):
    """The first images of a page."""
    indices = spread.spread_positions(dataset.test, np.arange(dataset.test.size), dataset.test.size)
    return np.asarray(dataset.test.fetch(indices[:count]))


def some_codes(run, n=5):
    return 2 * np.random.default_rng(3).normal(size=(n, run.code_dim)).astype(np.float32)


def in_node(decoder, codes):
    content = json.dumps({"model": decoder, "codes": np.asarray(codes).tolist()})
    process = subprocess.run(
        [NODE, "-e", IN_NODE, str(explorer.ASSETS / "decode.js")], input=content, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return np.array(json.loads(process.stdout))


def unpacked(text, dtype="<f4"):
    return np.frombuffer(base64.b64decode(text), dtype)


def tiles(sheet, shape):
    """The images of a sheet, one after the other."""
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["images"].partition(",")[2]))))
    height, width, channels = shape
    rows = picture.reshape(len(picture) // height, height, sheet["columns"], width, channels)
    return rows.swapaxes(1, 2).reshape(-1, *shape)


CONV = {"net.name": "conv", "net.hidden": 10, "shape": (17, 20, 3)}
GREY = {"data.binarize": "none"}


@needs_node
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {**CONV, **GREY, "likelihood.name": "gaussian", "net.activation": "tanh"},
        {**GREY, "likelihood.name": "gaussian", "likelihood.scale": "shared", "net.activation": "gelu"},
        {**GREY, "likelihood.name": "gaussian", "likelihood.scale": "pixel", "net.activation": "silu"},
        {**GREY, "likelihood.name": "laplace", "net.activation": "elu"},
        {**GREY, "likelihood.name": "continuous_bernoulli", "net.activation": "leaky_relu"},
        {**GREY, "likelihood.name": "discretized_logistic", "net.activation": "softplus"},
        {**CONV, **GREY, "likelihood.name": "logistic_mixture", "likelihood.components": 2},
        {"net.hidden": "()", "latent_dim": 1},
        {"variant.name": "conditional"},
    ],
)
def test_the_browser_decodes_what_jax_does(fields, monkeypatch):
    monkeypatch.setattr(decoder_export, "TOLERANCE", 0.0)  # float32 weights, so that nothing but round-off is between
    run = untrained(**fields)
    codes = some_codes(run)
    assert decoder_export.missing_support(run) == ""
    decoder, _ = decoder_export.export_decoder(run, codes)
    assert decoder["dtype"] == "float32"
    expected = run.decode(codes).reshape(len(codes), -1)
    assert np.ptp(expected) > 0.3
    np.testing.assert_allclose(in_node(decoder, codes), expected, atol=1e-5)


@needs_node
def test_the_expected_grey_level_holds_at_every_logit():
    logits = np.array([-40, -3, -0.11, -0.0999, -1e-4, 0, 1e-7, 0.0999, 0.11, 2, 40], np.float32)
    decoder = {
        "layers": [{"kind": "dense", "shape": [1, len(logits)], "activation": "none"}],
        "weights": decoder_export.pack_array(np.concatenate([logits, 0 * logits])),
        "dtype": "float32",
        "parts": 1,
    }
    for name in ("bernoulli", "continuous_bernoulli"):
        expected = likelihoods.get(name)().mean(jnp.asarray(logits).reshape(1, 1, -1, 1)).ravel()
        levels = in_node({**decoder, "mean": decoder_export.MEAN_KINDS[name]}, [[1.0]])[0]
        np.testing.assert_allclose(levels, expected, atol=3e-6)


@needs_node
def test_weights_are_float16_where_no_one_sees_it():
    run = untrained(size=0.5)
    codes = some_codes(run, 20)
    decoder, stored = decoder_export.export_decoder(run, codes)
    assert decoder["dtype"] == "float16"
    assert "float16" in stored
    difference = np.abs(in_node(decoder, codes) - run.decode(codes).reshape(20, -1)).max()
    assert 1e-6 < difference <= decoder_export.TOLERANCE
    # Every kind of float16: zero, subnormal, normal, of either sign.
    numbers = np.array([0, 6e-8, -3e-5, 6.1e-5, 1, -1.5, 65504], np.float16)
    single = {"layers": [{"kind": "dense", "shape": [1, 7], "activation": "none"}], "mean": "value", "parts": 1}
    weights = decoder_export.pack_array(np.concatenate([numbers, 0 * numbers]), "float16")
    np.testing.assert_array_equal(in_node({**single, "weights": weights, "dtype": "float16"}, [[1.0]])[0], numbers)


@pytest.mark.parametrize("size", [40.0, 1e6])
def test_weights_are_float32_where_float16_would_show_or_overflow(size):
    run = untrained(size=size, **{"net.activation": "tanh"})
    assert decoder_export.export_decoder(run, some_codes(run, 20))[0]["dtype"] == "float32"


def test_what_the_browser_cannot_run_is_named(monkeypatch):
    assert "bfloat16" in decoder_export.missing_support(untrained(**{"net.dtype": "bfloat16"}))
    assert "variant" in decoder_export.missing_support(
        untrained(**{"variant.name": "rae", "variant.regularizer": "spectral"})
    )
    monkeypatch.setattr(decoder_export, "MAX_BYTES", 100)
    assert re.fullmatch(
        r"its decoder's weights are 0\.0 MB, more than 0\.0001", decoder_export.missing_support(untrained())
    )


def test_rendered_images_of_a_large_decoder_are_shown_smaller(monkeypatch):
    monkeypatch.setattr(decoder_export, "MAX_BYTES", 100)
    monkeypatch.setattr(explorer, "MAX_RENDERED", 385 * 64 // 8)  # a third of height and width
    run, dataset = untrained(), some_data()
    content = explorer.exploration(run, dataset, {}, "large")
    assert content["shape"] == (2, 2, 1)
    assert "shown at 1/3 of their height and width" in content["note"]
    codes = unpacked(content["grid"]["codes"]).reshape(-1, 4)
    blocks = run.decode(codes)[:, :6, :6].reshape(-1, 2, 3, 2, 3).mean(axis=(2, 4))
    shown = tiles(content["grid"], (2, 2, 1))[: len(codes), ..., 0] / 255
    np.testing.assert_allclose(shown, blocks, atol=0.5 / 255 + 1e-5)


def test_a_decoder_that_is_too_large_becomes_images(monkeypatch):
    monkeypatch.setattr(decoder_export, "MAX_BYTES", 100)
    run, dataset = untrained(), some_data()
    content = explorer.exploration(run, dataset, {}, "large")
    assert "decoder" not in content
    assert "weights" in content["note"]
    assert "rendered beforehand" in content["note"]
    codes = unpacked(content["grid"]["codes"]).reshape(-1, 4)
    np.testing.assert_allclose(
        tiles(content["grid"], (8, 8, 1))[: len(codes)] / 255, run.decode(codes), atol=0.5 / 255 + 1e-5
    )
    start = run.encode(on_the_page(dataset, 1))[0]
    for slider in content["sliders"]:  # each stop of a slider is there
        for value in np.linspace(slider["low"], slider["high"], slider["steps"] + 1):
            stop = start.copy()
            stop[slider["dimension"]] = value
            assert np.abs(codes - stop).max(1).min() < 1e-4
    (plane,) = content["planes"]
    corners = [[(x, y) for x in plane["extent"][0]] for y in plane["extent"][1]]
    seen = codes @ np.array(plane["directions"]).T - np.array(plane["offsets"])
    for corner in np.reshape(corners, (4, 2)):  # and each corner of the map
        assert np.abs(seen - corner).max(1).min() < 1e-4


def test_held_out_images_are_on_the_page():
    content = explorer.exploration(untrained(), some_data(), {}, "run")
    np.testing.assert_array_equal(tiles(content, (8, 8, 1))[:30], on_the_page(some_data(), 30))
    assert set(content["labels"][:10]) == set(range(10))  # the first show what there is
    assert content["classes"] == [str(i) for i in range(10)]
    colour = explorer.image_sheet(some_data((5, 7, 3)).test.fetch(np.arange(30)) / np.float32(255))
    np.testing.assert_array_equal(
        tiles(colour, (5, 7, 3))[:30], np.asarray(some_data((5, 7, 3)).test.fetch(np.arange(30)))
    )


def test_sliders_are_ordered_by_kl_or_by_variance():
    run = untrained()
    spread = np.array([0.5, 2.0, 1.0, 0.1], np.float32)
    codes = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * spread
    by_variance = explorer.latent_sliders(run, codes, None)
    assert [slider["dimension"] for slider in by_variance] == [1, 2, 0, 3]
    assert by_variance[0]["low"] <= codes[:, 1].mean() - 3 * codes[:, 1].std()
    by_kl = explorer.latent_sliders(run, codes, [0.1, 0.2, 3.0, 0.3])
    assert [slider["dimension"] for slider in by_kl] == [2, 3, 1, 0]
    assert by_kl[0]["detail"] == "3.00 nats"
    assert by_kl[3]["low"] == -3
    assert by_kl[3]["high"] == 3
    assert by_kl[2]["low"] == codes[:, 1].min() < -3
    assert explorer.latent_planes(run, codes, [0.1, 0.2, 3.0, 0.3])[1]["axes"] == ["latent 2", "latent 3"]


@pytest.mark.parametrize("latents", [1, 2, 5])
def test_a_map_is_orthonormal_and_holds_every_code(latents):
    run = untrained(latent_dim=latents)
    codes = some_codes(run, 40) + 5
    for plane in explorer.latent_planes(run, codes, None):
        directions = np.array(plane["directions"])
        np.testing.assert_allclose(directions @ directions.T, np.diag([1, latents > 1]), atol=1e-6)
        points = codes @ directions.T - np.array(plane["offsets"])
        (left, right), (low, high) = plane["extent"]
        assert np.all((points > [left, low]) & (points < [right, high]))
        assert right - left == pytest.approx(high - low)  # to scale
        origin = -np.array(plane["offsets"])  # N(0, I) to two standard deviations
        assert np.all((origin - 2 > [left, low]) & (origin + 2 < [right, high]))
    if latents == 5:  # the main axes are those of most variance
        points = codes @ np.array(explorer.latent_planes(run, codes, None)[0]["directions"]).T
        values = np.linalg.eigvalsh(np.cov(codes.T))
        np.testing.assert_allclose(np.cov(points.T), np.diag(values[:-3:-1]), atol=1e-4)


def test_a_collapsed_run_does_not_fill_its_map():
    run = untrained()
    plane = explorer.latent_planes(run, 1e-3 * some_codes(run, 40), None)[0]
    assert np.diff(plane["extent"]).min() > 4


@pytest.mark.parametrize("labels", [[0, 1, 2, 255], [3], list(range(11)), list(range(26))])
def test_labels_that_occur_have_a_colour_each(labels):
    names = explorer.class_names(np.array(labels * 2))
    assert len(set(names["colours"])) == len(names["classes"]) == len(labels)
    assert names["classes"] == [str(label) for label in labels]
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in names["colours"])


def test_two_runs_are_told_apart():
    run, other = untrained(), untrained(**{"variant.beta": 4.0, "seed": 2})
    assert explorer.about(run, "") == "beta, seed 0, mlp, 4 latents, latest checkpoint, step 0 of 10,000"
    content = explorer.exploration(other, some_data(), {}, "best of its group", "beta4_s2")
    assert content["about"] == "beta4_s2, beta beta=4, seed 2, mlp, 4 latents, latest checkpoint, step 0 of 10,000"
    assert explorer.exploration(run, some_data(), {}, "a", "a")["about"] == explorer.about(run, "")


@pytest.mark.parametrize("kl", [None, "0.1", [1.0], [1.0, None, 0.0, 0.0], [1.0, "x", 0.0, 0.0], [1.0, math.nan, 0, 0]])
def test_a_damaged_kl_is_none(kl):
    assert explorer.known_kl({"kl": kl}, 4) is None
    assert explorer.known_kl({"kl": [1.0, 0, 2.5, 0.0]}, 4) == [1.0, 0, 2.5, 0.0]


def test_a_kl_that_rounds_to_zero_has_no_sign():
    run = untrained()
    assert explorer.latent_sliders(run, some_codes(run), [-1e-4] * 4)[0]["detail"] == "0.00 nats"


def test_a_code_beside_the_latents_has_sliders_too():
    content = explorer.exploration(
        untrained(**{"variant.name": "conditional"}), some_data(), {"kl": [1.0, 2.0, 0.0, 0.5]}, "run"
    )
    assert [slider["name"] for slider in content["sliders"]][3:6] == ["latent 2", "class 0", "class 1"]
    assert content["size"] == 14
    assert (content["sliders"][4]["low"], content["sliders"][4]["high"]) == (0, 1)


PROBE = """
addEventListener("load", () => {
  const found = [...document.querySelectorAll(".vae-explorer")].map((section) => {
    const { decode, codeOf, code } = section.explorer, canvas = section.querySelector("figure canvas");
    const shown = () => canvas.toDataURL(), first = shown(), slider = section.querySelector(".sliders input");
    slider.value = slider.max;
    slider.dispatchEvent(new Event("input"));
    const moved = shown(), at = Array.from(code());
    const map = section.querySelector(".map"), box = map.getBoundingClientRect();
    const point = { pointerId: 1, clientX: box.left + 9.5, clientY: box.top + 9.5 };
    map.setPointerCapture = () => {};
    map.dispatchEvent(new PointerEvent("pointerdown", point));
    map.dispatchEvent(new PointerEvent("pointerup", point));
    const corner = shown() !== moved;
    const { reach, unit } = section.explorer.frame();
    section.explorer.go(code().map(() => -0.001));
    const numbers = [...section.querySelectorAll(".sliders output")].map((output) => output.textContent);
    const press = (place) => [...section.querySelectorAll(place)].forEach((button) => button.click());
    const seen = () => map.toDataURL(), whole = seen();
    press(".legend button");
    const filtered = seen() !== whole;
    press(".legend button");
    const restored = seen() === whole;
    press(".places input[type=checkbox]");
    const tiled = seen() !== whole;
    press(".places input[type=checkbox]");
    press(".draw button:nth-child(1)");
    const prior = Array.from(code());
    press(".draw button:nth-child(2)");
    const sheet = section.querySelectorAll(".draws canvas").length;
    return {
      scale: [reach, unit], numbers, filtered, restored, tiled, prior, sheet,
      title: section.querySelector("h3").textContent, difference: Number(section.dataset.difference ?? NaN),
      images: decode ? [0, 1, 2].map((n) => Array.from(decode(codeOf(n)))) : null,
      moves: first !== moved, at, corner, note: section.querySelector(".note").textContent,
    };
  });
  const which = [...document.querySelectorAll("figure input")];
  which[0].value = 7;
  which[0].dispatchEvent(new Event("change"));
  const drawn = [...document.querySelectorAll("figure canvas")].map((canvas) =>
    Array.from(canvas.getContext("2d").getImageData(0, 0, 8, 8).data).filter((_, i) => i % 4 === 1));
  const fits = document.documentElement.scrollWidth <= innerWidth;
  document.body.dataset.found = JSON.stringify({ found, drawn, fits, chosen: which.map((input) => input.value) });
});
"""


def in_chromium(page, folder):
    """What PROBE finds on a page, and what the console says; nothing may be loaded and all errors are said there."""
    file = folder / "page.html"
    file.write_text(page.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=500,900"]
    words = [CHROMIUM, *flags, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    process = subprocess.run([*words, file.as_uri()], capture_output=True, text=True, timeout=120)
    text = re.search(r'data-found="([^"]*)"', process.stdout)
    messages = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    assert text, messages or process.stderr[-2000:]
    return json.loads(html.unescape(text.group(1))), messages


@pytest.mark.full
@needs_chromium
def test_a_browser_shows_it_and_decodes_as_jax_does(tmp_path, monkeypatch):
    dataset, name = some_data(), "<img src=x onerror=document.title=1>&amp;"
    runs = [untrained(), untrained(**{"latent_dim": 2, "variant.name": "autoencoder"})]
    fragments = [explorer.fragment(run, dataset, name=name) for run in runs]
    monkeypatch.setattr(decoder_export, "MAX_BYTES", 100)
    fragments.append(explorer.fragment(runs[0], dataset, {"kl": [1.0, 3.0, 2.0, 0.0]}, name="large"))
    body = markup.tag("div", *fragments, class_="vae-explorers")
    page = markup.page("three", explorer.style(), body, explorer.script(), (PROBE,))
    result, messages = in_chromium(page, tmp_path)
    assert messages == []
    assert result["fits"]
    assert result["chosen"] == ["7", "7", "7"]  # the same data: where one goes, all go
    images = on_the_page(dataset, 8)
    codes = [run.encode(images) for run in runs]
    drawn = np.reshape(result["drawn"], (3, 2, 8, 8, 1))
    for (decoded, held_out), run, z in zip(drawn, [*runs, runs[0]], [*codes, codes[0]], strict=True):
        np.testing.assert_array_equal(held_out, images[7])
        np.testing.assert_allclose(decoded / 255, run.decode(z[7:])[0], atol=0.5 / 255 + decoder_export.TOLERANCE)
    for run, z, shown in zip(runs, codes, result["found"], strict=False):
        assert shown["title"] == name
        assert shown["difference"] <= decoder_export.TOLERANCE
        np.testing.assert_allclose(shown["images"], run.decode(z[:3]).reshape(3, -1), atol=decoder_export.TOLERANCE)
        assert shown["moves"]
        assert shown["corner"]
        assert set(shown["numbers"]) == {"0.00"}
        assert shown["filtered"]
        assert shown["restored"]
        assert shown["tiled"]
        drawn_codes = unpacked(explorer.prior_draws(run)).reshape(-1, run.code_dim)
        np.testing.assert_allclose(shown["prior"], drawn_codes[0], atol=1e-6)
        assert shown["sheet"] == 16
    assert len({tuple(shown["scale"]) for shown in result["found"]}) == 1  # as many pixels for a unit on every map
    large = result["found"][2]
    assert large["images"] is None
    assert large["sheet"] == 0  # it cannot decode what is drawn
    assert "rendered beforehand" in large["note"]
    assert large["moves"]
    assert large["corner"]
    assert large["at"][1] == pytest.approx(max(3, codes[0][:, 1].max()), abs=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder whose weights are made up."""
    monkeypatch.setattr(explorer, "open_run", lambda folder, checkpoint: untrained(latent_dim=3))
    (tmp_path / "evaluation.json").write_text(json.dumps({"step": 0, "kl": [0.5, 0.25, 4.0]}))
    return tmp_path


def test_the_command_writes_one_page_that_loads_nothing(folder, capsys):
    assert cli.explore([f"--workdir={folder}", f"--other={folder}"]) == 0
    assert "wrote" in capsys.readouterr().out
    text = (folder / "explore.html").read_text()
    assert text.count('<section class="vae-explorer">') == 2
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "default-src 'none'" in html.unescape(text)
    given = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL).group(1))
    assert [slider["dimension"] for slider in given["sliders"]] == [2, 0, 1]
    assert given["size"] == 3
    check = given["check"]
    expected = untrained(latent_dim=3).decode(unpacked(check["codes"]).reshape(-1, 3))
    np.testing.assert_allclose(unpacked(check["images"]), expected.ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (TypeError("no shape\x1b[2J"), r"run: its files are damaged \(TypeError: no shape\\x1b"),
        (UserError("no run here"), "^no run here$"),
    ],
)
def test_files_that_make_no_run_are_named(tmp_path, monkeypatch, problem, said):
    def fail(folder, checkpoint):
        raise problem

    monkeypatch.setattr(explorer, "open_run", fail)
    with pytest.raises(UserError, match=said):
        explorer.folder_fragment(tmp_path / "run", "run")


def test_jaxs_flags_change_no_page(tmp_path, monkeypatch):
    flags = []

    def note_flag(*_):
        flags.append(jax.config.jax_numpy_dtype_promotion)
        return markup.tag("p", "")

    monkeypatch.setattr(explorer, "folder_fragment", note_flag)
    monkeypatch.setattr(comparison_files, "FILES", {"report.html": note_flag})
    monkeypatch.setattr("vae_jax.comparison.figures.draw", lambda comparison, out: [])
    with strict_promotion():
        explorer.write([tmp_path])
        comparison_files.write_files(tmp_path, make_comparison())
    assert flags == ["standard"] * 2


def test_what_cannot_be_explored_is_an_error_that_names_it(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--workdir: give the folder of a run"):
        cli.explore([])
    with pytest.raises(UserError, match="--otter"):
        cli.explore([f"--workdir={folder}", "--otter=x"])
    for out in (tmp_path, tmp_path / "none" / "page.html"):
        with pytest.raises(UserError, match="--out: "):
            cli.explore([f"--workdir={folder}", f"--out={out}"])
    broken = untrained(size=float("nan"))
    with pytest.raises(UserError, match="run: its weights are not finite"):
        explorer.fragment(broken, some_data(), name="run")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"no run here \(no config.json\)"):
        cli.explore([f"--workdir={tmp_path / 'nothing'}"])
