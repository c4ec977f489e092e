"""The networks and the variant that a config names; the config is a tree of plain values."""

from typing import Any, NamedTuple

from vae_jax import data, registry, variants
from vae_jax.errors import UserError, errors_of, unknown_name
from vae_jax.models import likelihoods, networks, schedules
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.typing import Config
from vae_jax.variants import Variant


class Model(NamedTuple):
    """What a config and an image shape decide before any parameter exists."""

    nets: Nets
    variant: Variant
    likelihood: Likelihood
    floats: dict[str, float]


def _section_fields(section: Config) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != "name"}


def build(config: Config, image_shape: tuple[int, int, int]) -> Model:
    """The model of `config` for images of `image_shape`. Raises UserError naming the field that is wrong."""
    likelihood = _make_likelihood(config)
    make_variant = variants.get(config["variant"]["name"])
    fields = _section_fields(config["variant"])
    static = {name: fields.pop(name) for name in registry.keyword_fields(make_variant)}
    with errors_of("config.variant."):
        variant = make_variant(likelihood, **static)
    variant = _with_schedule(variant, config)
    make_nets = networks.get(config["net"]["name"])
    with errors_of("config."):
        width = variant.encoder_outputs(config["latent_dim"])
    nets = make_nets(image_shape, width, likelihood.channels, likelihood.shared, **_section_fields(config["net"]))
    if variant.wrap_networks is not None:
        nets = variant.wrap_networks(nets)
    return Model(nets, variant, likelihood, fields)


def _make_likelihood(config: Config) -> Likelihood:
    name, binarize = config["likelihood"]["name"], config["data"]["binarize"]
    likelihood = likelihoods.get(name)(**_section_fields(config["likelihood"]))
    if binarize not in likelihood.binarize:
        raise UserError(
            f"config.data.binarize: {binarize!r} makes no sense with this {name!r} likelihood, which is of other grey "
            f"levels; take {' or '.join(map(repr, likelihood.binarize))}"
        )
    return likelihood


def _with_schedule(variant: Variant, config: Config) -> Variant:
    """The variant with its beta under the config's schedule."""
    section = config["schedule"]
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
    name = config["variant"]["name"]
    return {"seed", "train.learning_rate", *(f"variant.{field}" for field in variants.traced(name))}


def check_fields(config: Config) -> None:
    """Raises UserError unless each named section has its name's own fields, no more and no fewer."""
    for kind in SECTIONS:
        known, given = defaults(kind, config[kind]["name"]), dict(config[kind].items())
        for name in given:
            if name not in known:
                raise unknown_name(f"config.{kind}.{name}", name, known)
        for name in known:
            if name not in given:
                raise UserError(f"config.{kind}.{name}: missing; the default is {known[name]!r}")


def load_data(section: Config) -> data.Dataset:
    """The dataset of a config's `data` section. Raises UserError naming what is wrong."""
    fields = {name: value for name, value in _section_fields(section).items() if name != "binarize"}
    return data.get(section["name"])(**fields)


def defaults(section: str, name: str) -> dict[str, Any]:
    """All fields of `section`, one of SECTIONS, once its name is `name`, with their defaults."""
    of_packages = {"data": data.defaults, "variant": variants.defaults}
    of_functions = {"net": networks.get, "likelihood": likelihoods.get, "schedule": schedules.get}
    if section in of_packages:
        return of_packages[section](name)
    return {"name": name, **registry.keyword_fields(of_functions[section](name))}


SECTIONS = ("data", "net", "likelihood", "variant", "schedule")
"""The parts of a config that a name decides."""
