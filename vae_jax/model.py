"""The networks, the variant and the likelihood that a config names; the config is a tree of plain values."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp

from vae_jax import data, registry, variants
from vae_jax.errors import UserError, errors_of, unknown_name
from vae_jax.models import likelihoods, networks, schedules
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.typing import Config, Images, Params
from vae_jax.variants import Variant

T = TypeVar("T")


class Model(NamedTuple):
    """What a config and an image shape decide before any parameter exists.

    Attributes:
        nets: the encoder and the decoder, as the variant takes them.
        variant: the loss, with its beta under the config's schedule.
        likelihood: p(x | z).
        floats: the traced numbers of the loss, by name.
    """

    nets: Nets
    variant: Variant
    likelihood: Likelihood
    floats: dict[str, float]


def build(config: Config, image_shape: tuple[int, int, int]) -> Model:
    """The model of `config` for images of `image_shape`. Raises UserError naming the field that is wrong."""
    likelihood = _make_likelihood(config)
    variant, floats = _make_variant(config, likelihood)
    with errors_of("config."), registry.users_code("variant.name", config["variant"]["name"]):
        latents = variant.encoder_outputs(config["latent_dim"])
    nets = _make_nets(config["net"], image_shape, latents, likelihood)
    if config["data"]["binarize"] == "real":
        nets = _fill_missing(nets)
    if variant.wrap_networks is not None:
        with registry.users_code("config.variant.name", config["variant"]["name"]):
            nets = variant.wrap_networks(nets)
    return Model(nets, variant, likelihood, floats)


def _make_nets(section: Config, image_shape: tuple[int, int, int], latents: int, likelihood: Likelihood) -> Nets:
    with errors_of("config.net."):
        make_nets = networks.get(section["name"])
        numbers = (image_shape, latents, likelihood.channels, likelihood.shared)
        return _call_make(section["name"], Nets, make_nets, *numbers, **_section_fields(section))


def _fill_missing(nets: Nets) -> Nets:
    """The networks, whose encoder sees 0 where a number is missing: of a standardised column that is its mean."""

    def encode(params: Params, x: Images) -> Any:
        return nets.encode(params, jnp.where(jnp.isnan(x), 0, x))

    return nets._replace(encode=encode)


def _call_make(name: str, kind: type[T], make: Callable[..., T], /, *arguments: Any, **fields: Any) -> T:
    """What `make` of `name` gives, a `kind`. Raises UserError where the user's own raises or gives something else."""
    with registry.users_code("name", name):
        made = make(*arguments, **fields)
    if not isinstance(made, kind):
        raise UserError(f"name: {name!r} gives {type(made).__name__}; return {kind.__name__}, as ours do")
    return made


def _section_fields(section: Config) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != "name"}


def _make_likelihood(config: Config) -> Likelihood:
    name, binarize = config["likelihood"]["name"], config["data"]["binarize"]
    with errors_of("config.likelihood."):
        likelihood = _call_make(name, Likelihood, likelihoods.get(name), **_section_fields(config["likelihood"]))
    if binarize not in likelihood.binarize:
        raise UserError(
            f"config.data.binarize: {binarize!r} does not fit the likelihood {name!r}, which models other "
            f"{'numbers' if binarize == 'real' else 'grey levels'}; "
            + (REAL if binarize == "real" else f"take {' or '.join(map(repr, likelihood.binarize))}")
        )
    return likelihood


REAL = "take config.likelihood.name=gaussian or laplace with config.likelihood.mean=linear"
"""What numbers of any size need."""


def _make_variant(config: Config, likelihood: Likelihood) -> tuple[Variant, dict[str, float]]:
    """The variant, and the floats of its loss."""
    floats = _section_fields({**defaults("variant", config["variant"]["name"]), **dict(config["variant"].items())})
    with errors_of("config.variant."):
        make_variant = variants.get(config["variant"]["name"])
        static = {name: floats.pop(name) for name in registry.keyword_fields(make_variant)}
        variant = _call_make(config["variant"]["name"], Variant, make_variant, likelihood, **static)
    return _with_schedule(variant, config), floats


def _with_schedule(variant: Variant, config: Config) -> Variant:
    """The variant with its beta under the config's schedule."""
    section = config["schedule"]
    with errors_of("config.schedule."):
        schedule = schedules.get(section["name"])(**_section_fields(section))
    if section["name"] == "constant":
        return variant
    if "beta" not in config["variant"]:
        raise UserError(
            f"config.schedule.name: {section['name']!r} scales config.variant.beta, which the variant "
            f"{config['variant']['name']!r} does not have; take 'constant'"
        )

    def loss(nets, params, batch, key, step, *, beta, **floats):
        return variant.loss(nets, params, batch, key, step, beta=beta * schedule(step), **floats)

    return variant._replace(loss=loss)


def traced_fields(config: Config) -> set[str]:
    """The fields that are arguments of the compiled program: runs that differ in no other share one."""
    with errors_of("config.variant."):
        floats = variants.traced(config["variant"]["name"])
    return {"seed", "train.learning_rate", "train.weight_decay", *(f"variant.{field}" for field in floats)}


def logs_bound(config: Config) -> bool:
    """Whether the variant of a config logs a bound on log p(x), by which runs may be ranked."""
    return bool(_make_variant(config, _make_likelihood(config))[0].bounds)


def check_fields(config: Config) -> None:
    """Raises UserError where a named section has a field that its name has not.

    One that is missing, as a new one is in the config of an earlier version's run, has its default.
    """
    for section in SECTIONS:
        known = defaults(section, config[section]["name"])
        unknown = [name for name in dict(config[section].items()) if name not in known]
        if unknown:
            raise unknown_name(f"config.{section}.{unknown[0]}", unknown[0], known)


def load_data(section: Config) -> data.Dataset:
    """The dataset of a config's `data` section, checked, with its validation split.

    Raises UserError naming what is wrong.
    """
    dataset = load_whole(section)
    with errors_of("config.data."):
        data.check_binarize(dataset, section["binarize"])
        # A config of an earlier version has no such split.
        return data.with_validation(dataset, dict(section.items()).get("validation", 0))


def load_whole(section: Config) -> data.Dataset:
    """The dataset of a config's `data` section as its loader gives it, however it is to be binarised, or split.

    Raises UserError naming what is wrong.
    """
    with errors_of("config.data."):
        own, given = registry.keyword_fields(data.get(section["name"])), _section_fields(section)
        fields = {name: value for name, value in given.items() if name in own or name not in SHARED}
        return data.check_dataset(_call_load(section["name"], fields))


SHARED = ("binarize", "validation", "flip", "shift")
"""Fields of the section data that every dataset has; its loader gets those alone that it has by itself."""


def _call_load(name: str, fields: dict[str, Any]) -> Any:
    """What `load` of the dataset `name` gives. Raises UserError for what the user's own raises."""
    load = data.get(name)
    with registry.users_code("name", name, "cannot be loaded"):
        return load(**fields)


def defaults(section: str, name: str) -> dict[str, Any]:
    """All fields of `section`, one of SECTIONS, once its name is `name`, with their defaults.

    Raises UserError for an unknown name.
    """
    with errors_of(f"config.{section}."), registry.users_code("name", name):
        return SECTIONS[section](name)


SECTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "data": data.defaults,
    "net": networks.defaults,
    "likelihood": likelihoods.defaults,
    "variant": variants.defaults,
    "schedule": schedules.defaults,
}
"""The parts of a config that a name decides, and name -> that part's fields with their defaults."""
