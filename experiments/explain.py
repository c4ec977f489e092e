"""What a config optimises, in words: its equation, its weights, and what may change without recompiling."""

import importlib

from ml_collections import ConfigDict

from experiments import settings
from vae_jax.model import Model


def explain(config: ConfigDict, built: Model, image_shape: tuple[int, int, int]) -> str:
    """The variant's own docstring, then each weight of this config and how it may be varied."""
    name = config.variant.name
    equation = importlib.import_module(f"vae_jax.variants.{name}").__doc__.strip()
    static = {field: value for field, value in config.variant.items() if field not in built.floats and field != "name"}
    lines = [equation, "", f"This config, in nats per image on {'x'.join(map(str, image_shape))} images:"]
    lines += [f"  {field} = {value:g}" for field, value in built.floats.items()]
    lines += [f"  {field} = {value!r}" for field, value in static.items()]
    lines += [f"  likelihood {_section(config.likelihood)}; schedule of beta {_section(config.schedule)}"]
    if "beta" in config.variant:
        lines += ["", settings.other_conventions(config, image_shape)]
    swept = ["train.learning_rate", "seed", *(f"variant.{field}" for field in built.floats)]
    lines += ["", f"Sweep without recompiling: {', '.join(swept)}."]
    if static:
        lines += [f"Each value of these is a program of its own: {', '.join(f'variant.{field}' for field in static)}."]
    return "\n".join(lines)


def _section(section: ConfigDict) -> str:
    fields = ", ".join(f"{field} = {value}" for field, value in section.items() if field != "name")
    return section.name + (f" ({fields})" if fields else "")
