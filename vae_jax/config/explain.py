"""What a config optimises, in words: its equation, its weights, and what may change without recompiling."""

import math
import sys

from ml_collections import ConfigDict

from vae_jax import model, variants
from vae_jax.model import Model


def explain_config(config: ConfigDict) -> str:
    """What `config` optimises, in words. Raises UserError where its data or its model cannot be made."""
    image_shape = model.load_data(config.data).image_shape
    return explain(config, model.build(config, image_shape), image_shape)


def explain(config: ConfigDict, built: Model, image_shape: tuple[int, int, int]) -> str:
    """The variant's own docstring, then each weight of this config and how it may be varied."""
    make = variants.get(config.variant.name)
    equation = (sys.modules[make.__module__].__doc__ or make.__doc__ or config.variant.name).strip()
    static = {field: value for field, value in config.variant.items() if field not in built.floats and field != "name"}
    lines = [equation, "", f"This config, in nats per image on {'x'.join(map(str, image_shape))} images:"]
    lines += [f"  {field} = {value:g}" for field, value in built.floats.items()]
    lines += [f"  {field} = {value!r}" for field, value in static.items()]
    lines += [f"  likelihood {_section(config.likelihood)}; schedule of beta {_section(config.schedule)}"]
    if "beta" in config.variant:
        lines += ["", beta_conventions(config, image_shape)]
    swept = sorted(model.traced_fields(config), key=lambda field: (field.startswith("variant."), field))
    lines += ["", f"Sweep without recompiling: {', '.join(swept)}."]
    if static:
        lines += [f"Each value of these is a program of its own: {', '.join(f'variant.{field}' for field in static)}."]
    return "\n".join(lines)


def _section(section: ConfigDict) -> str:
    fields = ", ".join(f"{field} = {value}" for field, value in section.items() if field != "name")
    return section.name + (f" ({fields})" if fields else "")


def beta_conventions(config: ConfigDict, image_shape: tuple[int, int, int]) -> str:
    """How this run's beta (nats per image) reads in the two other conventions in use."""
    pixels, beta = math.prod(image_shape), config.variant.beta
    return (
        f"beta {beta:g} weighs nats per image; the same loss as a mean over pixels has beta {beta / pixels:.3g}; "
        f"normalised by latents/pixels (Higgins et al. 2017) it is {beta * config.latent_dim / pixels:.3g}"
    )
