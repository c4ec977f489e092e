import base64
import dataclasses
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
from helpers.made_up_comparison import make_comparison, write_report
from helpers.strict_promotion import strict_promotion
from helpers.untrained_run import on_the_page, some_data, untrained
from PIL import Image

from vae_jax import cli
from vae_jax.data import sprites
from vae_jax.errors import UserError
from vae_jax.models import likelihoods
from vae_jax.plots import palette
from vae_jax.report import (
    codebook,
    colourings,
    comparison_files,
    decoder_export,
    explorer,
    latent_controls,
    markup,
    rendered_images,
)
from vae_jax.report.codebook import Codebook

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="runs the page's decoder in node, which is not installed")

IN_NODE = """
const fs = require("fs");
require("vm").runInThisContext(fs.readFileSync(process.argv[1], "utf8"));
const { model, codes } = JSON.parse(fs.readFileSync(0, "utf8"));
const decode = vaeDecoder.decoder(model);
console.log(JSON.stringify(codes.map((code) => Array.from(decode(Float32Array.from(code))))));
"""


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
RESNET = {"net.name": "resnet", "net.hidden": None, "net.widths": "(8, 16, 12)", "shape": (17, 20, 3), "size": 4.0}
PLACES = {"net.name": "grid", "net.hidden": None, "net.width": 6, "shape": (17, 20, 1)}
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
        {**RESNET, **GREY, "likelihood.name": "gaussian", "net.activation": "silu"},
        {**RESNET, "net.widths": "(9,)", "net.depth": 1},
        {**PLACES, "variant.name": "vq", "variant.codes": 7, "variant.dim": 3, "latent_dim": 75},
        {**PLACES, "net.depth": 1, "net.halvings": 3, "latent_dim": 18},
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
    weights = 4 * 9 + 9 + 9 * 12 + 12 + 12 * 64 + 64
    assert decoder_export.missing_support(untrained()) == (
        f"its decoder has {weights} weights, 0.0 MB as float32; a page takes up to 25, 0.0001 MB"
    )


def test_what_would_take_a_browser_too_long_is_named(monkeypatch):
    monkeypatch.setattr(decoder_export, "MAX_PRODUCTS", 1_000_000)
    run = untrained(**{**PLACES, "net.width": 64, "latent_dim": 75})
    blocks = 3 * 9 * 64 + 2 * (9 * 64 * 64 + 64 * 64)  # at each of 5x5 places
    expected = 25 * blocks + 25 * 16 * 64 * 64 + 9 * 10 * 16 * 64
    assert decoder_export.missing_support(run) == (
        f"an image takes {expected / 1e6:,.0f} million multiplications; a page takes up to 1"
    )
    rest = untrained(**{**PLACES, "latent_dim": 77})
    assert "no place on the grid" in decoder_export.missing_support(rest)
    assert "'mine'" in decoder_export.missing_support(
        rest.with_params({**rest.config, "net": {**rest.config["net"], "name": "mine"}}, rest.params, 0)
    )


def test_the_documents_name_the_limit():
    text = (explorer.ASSETS.parents[2] / "docs/live.md").read_text()
    limit, grid = decoder_export.MAX_BYTES, rendered_images
    most = grid.RECONSTRUCTIONS + grid.LATENTS * grid.STEPS + grid.PLANE**2
    assert f"at most {limit // 4:,} weights, {limit / 1e6:g} MB as float32" in text
    assert f"at most {decoder_export.MAX_PRODUCTS / 1e6:g} million multiplications" in text
    for name in decoder_export.NETWORKS:
        assert f"`{name}`" in text
    assert f"up to {most} images rendered beforehand" in text


def test_rendered_images_of_a_large_decoder_are_shown_smaller(monkeypatch):
    monkeypatch.setattr(decoder_export, "MAX_BYTES", 100)
    monkeypatch.setattr(rendered_images, "MAX_RENDERED", 385 * 64 // 8)  # a third of height and width
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
    (classes,) = content["colourings"]
    assert set(classes["indices"][:10]) == set(range(10))  # the first show what there is
    assert classes["values"] == [str(i) for i in range(10)]
    assert not classes["ordered"]
    colour = rendered_images.image_sheet(some_data((5, 7, 3)).test.fetch(np.arange(30)) / np.float32(255))
    np.testing.assert_array_equal(
        tiles(colour, (5, 7, 3))[:30], np.asarray(some_data((5, 7, 3)).test.fetch(np.arange(30)))
    )


def test_sliders_are_ordered_by_kl_or_by_variance():
    run = untrained()
    spread = np.array([0.5, 2.0, 1.0, 0.1], np.float32)
    codes = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * spread
    by_variance = latent_controls.latent_sliders(run, codes, None)
    assert [slider["dimension"] for slider in by_variance] == [1, 2, 0, 3]
    assert by_variance[0]["low"] <= codes[:, 1].mean() - 3 * codes[:, 1].std()
    by_kl = latent_controls.latent_sliders(run, codes, [0.1, 0.2, 3.0, 0.3])
    assert [slider["dimension"] for slider in by_kl] == [2, 3, 1, 0]
    assert by_kl[0]["detail"] == "3.00 nats"
    assert by_kl[3]["low"] == -3
    assert by_kl[3]["high"] == 3
    assert by_kl[2]["low"] == codes[:, 1].min() < -3
    assert latent_controls.latent_planes(run, codes, [0.1, 0.2, 3.0, 0.3], 2.0)[1]["axes"] == ["latent 2", "latent 3"]


@pytest.mark.parametrize("latents", [1, 2, 5])
def test_a_map_is_orthonormal_and_holds_every_code(latents):
    run = untrained(latent_dim=latents)
    codes = some_codes(run, 40) + 5
    for plane in latent_controls.latent_planes(run, codes, None, 2.0):
        directions = np.array(plane["directions"])
        np.testing.assert_allclose(directions @ directions.T, np.diag([1, latents > 1]), atol=1e-6)
        points = codes @ directions.T - np.array(plane["offsets"])
        (left, right), (low, high) = plane["extent"]
        assert np.all((points > [left, low]) & (points < [right, high]))
        assert right - left == pytest.approx(high - low)  # to scale
        origin = -np.array(plane["offsets"])  # N(0, I) to two standard deviations
        assert np.all((origin - 2 > [left, low]) & (origin + 2 < [right, high]))
    if latents == 5:  # the main axes are those of most variance
        points = codes @ np.array(latent_controls.latent_planes(run, codes, None, 2.0)[0]["directions"]).T
        values = np.linalg.eigvalsh(np.cov(codes.T))
        np.testing.assert_allclose(np.cov(points.T), np.diag(values[:-3:-1]), atol=1e-4)


def test_a_collapsed_run_does_not_fill_its_map():
    run = untrained()
    plane = latent_controls.latent_planes(run, 1e-3 * some_codes(run, 40), None, 2.0)[0]
    assert np.diff(plane["extent"]).min() > 4


@pytest.mark.parametrize("labels", [[0, 1, 2, 255], [3], list(range(11)), list(range(26))])
def test_labels_that_occur_have_a_colour_each(labels):
    classes = colourings.class_colouring(np.array(labels * 2))
    assert len(set(classes["colours"])) == len(classes["values"]) == len(labels)
    assert classes["values"] == [str(label) for label in labels]
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in classes["colours"])


def test_two_runs_are_told_apart():
    run, other = untrained(), untrained(**{"variant.beta": 4.0, "seed": 2})
    assert explorer.about(run, "") == "beta, seed 0, mlp, 4 latents, latest checkpoint, step 0 of 10,000"
    content = explorer.exploration(other, some_data(), {}, "best of its group", "beta4_s2")
    assert content["about"] == "beta4_s2, beta beta=4, seed 2, mlp, 4 latents, latest checkpoint, step 0 of 10,000"
    assert explorer.exploration(run, some_data(), {}, "a", "a")["about"] == explorer.about(run, "")


@pytest.mark.parametrize("kl", [None, "0.1", [1.0], [1.0, None, 0.0, 0.0], [1.0, "x", 0.0, 0.0], [1.0, math.nan, 0, 0]])
def test_a_damaged_kl_is_none(kl):
    assert explorer.latent_kl({"kl": kl}, 4) is None
    assert explorer.latent_kl({"kl": [1.0, 0, 2.5, 0.0]}, 4) == [1.0, 0, 2.5, 0.0]


def test_a_kl_that_rounds_to_zero_has_no_sign():
    run = untrained()
    assert latent_controls.latent_sliders(run, some_codes(run), [-1e-4] * 4)[0]["detail"] == "0.00 nats"


def test_a_code_beside_the_latents_has_sliders_too():
    content = explorer.exploration(
        untrained(**{"variant.name": "conditional"}), some_data(), {"kl": [1.0, 2.0, 0.0, 0.5]}, "run"
    )
    assert [slider["name"] for slider in content["sliders"]][3:6] == ["latent 2", "class 0", "class 1"]
    assert content["size"] == 14
    assert (content["sliders"][4]["low"], content["sliders"][4]["high"]) == (0, 1)


def test_factors_are_colourings_in_their_order_or_without():
    grid = sprites.load(sizes=(3, 2, 1, 5, 12), resolution=8, split="random 0.5")
    order = np.arange(100)
    found = {each["name"]: each for each in colourings.colourings(grid, order)}
    assert list(found) == ["shape", "scale", "x", "y"]  # the orientation has one value, and there are no labels
    classes = np.asarray(grid.test.factors(jnp.asarray(order)))
    for number, name in ((0, "shape"), (1, "scale"), (3, "x"), (4, "y")):
        assert found[name]["indices"] == classes[:, number].tolist()
    assert [found[name]["ordered"] for name in found] == [False, True, True, True]
    assert found["shape"]["colours"] == list(palette.LABEL_COLOURS[:3])
    assert found["y"]["colours"] == palette.ramp_colours(12)
    assert found["y"]["values"] == [str(value) for value in range(12)]
    both = grid._replace(test=dataclasses.replace(grid.test, labels=np.arange(grid.test.size) % 2))
    assert [each["name"] for each in colourings.colourings(both, order)][:2] == ["class", "shape"]


VQ = {"variant.name": "vq", "variant.codes": 24, "variant.dim": 2}
FSQ = {"variant.name": "vq", "variant.quantizer": "fsq", "variant.levels": "(3, 4)"}


@pytest.mark.parametrize(("fields", "size"), [(VQ, 24), (FSQ, 12)])
def test_a_codebook_has_a_control_for_each_group(fields, size):
    run, dataset = untrained(**fields), some_data()
    content = explorer.exploration(run, dataset, {}, "run")
    given, codes = content["codebook"], unpacked(content["codes"]).reshape(-1, 2, 2)
    assert (given["size"], given["dim"], given["shared"]) == (size, 2, True)
    vectors = unpacked(given["vectors"]).reshape(size, 2)
    assert [slider["dimension"] for slider in content["sliders"]] == [0, 2]
    book = Codebook.measure(run)
    np.testing.assert_array_equal(vectors[book.assign(codes.reshape(-1, 4))], codes)
    for slider, group in zip(content["sliders"], codes.swapaxes(0, 1), strict=True):
        use = [np.all(group == vector, axis=1).sum() for vector in vectors]
        assert slider["detail"] == f"{np.count_nonzero(use)} of {size} used"
        assert [use[index] for index in slider["common"]] == sorted(use, reverse=True)[: len(slider["common"])]
    draws = unpacked(content["draws"]).reshape(-1, 2, 2)
    np.testing.assert_array_equal(vectors[book.assign(draws.reshape(-1, 4))], draws)
    check = unpacked(content["check"]["codes"]).reshape(-1, 2, 2)
    np.testing.assert_array_equal(vectors[book.assign(check.reshape(-1, 4))], check)
    assert {plane["radius"] for plane in content["planes"]} == {0.0}  # its prior is no N(0, I)


def test_a_codebook_of_each_group_is_told_apart():
    vectors = np.float32(np.random.default_rng(0).normal(size=(2, 5, 2)))
    book = Codebook(vectors, 2)
    index = np.array([[0, 4], [3, 3]], np.int32)
    codes = np.concatenate([vectors[0][index[:, 0]], vectors[1][index[:, 1]]], axis=1)
    np.testing.assert_array_equal(book.assign(codes), index)
    assert not codebook.indices(book, codes)["codebook"]["shared"]


def test_images_of_a_codebook_are_rendered_for_vectors_alone(monkeypatch):
    monkeypatch.setattr(decoder_export, "MAX_BYTES", 100)
    run = untrained(**VQ)
    content = explorer.exploration(run, some_data(), {}, "large")
    book = Codebook.measure(run)
    codes = unpacked(content["grid"]["codes"]).reshape(-1, 4)
    np.testing.assert_array_equal(book.vectors[0][book.assign(codes)].reshape(-1, 4), codes)
    first = unpacked(content["codes"])[:4]
    for slider in content["sliders"]:
        for index in slider["allowed"]:
            moved = first.copy()
            moved[slider["dimension"] : slider["dimension"] + 2] = book.vectors[0][index]
            assert np.abs(codes - moved).max(1).min() == 0


def test_a_codebook_that_is_too_large_has_no_controls(monkeypatch):
    monkeypatch.setattr(codebook, "MAX_BYTES", 100)
    content = explorer.exploration(untrained(**VQ), some_data(), {}, "large")
    assert content["sliders"] == []
    assert content["codebook"]["vectors"] == ""


def test_two_runs_are_headed_by_what_differs(tmp_path):
    def write(name, **fields):
        (tmp_path / name).mkdir()
        tree = {"seed": 0, "train": {"steps": 10, "dispatch": 1}, "variant": {"name": "beta", "beta": 1.0}, **fields}
        (tmp_path / name / "config.json").write_text(json.dumps({"config": tree}))
        return tmp_path / name

    first, other = write("a"), write("b", variant={"name": "beta", "beta": 4.0}, train={"steps": 10, "dispatch": 2})
    tcvae = write("c", variant={"name": "tcvae", "alpha": 1.0}, seed=3)
    assert explorer.run_names([first]) == ["a"]
    assert explorer.run_names([first, other]) == ["beta=1", "beta=4"]
    assert explorer.run_names([first, tcvae]) == ["beta seed=0", "tcvae seed=3"]
    assert explorer.run_names([first, write("d")]) == ["a", "d"]  # the same config
    assert explorer.run_names([first, first]) == [str(first)] * 2
    many = {f"field_{i}": i for i in range(6)}
    pair = [write("e", net=many), write("f", net={name: value + 1 for name, value in many.items()})]
    assert explorer.run_names(pair) == ["e", "f"]
    assert explorer.run_names([first, tmp_path / "nothing"]) == ["a", "nothing"]


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


@pytest.mark.parametrize("place", ["explorers", "report"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_page_has_the_script_that_its_others_need_once_and_first(tmp_path, place, count):
    fragments = [markup.tag("section", "a latent space", class_="vae-explorer")] * count
    if place == "report":
        pytest.importorskip("plotly", reason="plotly is not installed; the extra 'compare' brings it")
        text = write_report(tmp_path, make_comparison(), fragments).read_text(encoding="utf-8")
    else:
        text = explorer.page("explorers", fragments)
    assert text.count("function make(tag") == 1
    assert text.count("globalThis.vaeElements ??=") == 1
    elements, rest = (explorer.ASSETS / "elements.js").read_text(), explorer.script()
    assert f"<script>{elements}" in text
    assert (rest in text.partition(elements)[2]) == (place == "explorers" or count > 0)
