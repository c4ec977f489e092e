"""Trains a run on a person's own images, from Python."""

import secrets
import tempfile
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax import registry
from vae_jax.api import image_source
from vae_jax.api.image_source import ImageArrays, point_to_arrays, taken_back, write_arrays
from vae_jax.api.keywords import keyword_errors, python_errors, set_keywords
from vae_jax.api.trained_run import TrainedRun, train_folder
from vae_jax.config.command_line import command
from vae_jax.config.parse import check_config
from vae_jax.errors import UserError, errors_of
from vae_jax.files import user_path
from vae_jax.model import SECTIONS
from vae_jax.phrases import join_names
from vae_jax.screen import wrap_text
from vae_jax.sweeps import study

ARRAY_FIELDS = ("data.path", "data.images", "data.labels", "data.test_images", "data.test_labels", "data.factors")
"""Fields that say where arrays are, which `fit` knows of those that it is given."""


def fit(
    images: Any,
    labels: Any = None,
    *,
    variant: Any = None,
    net: Any = None,
    likelihood: Any = None,
    workdir: str | Path | None = None,
    start: str = "",
    **fields: Any,
) -> TrainedRun:
    """Trains a variational autoencoder on images: the same run, in the same folder, as the command line makes.

    vae_jax.fit(images, variant="beta", beta=4.0, net="conv", latent_dim=10, steps=20_000)

    Arrays are written unchanged into the run's folder, and the config names that file; so the printed command repeats
    the run. An array that is mapped from an .npy file, `np.load(file, mmap_mode="r")`, stays in that file, whatever its
    size. The same call with the same `workdir` resumes a stopped run.

    The images decide the likelihood and `binarize`, unless you name them. Black and white images (all 0 and 1, or 0 and
    255), and nearly black and white ones, get a Bernoulli at each pixel. Other grey levels and colours keep their
    values, under a Gaussian with one learned scale; so do numbers of any size, with a linear mean. A printed line says
    what was chosen.

    Args:
        images: an array, (n, height, width) or (n, height, width, channels): bool, uint8 and other integers from 0 to
            255, uint16 from 0 to 65535, floats from 0 to 1, or in another range with `range=(-1, 1)`; numbers of any
            size with `binarize="real"`. Or the rows of a table, (n, columns), NaN where a number is missing. Or a
            `vae_jax.data.Dataset`, a function that loads one, or a config: a ConfigDict, a name ("digits"), a file.
        labels: (n,) the class of each image, whole numbers or names; only beside an array.
        variant: the objective: a name ("beta", "factor", ...; docs/variants.md), a `make(likelihood)`, its module, or a
            Variant.
        net: the networks: a name ("mlp", "conv", "resnet"), a `make(image_shape, latent_dim, channels, shared)`, or a
            pair of flax linen modules, encoder and decoder, as `networks.from_linen` takes them.
        likelihood: a name, a `make()`, or a Likelihood.
        workdir: the folder of the run; by default a new one in the temporary folder, which is kept.
        start: "runs/other" or "runs/other:best", a run whose weights this one begins with; empty for random weights.
        fields: any field of the config (vae_jax/config/defaults.py). `steps`, `batch_size`, `learning_rate`, `seed`,
            `latent_dim`; those of the variant, the net, the likelihood, train and data by their own names (`beta=4.0`,
            `hidden=(512, 256)`, `test=0.2`); any by its dotted name (`**{"train.schedule": "cosine"}`).

    Returns:
        The model at its last step. An object that cannot be imported by name is never pickled: to open its run again,
        give the object again, `vae_jax.open_run(folder, net=...)`.

    Raises:
        UserError: if an argument is wrong, naming it, or if the run diverged.
        KeyboardInterrupt: if the run was stopped, once all is saved.
    """
    keywords = given_sections(variant=variant, net=net, likelihood=likelihood) | fields
    config, arrays, said = make_config(images, labels, keywords)
    folder = choose_folder(workdir, "run")
    if study.has_plan(folder):
        raise UserError(f"workdir: {str(folder)!r} is the folder of a study; give another")
    print(said, end="", flush=True)
    files = [] if arrays is None else [point_to_arrays(config, arrays, folder)]
    with taken_back(files, proof=folder / "config.json"), keyword_errors({}):
        if arrays is not None:
            write_arrays(files[0], arrays)
        run = train_folder(config, folder, start)
    print(wrap_text(repeat_line(config, folder)), flush=True)
    return run


def choose_folder(workdir: str | Path | None, noun: str) -> Path:
    """The folder that was given; one of its own in the temporary folder, which is said, where none was."""
    if workdir is not None:
        with errors_of("workdir: "):
            return user_path(workdir)
    folder = Path(tempfile.gettempdir()) / f"vae_jax_{noun}_{secrets.token_hex(4)}"
    print(wrap_text(f"workdir: this {noun} is kept in {folder}"), flush=True)
    return folder


def given_sections(**sections: Any) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in sections.items() if value is not None}


def make_config(images: Any, labels: Any, keywords: dict[str, Any]) -> tuple[ConfigDict, ImageArrays | None, str]:
    """(the checked config, the arrays where there are some, the line that says what was chosen) of `fit`'s arguments.

    Raises UserError naming the argument that is wrong.
    """
    with python_errors():
        config, arrays = image_source.read_source(images, labels)
    names = set_keywords(config, keywords, ARRAY_FIELDS if arrays is not None else ())
    said = ""
    with keyword_errors(names):
        if arrays is not None:
            shown = image_source.some_images(image_source.check_arrays(arrays, config.data))
            said = image_source.choose_likelihood(config, shown, frozenset(names.values()))
        elif not isinstance(images, (ConfigDict, str, Path)):
            shown = image_source.sample_images(config.data)
            said = image_source.choose_likelihood(config, shown, frozenset(names.values()))
        check_config(config)
    return config, arrays, f"{wrap_text(said)}\n" if said else ""


def repeat_line(config: ConfigDict, folder: Path) -> str:
    """How the command line repeats a run, or what it would need."""
    unnamed = [section for section in SECTIONS if registry.is_object(config[section].name)]
    if unnamed:
        words = ", ".join(f"{section}=..." for section in unnamed)
        return (
            f"{join_names(unnamed)}: an object that cannot be imported; to open this run again: "
            f"vae_jax.open_run({str(folder)!r}, {words})"
        )
    again = folder.with_name(f"{folder.name}_again")
    return f"to repeat it   {command('train', [f'--config={folder}/config.json', f'--workdir={again}'])}"
