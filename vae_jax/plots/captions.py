"""The words of pictures: which run one is of, and numbers that carry no sign where they round to zero."""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from vae_jax import registry, variants
from vae_jax.config import defaults
from vae_jax.errors import UserError
from vae_jax.phrases import printable
from vae_jax.typing import Config

Real = float | int | np.floating

ZERO = re.compile(r"[+-]?[0.,]+%?")
"""What zero looks like, to any number of digits."""


def variant_caption(config: Config) -> str:
    """The variant of a run, with those of its own fields that are not at their defaults: "beta beta=4"."""
    section = config["variant"]
    try:
        known = variants.defaults(section["name"])
    except UserError:  # it was of the user's own, and is no longer to be found
        known = {}
    changed = {
        field: value
        for field, value in section.items()
        if field != "name" and (field not in known or known[field] != value)
    }
    return printable(" ".join([section["name"], *(f"{field}={_format(value)}" for field, value in changed.items())]))


def run_caption(config: Config) -> str:
    """What tells a run from others of its kind: its variant, with what is not at its default, and its seed."""
    return f"{variant_caption(config)}, seed {config['seed']}"


def step_caption(config: Config, step: int, checkpoint: str) -> str:
    """Which checkpoint of a run it is: "last step", "best checkpoint, step 3,000 of 10,000".

    Args:
        config: the run's.
        step: at which it was saved.
        checkpoint: as what it was opened, "latest" or "best".
    """
    steps = config["train"]["steps"]
    where = "last step" if step == steps else f"step {step:,} of {steps:,}"
    return where if step == steps and checkpoint == "latest" else f"{checkpoint} checkpoint, {where}"


SCORES = ("elbo", "bound", "distortion")
"""What a caption says of a run, the first that it has."""

SHOWN_SECTIONS = ("net", "likelihood", "data", "train", "schedule")
"""Of the config, whose fields a caption names where they are not the default's."""

UNSHOWN = ("name", "path", "steps", "dispatch")
"""Fields of them that a caption says elsewhere, or that change no number."""

CUT = " \N{MIDDLE DOT} "
"""Between the parts of a caption."""


def picture_caption(config: Config, step: int, checkpoint: str, numbers: Mapping[str, Any], split: str = "test") -> str:
    """Which run a picture is of, in a line that may be cut at its end, what tells most of it first.

    "beta-VAE, beta=4 \N{MIDDLE DOT} digits \N{MIDDLE DOT} seed 0 \N{MIDDLE DOT} test ELBO -23.31 \N{PLUS-MINUS SIGN}
    0.25 nats \N{MIDDLE DOT} last checkpoint, step 10,000 \N{MIDDLE DOT} net=conv"

    Args:
        config: the run's.
        step: of the checkpoint.
        checkpoint: as what it was opened, "latest" or "best".
        numbers: of a split, as evaluation.json has them; nats per image.
        split: what that split is called.
    """
    last = checkpoint == "latest" and step == config["train"]["steps"]
    where = f"last checkpoint, step {step:,}" if last else step_caption(config, step, checkpoint)
    parts = [variant_title(config), data_title(config["data"]), f"seed {config['seed']}"]
    parts += [f"{split} {score}" for score in _score(numbers)] + [where, ", ".join(_other_fields(config))]
    return printable(CUT.join(part for part in parts if part))


def variant_title(config: Config) -> str:
    """The variant as papers call it, with its strength and its own fields that are not at their defaults.

    A field that is called as the variant is its strength: "beta-VAE, beta=1".
    """
    section = config["variant"]
    name = section["name"]
    title, known = name, {}
    try:
        known, make = variants.defaults(name), variants.get(name)
        if not registry.is_object(name):  # whose module is a notebook, say, with a TITLE of its own
            title = getattr(sys.modules.get(make.__module__), "TITLE", name)
    except (UserError, AttributeError, TypeError):  # it was of the user's own, and is not to be found, or no function
        pass
    shown = [field for field in section if field != "name" and (field == name or section[field] != known.get(field))]
    return ", ".join([title, *(f"{field}={_format(section[field])}" for field in shown)])


def data_title(section: Mapping[str, Any]) -> str:
    """The name of the data, and of the file or folder where it is read from one."""
    file = PurePath(str(section.get("path", ""))).name
    return f"{section['name']} ({file})" if file else section["name"]


def _score(numbers: Mapping[str, Any]) -> Iterator[str]:
    """The first of the scores that is there, with its standard error over images."""
    name = next((name for name in SCORES if isinstance(numbers.get(name), (int, float))), None)
    if name is None or not math.isfinite(numbers[name]):
        return
    error = numbers.get(f"{name}.standard_error")
    beside = "" if error is None else f" \N{PLUS-MINUS SIGN} {format_fixed(error, 2)}"
    yield f"{'ELBO' if name == 'elbo' else name} {format_fixed(numbers[name], 2)}{beside} nats"


def _other_fields(config: Config) -> Iterator[str]:
    """What else of a run is not as in the default config: its latents, networks, likelihood, training and data."""
    default, known = defaults.get_config().to_dict(), dict(config.items())
    if known.get("latent_dim", default["latent_dim"]) != default["latent_dim"]:
        yield f"latent_dim={known['latent_dim']}"
    for name in (name for name in SHOWN_SECTIONS if name in known):
        section = known[name]
        if section.get("name", default[name].get("name")) != default[name].get("name") and name != "data":
            yield f"{name}={section['name']}"
        yield from _own_fields(name, section, default[name])


def _own_fields(name: str, section: Mapping[str, Any], default: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a section that are not at the defaults of the network, the data, ... that it names."""
    if section.get("name") != default.get("name"):
        try:
            default = defaults.section(name, section["name"]).to_dict()
        except UserError:  # it was of the user's own
            return
    for field, value in section.items():
        if field in default and field not in UNSHOWN and _format(default[field]) != _format(value):
            yield f"{field}={_format(value)}"


def _format(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)


def format_fixed(value: Real, digits: int, sign: bool = False) -> str:
    """The number to so many decimals, with its sign where `sign`; what rounds to zero has none."""
    return unsigned_zero(f"{value:{'+' if sign else ''}.{digits}f}")


def format_short(value: Real, digits: int = 6) -> str:
    """The number to so many significant digits; zero has no sign."""
    return unsigned_zero(f"{value:.{digits}g}")


def unsigned_zero(text: str) -> str:
    """The text of a number, without a sign where its digits are all zero."""
    return text.lstrip("+-") if ZERO.fullmatch(text) else text
