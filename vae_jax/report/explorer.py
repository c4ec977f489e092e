"""A page in which one moves through the latent space of a run, or of two side by side.

    vae-jax explore --workdir=runs/digits [--other=runs/y] [--out=FILE]

A slider for each latent, the most informative first, with the decoded image at once; a map of held-out codes, to the
same scale for two runs side by side, where a click decodes that point and a drag plays the line between two points or
images; codes drawn from the run's prior, one or sixteen; decoded images under the map. Two runs of the same data
follow one another from image to image. The page is one file, WORKDIR/explore.html
unless --out says otherwise, that loads nothing; `fragment` is the same for a page of others.

The decoder itself runs in the page, from weights that decoder_export.py packs, and says how far it is from JAX's images
of a few codes (1e-3 is allowed). The operations are this project's own, about 100 lines in decode.js: dense layers, a
transposed convolution, seven activations and the expected grey levels of six likelihoods are all that its decoders are
made of. A runtime would have to be fetched for the page: ONNX Runtime Web 1.30 is 14 MB of WebAssembly, ten
times the weights of the MNIST decoder; TensorFlow.js 4.22 with its CPU backend is 0.43 MB and would do, but comes from
npm alone, which a Python project's users need not have. Both would ask for an exporter as long as decoder_export.py.

Where the browser cannot run the decoder (`missing_support`: too many weights, other layers), the page has images that
were rendered beforehand and shows the one whose code is nearest: it says so. Between the vectors of a codebook (vq) and
between labels (conditional, joint) lies what no decoder was trained on; sliders go there all the same.
"""

import io
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from vae_jax import data, model
from vae_jax.comparison.load_runs import EVALUATIONS
from vae_jax.comparison.results import Number
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.files import reason, write_text
from vae_jax.inference import TrainedModel
from vae_jax.jax_flags import pinned_flags
from vae_jax.phrases import plural
from vae_jax.plots import palette, spread
from vae_jax.plots.captions import format_fixed, run_caption, step_caption
from vae_jax.plots.display import choose_display
from vae_jax.randomness import root_key, stream
from vae_jax.report import decoder_export, markup, plotly_traces
from vae_jax.report.decoder_export import pack_array
from vae_jax.report.markup import Html, join, tag
from vae_jax.training.metric_runner import read_evaluation
from vae_jax.training.open_run import open_run

MAX_IMAGES, MAX_PIXELS = 1000, 2_000_000
"""Held-out images on the map, and the numbers in all of them together."""
PRIOR_DRAWS = 128
"""Codes drawn from the prior that a page has, sixteen of which it shows at once."""
PRIOR_RADIUS = 2.0
"""Of the circle that a map shows of N(0, I), in its standard deviations."""
SLIDER_STEPS, MAP_STEPS = 200, 40
"""Of an arrow key from end to end."""
RENDERED_LATENTS, RENDERED_STEPS, RENDERED_PLANE, RENDERED_IMAGES = 10, 11, 15, 50
"""Of a grid rendered beforehand: latents moved and steps of each, points along a side of the map, reconstructions."""
MAX_RENDERED = 6_000_000
"""Numbers in all images that are rendered beforehand; larger images are shown smaller."""
EXTRA_NAMES = {"conditional": "class", "joint": "category"}
"""What the numbers of a code beside the latents stand for, by variant."""

MAX_NAMES = 40
"""Columns of a table that are named."""

ASSETS = Path(__file__).parent / "assets"

Real = Number | np.floating

PAGE_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 1rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
"""


@pinned_flags()
def write(folders: Sequence[Path], out: Path | None = None, checkpoint: str = "latest") -> Path:
    """Writes the page of the runs in `folders`, one or two, side by side; its file, explore.html in the first.

    Raises UserError where one holds no run, and where the page cannot be written.
    """
    file = out or folders[0] / "explore.html"
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UserError(f"--out: {str(out)!r} is not a file in a folder that is there")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    fragments = [folder_fragment(*pair, checkpoint) for pair in zip(folders, names, strict=True)]
    write_text(file, page(f"Latent space of {' and '.join(names)}", fragments))
    return file


def folder_fragment(folder: Path, name: str, checkpoint: str = "latest") -> Html:
    """The fragment of the run in `folder` at its latest or its best checkpoint, under the heading `name`.

    Raises UserError where there is none, and where its files do not make one.
    """
    try:
        run = open_run(folder, checkpoint)
        dataset = model.load_data(run.config["data"])
    except UserError:
        raise
    except (TypeError, KeyError, ValueError, AttributeError, OSError) as error:
        raise UserError(f"{folder}: its files are damaged ({type(error).__name__}: {reason(error)})") from None
    evaluation = read_evaluation(folder / EVALUATIONS[checkpoint], run.step)
    return fragment(run, dataset, evaluation, name=name, folder=folder.resolve().name)


def page(title: str, fragments: Sequence[Html]) -> Html:
    """An HTML page of fragments side by side, which its own policy forbids to load anything."""
    body = join(tag("h1", title), tag("div", *fragments, class_="vae-explorers"))
    return markup.page(title, PAGE_STYLE + style(), body, script())


def style() -> str:
    """The style of fragments, for the head of a page. Behind what stays in view is --vae-background, if it is set."""
    return (ASSETS / "explore.css").read_text()


def script() -> str:
    """What makes fragments work, to be run once, after the last of them."""
    return "".join((ASSETS / name).read_text() for name in ("decode.js", "explore.js"))


def fragment(
    run: TrainedModel, dataset: Dataset, evaluation: dict[str, Any] | None = None, *, name: str, folder: str = ""
) -> Html:
    """The explorer of one run as a piece of HTML; a page of any number of them needs `style` and `script` once.

    Those of the same data within one element of class "vae-explorers" follow one another.

    Args:
        run: the model.
        dataset: its held-out images are shown.
        evaluation: what evaluation.json holds, if there is one.
        name: the heading.
        folder: the name of the run's folder, which is said below a heading that is another.

    Raises:
        UserError: where the run's weights or codes are not finite.
    """
    content = markup.data(f"explorer-{name}", exploration(run, dataset, evaluation or {}, name, folder))
    fallback = tag("noscript", f"{name}: the latent explorer needs JavaScript.")
    return tag("section", content, fallback, class_="vae-explorer")


def exploration(
    run: TrainedModel, dataset: Dataset, evaluation: dict[str, Any], name: str, folder: str = ""
) -> dict[str, Any]:
    """What explore.js reads of a run."""
    test, count = dataset.test, min(MAX_IMAGES, max(1, MAX_PIXELS // math.prod(run.image_shape)))
    indices = data.sample_indices(test, count)
    indices = indices[spread.spread_positions(test, indices, count)]  # the first are shown first
    images = np.asarray(test.fetch(indices))
    labels = None if test.labels is None else np.asarray(test.labels)[indices]
    reason = decoder_export.missing_support(run)
    factor, display = _shrink_factor(run.image_shape) if reason else 1, choose_display(run.config, images)

    def show(images: np.ndarray) -> np.ndarray:
        return shrink(display(images), factor)

    check_finite(name, "weights", jax.tree.leaves(run.params["nets"]))
    codes = run.encode(images, labels)
    check_finite(name, "codes", [codes])
    kl = known_kl(evaluation, run.latent_dim)
    sliders, planes = latent_sliders(run, codes, kl), latent_planes(run, codes, kl)
    content = {
        "name": name,
        "about": about(run, "" if folder == name else folder),
        "shape": show(images[:1]).shape[1:],
        "size": run.code_dim,
        "codes": pack_array(codes),
        "mean": pack_array(codes.mean(0)),
        **class_names(labels),
        "key": zlib.crc32(images.tobytes()),
        **image_sheet(show(images)),
    }
    if reason:
        rendered = rendered_images(run, codes, sliders, planes[:1], reason, show)
        if factor > 1:
            rendered["note"] += f" Images are shown at 1/{factor} of their height and width."
        if dataset.columns is not None:
            rendered["note"] += _column_note(dataset.columns.names)
        return content | rendered
    moving = {"sliders": sliders, "planes": planes, "steps": MAP_STEPS, "draws": prior_draws(run)}
    return content | {**_decoder(run, codes), **moving}


def prior_draws(run: TrainedModel) -> str:
    """Codes drawn from the run's own prior, packed; where it is one for each label, of the labels in turn."""
    key = stream(root_key(0), "explorer")
    codes = run.model.variant.sample_prior(run.model.nets, run.params, key, PRIOR_DRAWS, run.latent_dim)
    return pack_array(np.asarray(codes, np.float32))


def _shrink_factor(image_shape: tuple[int, int, int]) -> int:
    """By what height and width are divided, so that rendered images are no more than MAX_RENDERED numbers."""
    count = RENDERED_IMAGES + RENDERED_LATENTS * RENDERED_STEPS + RENDERED_PLANE**2
    factor = math.ceil(math.sqrt(count * math.prod(image_shape) / MAX_RENDERED))
    return min(factor, min(image_shape[:2]))


def shrink(images: Float[np.ndarray, "image height width channels"], factor: int) -> np.ndarray:
    """Images whose pixels are the means of factor x factor of theirs; what is over at the edges is cut off."""
    if factor == 1:
        return images
    count, height, width, channels = images.shape
    rows, columns = height // factor, width // factor
    cut = images[:, : rows * factor, : columns * factor]
    return cut.reshape(count, rows, factor, columns, factor, channels).mean(axis=(2, 4))


def _column_note(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f" A row's columns from left to right: {', '.join(names[:MAX_NAMES])}{more}."


def about(run: TrainedModel, folder: str) -> str:
    """What tells a run from another, in a line that begins with its folder, if that is given."""
    facts = [run_caption(run.config), run.config["net"]["name"], plural(run.latent_dim, "latent")]
    return ", ".join([*([folder] if folder else []), *facts, step_caption(run.config, run.step, run.checkpoint)])


def known_kl(evaluation: dict[str, Any], latent_dim: int) -> list[Number] | None:
    """The KL of each latent, nats; None where an evaluation does not have it as numbers (JSON's null is a NaN)."""
    kl = evaluation.get("kl")
    if not isinstance(kl, list) or len(kl) != latent_dim or not all(map(plotly_traces.is_finite, kl)):
        return None
    return kl


def class_names(labels: np.ndarray | None) -> dict[str, Any]:
    """The names of the classes that occur, a colour for each, and which of them each image has."""
    if labels is None:
        return {"classes": [], "colours": [palette.LABEL_COLOURS[0]], "labels": None}
    classes, indices = np.unique(labels, return_inverse=True)
    colours = palette.label_colours(len(classes))
    return {"classes": [str(label) for label in classes], "colours": colours, "labels": indices.tolist()}


def _decoder(run: TrainedModel, codes: np.ndarray) -> dict[str, Any]:
    """The decoder with images to check it by, at these codes and at draws from the prior."""
    prior = np.random.default_rng(0).normal(size=codes.shape).astype(np.float32)
    decoder, storage = decoder_export.export_decoder(run, np.concatenate([codes, prior]))
    return {
        "decoder": decoder,
        "check": decoder_export.reference_images(run, np.stack([codes, prior], axis=1).reshape(-1, run.code_dim)),
        "tolerance": decoder_export.TOLERANCE,
        "note": f"The decoder runs in this page from {storage}",
    }


def check_finite(name: str, what: str, arrays: Sequence[np.ndarray | jax.Array]) -> None:
    """Raises UserError unless all the numbers are finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"{name}: its {what} are not finite; take a run that has not failed")


def latents_by_information(run: TrainedModel, codes: np.ndarray, kl: Sequence[Number] | None) -> list[int]:
    """The latents, of most KL first; by the variance of their codes where there is no KL."""
    return np.argsort(-np.asarray(codes[:, : run.latent_dim].var(0) if kl is None else kl), kind="stable").tolist()


def latent_sliders(run: TrainedModel, codes: np.ndarray, kl: Sequence[Number] | None) -> list[dict[str, Any]]:
    """A slider for each latent, over the prior's range (without a KL three standard deviations) and all its codes.

    Then one for each number of the code beside the latents.
    """
    sliders = []
    for i in latents_by_information(run, codes, kl):
        mean, deviation = (codes[:, i].mean(), codes[:, i].std()) if kl is None else (0, 1)
        detail = f"sd {format_fixed(deviation, 2)}" if kl is None else f"{format_fixed(kl[i], 2)} nats"
        low, high = min(mean - 3 * deviation, codes[:, i].min()), max(mean + 3 * deviation, codes[:, i].max())
        sliders.append(make_slider(i, f"latent {i}", detail, low, high))
    extra = EXTRA_NAMES.get(run.config["variant"]["name"], "number")
    for i in range(run.latent_dim, run.code_dim):
        sliders.append(make_slider(i, f"{extra} {i - run.latent_dim}", "", codes[:, i].min(), codes[:, i].max()))
    return sliders


def make_slider(dimension: int, name: str, detail: str, low: Real, high: Real) -> dict[str, Any]:
    """A slider of one number of the code."""
    low, high = widen(low, high)
    return {"dimension": dimension, "name": name, "detail": detail, "low": low, "high": high, "steps": SLIDER_STEPS}


def widen(low: Real, high: Real) -> tuple[float, float]:
    """The interval, or one of length 2 about what is a point."""
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def latent_planes(run: TrainedModel, codes: np.ndarray, kl: Sequence[Number] | None) -> list[dict[str, Any]]:
    """The maps: of two latents both, of more the two main axes of the latents, and the two most informative latents."""
    latents, pair = codes[:, : run.latent_dim], latents_by_information(run, codes, kl)[:2]
    units = np.eye(run.code_dim, dtype=np.float32)
    if run.latent_dim == 1:
        return [make_plane("the latent", ["latent 0", ""], codes, np.stack([units[0], 0 * units[0]]), 0 * codes[0])]
    if run.latent_dim == 2:
        return [make_plane("the two latents", ["latent 0", "latent 1"], codes, units[:2], 0 * codes[0])]
    axes = np.linalg.svd(latents - latents.mean(0), full_matrices=False)[2][:2]
    axes = np.pad(axes, ((0, 2 - len(axes)), (0, run.code_dim - run.latent_dim)))
    return [
        make_plane("the two principal axes", ["first axis", "second axis"], codes, axes, codes.mean(0)),
        make_plane("the two most informative latents", [f"latent {i}" for i in pair], codes, units[pair], 0 * codes[0]),
    ]


def make_plane(
    name: str, axes: list[str], codes: np.ndarray, directions: np.ndarray, origin: np.ndarray
) -> dict[str, Any]:
    """The map z -> D (z - origin) of orthonormal rows D, and a square on it that holds the codes and N(0, I)'s 2 sd."""
    points, offsets = (codes - origin[None]) @ directions.T, directions @ origin
    # The circle of N(0, I), whose centre is the place of the code 0.
    low = np.minimum(points.min(0), -offsets - PRIOR_RADIUS)
    high = np.maximum(points.max(0), -offsets + PRIOR_RADIUS)
    centre, half = (low + high) / 2, 1.05 * float((high - low).max()) / 2
    extent = [(float(middle) - half, float(middle) + half) for middle in centre]
    numbers = {"directions": directions.tolist(), "offsets": offsets.tolist(), "extent": extent}
    return {"name": name, "axes": axes, "radius": PRIOR_RADIUS, **numbers}


def rendered_images(
    run: TrainedModel, codes: np.ndarray, sliders: list[dict], planes: list[dict], reason: str, show: Callable
) -> dict[str, Any]:
    """Images in the place of the decoder: the first code with one latent moved, the map's points, reconstructions."""
    sliders = [{**slider, "steps": RENDERED_STEPS - 1} for slider in sliders[:RENDERED_LATENTS]]
    traversals = np.repeat(codes[None, :1], len(sliders), axis=0).repeat(RENDERED_STEPS, axis=1)
    for row, slider in zip(traversals, sliders, strict=True):
        row[:, slider["dimension"]] = np.linspace(slider["low"], slider["high"], RENDERED_STEPS)
    directions = np.asarray(planes[0]["directions"], np.float32)
    x, y = np.meshgrid(*(np.linspace(low, high, RENDERED_PLANE) for low, high in planes[0]["extent"]))
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    origin = directions @ codes[0] - np.asarray(planes[0]["offsets"], np.float32)
    map_codes = codes[:1] + (points - origin[None]) @ directions
    all_codes = np.concatenate([codes[:RENDERED_IMAGES], *traversals, map_codes]).astype(np.float32)
    note = (
        f"Not decoded in this page: {reason}. Of {len(all_codes)} images rendered beforehand it shows the one whose "
        f"code is nearest; sliders move {len(sliders)} latents of the first image, one at a time."
    )
    return {
        "grid": {"codes": pack_array(all_codes), **image_sheet(show(run.decode(all_codes)))},
        "note": note,
        "sliders": sliders,
        "planes": planes,
        "steps": RENDERED_PLANE - 1,
    }


def image_sheet(images: np.ndarray) -> dict[str, Any]:
    """Images (n, height, width, channels) in [0, 1], side by side in rows, as the address of one PNG."""
    from PIL import Image

    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    tiles = np.zeros((rows * columns, *images.shape[1:]), np.uint8)
    tiles[:n] = np.clip(np.round(255 * images), 0, 255)
    grid = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    picture = grid.reshape(rows * height, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if channels == 1 else picture).save(file, "PNG", optimize=True)
    address = f"data:image/png;base64,{pack_array(np.frombuffer(file.getvalue(), np.uint8), 'uint8')}"
    return {"images": address, "columns": columns}
