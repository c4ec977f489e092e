"""A page in which one moves through the latent space of a run, or of two side by side.

    vae-jax explore --workdir=runs/digits [--other=runs/y] [--out=FILE]

A slider for each latent, the most informative first, with the decoded image at once; a strip of images along the latent
of choice; a map of held-out codes, coloured by class or factor and to the same scale for two runs side by side, where a
click decodes that point and a drag plays the line between two points or images; codes drawn from the run's prior, one
or sixteen; decoded images under the map. Codes of a codebook (vq) are moved by its indices, and the map takes held-out
codes alone: between vectors lies what no decoder was trained on. Between labels (conditional, joint) sliders go there
all the same. Two runs of the same data follow one another from image to image, under headings that say what differs.
The page is one file, WORKDIR/explore.html unless --out says otherwise, that loads nothing; `fragment` is the same for a
page of others.

The decoder itself runs in the page, from weights that decoder_export.py packs, and says how far it is from JAX's images
of a few codes (1e-3 is allowed). The operations are this project's own, some 170 lines in decode.js: dense layers, two
convolutions, a norm, seven activations and the expected grey levels of six likelihoods are all that its decoders are
made of. A runtime would have to be fetched for the page: ONNX Runtime Web 1.30 is 14 MB of WebAssembly, ten
times the weights of the MNIST decoder; TensorFlow.js 4.22 with its CPU backend is 0.43 MB and would do, but comes from
npm alone, which a Python project's users need not have. Both would ask for an exporter as long as decoder_export.py.

Where the browser cannot run the decoder (`missing_support`: too many weights or multiplications, other layers), the
page has images that were rendered beforehand and shows the one whose code is nearest: it says so.
"""

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vae_jax import data, model
from vae_jax.comparison.load_runs import EVALUATIONS, flatten_config
from vae_jax.comparison.results import Number
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.files import reason, write_text
from vae_jax.inference import TrainedModel
from vae_jax.jax_flags import pinned_flags
from vae_jax.phrases import plural
from vae_jax.plots import palette, spread
from vae_jax.plots.captions import run_caption, step_caption
from vae_jax.plots.display import choose_display
from vae_jax.randomness import root_key, stream
from vae_jax.report import decoder_export, markup, plotly_traces
from vae_jax.report.colourings import colourings
from vae_jax.report.decoder_export import pack_array
from vae_jax.report.latent_controls import moving_parts
from vae_jax.report.markup import Html, join, tag
from vae_jax.report.rendered_images import image_sheet, rendered_images, shrink, shrink_factor
from vae_jax.sweeps.group_names import UNGROUPED_FIELDS, format_value, group_name
from vae_jax.training.metric_runner import read_evaluation
from vae_jax.training.open_run import open_run
from vae_jax.training.workdir import read_record

MAX_IMAGES, MAX_PIXELS = 1000, 2_000_000
"""Held-out images on the map, and the numbers in all of them together."""
PRIOR_DRAWS = 128
"""Codes drawn from the prior that a page has, sixteen of which it shows at once."""
MAP_STEPS = 40
"""Of an arrow key from end to end."""

MAX_NAMES = 40
"""Columns of a table that are named."""

MAX_DIFFERENCES = 4
"""Fields that the headings of two runs name at most."""

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (
    *("elements.js", "decode.js", "explore_pictures.js", "explore_controls.js", "explore_strip.js"),
    *("explore_colours.js", "explore_line.js", "explore_map.js", "explore.js"),
)
"""In the order of what each needs of others; a report has the first for itself."""

PAGE_STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 110rem; margin: 1rem auto; padding: 0 1rem; }
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
    names = run_names(folders)
    fragments = [folder_fragment(*pair, checkpoint) for pair in zip(folders, names, strict=True)]
    write_text(file, page(f"Latent space of {' and '.join(names)}", fragments))
    return file


def run_names(folders: Sequence[Path]) -> list[str]:
    """What stands above each run: in what its config differs from the other's; its folder where that says nothing."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    try:
        configs = [flatten_config(read_record(folder / "config.json")["config"]) for folder in folders]
    except (UserError, OSError):  # to open it says why
        return names
    shared = set.intersection(*map(set, configs))
    varying = [field for field in shared if len({format_value(config[field]) for config in configs}) > 1]
    distinct = [field for field in varying if not field.startswith(UNGROUPED_FIELDS)]
    fields = sorted(distinct, key=lambda field: (field != "variant.name", field))
    differences = [group_name(config, fields) for config in configs]
    return differences if 0 < len(fields) <= MAX_DIFFERENCES else names


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
    # In a report the heading of a run is below another.
    body = join(tag("h1", title), tag("div", *fragments, class_="vae-explorers", data_heading="h2"))
    return markup.page(title, PAGE_STYLE + style(), body, _sources(SCRIPTS))


def style() -> str:
    """The style of fragments, for the head of a page. Behind what stays in view is --vae-background, if it is set."""
    return (ASSETS / "explore.css").read_text()


def script() -> str:
    """What makes fragments work, to be run once, after the last of them and after elements.js, as in a report."""
    return _sources(SCRIPTS[1:])


def _sources(names: Sequence[str]) -> str:
    return "".join((ASSETS / name).read_text() for name in names)


def fragment(
    run: TrainedModel, dataset: Dataset, evaluation: dict[str, Any] | None = None, *, name: str, folder: str = ""
) -> Html:
    """The explorer of one run as a piece of HTML; a page of them needs `style`, elements.js and `script` once.

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
    factor, display = shrink_factor(run.image_shape) if reason else 1, choose_display(run.config, images)

    def show(images: np.ndarray) -> np.ndarray:
        return shrink(display(images), factor)

    check_finite(name, "weights", jax.tree.leaves(run.params["nets"]))
    codes = run.encode(images, labels)
    check_finite(name, "codes", [codes])
    parts = moving_parts(run, codes, latent_kl(evaluation, run.latent_dim))
    content = {
        "name": name,
        "about": about(run, "" if folder == name else folder),
        "shape": show(images[:1]).shape[1:],
        "size": run.code_dim,
        "codes": pack_array(codes),
        "mean": pack_array(codes.mean(0)),
        "colour": palette.COLOURS[0],
        "colourings": colourings(dataset, indices),
        "key": zlib.crc32(images.tobytes()),
        **image_sheet(show(images)),
    }
    if reason:
        rendered = rendered_images(run, codes, parts, reason, show)
        if factor > 1:
            rendered["note"] += f" Images are shown at 1/{factor} of their height and width."
        if dataset.columns is not None:
            rendered["note"] += _column_note(dataset.columns.names)
        return content | rendered
    draws = prior_draws(run)
    return {**content, **parts, **_decoder(run, codes, draws), "steps": MAP_STEPS, "draws": pack_array(draws)}


def prior_draws(run: TrainedModel) -> np.ndarray:
    """Codes drawn from the run's own prior; where it is one for each label, of the labels in turn."""
    key = stream(root_key(0), "explorer")
    codes = run.model.variant.sample_prior(run.model.nets, run.params, key, PRIOR_DRAWS, run.latent_dim)
    return np.asarray(codes, np.float32)


def _column_note(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f" A row's columns from left to right: {', '.join(names[:MAX_NAMES])}{more}."


def about(run: TrainedModel, folder: str) -> str:
    """What tells a run from another, in a line that begins with its folder, if that is given."""
    facts = [run_caption(run.config), run.config["net"]["name"], plural(run.latent_dim, "latent")]
    return ", ".join([*([folder] if folder else []), *facts, step_caption(run.config, run.step, run.checkpoint)])


def latent_kl(evaluation: dict[str, Any], latent_dim: int) -> list[Number] | None:
    """The KL of each latent, nats; None where an evaluation does not have it as numbers (JSON's null is a NaN)."""
    kl = evaluation.get("kl")
    if not isinstance(kl, list) or len(kl) != latent_dim or not all(map(plotly_traces.is_finite, kl)):
        return None
    return kl


def _decoder(run: TrainedModel, codes: np.ndarray, draws: np.ndarray) -> dict[str, Any]:
    """The decoder with images to check it by, at these codes and at draws from the prior."""
    decoder, storage = decoder_export.export_decoder(run, np.concatenate([codes, draws]))
    count = min(len(codes), len(draws))
    pairs = np.stack([codes[:count], draws[:count]], axis=1).reshape(-1, run.code_dim)
    return {
        "decoder": decoder,
        "check": decoder_export.reference_images(run, pairs),
        "tolerance": decoder_export.TOLERANCE,
        "note": f"The decoder runs in this page from {storage}",
    }


def check_finite(name: str, what: str, arrays: Sequence[np.ndarray | jax.Array]) -> None:
    """Raises UserError unless all the numbers are finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"{name}: its {what} are not finite; take a run that has not failed")
