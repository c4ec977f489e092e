"""Objectives, networks, likelihoods and data as objects: their names, and their runs opened again."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import small_fit
from helpers.small_fit import blobs

import vae_jax
from vae_jax import data, registry
from vae_jax.api import objects
from vae_jax.config.parse import MODULE_FOLDERS
from vae_jax.errors import UserError
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import mlp
from vae_jax.training import open_run
from vae_jax.variants import Variant, beta, elbo_terms

pytestmark = pytest.mark.usefixtures("undrawn")

IMAGES = blobs()


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "OBJECTS", {})
    monkeypatch.setattr(objects, "OBJECTS", registry.OBJECTS)


def make_variant(weight=1.0):
    def mine(likelihood):
        def loss(nets, params, batch, key, step, *, strength=1.0):
            _, _, terms = elbo_terms(likelihood, nets, params, batch, key)
            return jnp.mean(terms["distortion"] + weight * strength * terms["rate"]), terms

        return Variant(loss)

    return mine


def linen_pair(width=6, outputs=4):
    def flatten(x):
        return x.reshape(len(x), -1)

    return nn.Sequential([flatten, nn.Dense(outputs)]), nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(36)])


@pytest.mark.parametrize(
    ("section", "value", "name"),
    [
        ("net", "conv", "conv"),
        ("net", mlp, "mlp"),
        ("net", mlp.make, "mlp"),
        ("variant", beta, "beta"),
        ("likelihood", bernoulli.make, "bernoulli"),
        ("variant", small_fit.fit, "helpers.small_fit.fit"),  # any function that an import finds
    ],
)
def test_what_an_import_finds_has_its_name(section, value, name):
    assert objects.name_of(section, value) == name
    assert not registry.OBJECTS


def test_the_command_line_finds_the_module_of_a_dotted_name(monkeypatch, tmp_path):
    folder = str(Path(small_fit.__file__).parents[1])
    monkeypatch.setattr(objects, "MODULE_FOLDERS", recorded := [])
    objects.name_of("variant", small_fit.fit)
    assert recorded == [folder]
    assert MODULE_FOLDERS is not recorded


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("variant", make_variant()),
        ("variant", make_variant()(bernoulli.make())),
        ("net", linen_pair()),
        ("net", mlp.make((6, 6, 1), 2, 1)),
        ("likelihood", lambda: bernoulli.make()),
        ("likelihood", bernoulli.make()),
        ("data", data.from_arrays(np.uint8(255 * IMAGES)[..., None], None, np.uint8(IMAGES)[..., None], None)),
    ],
)
def test_what_none_finds_is_registered_under_a_name_that_is_the_same_again(section, value):
    name = objects.name_of(section, value)
    assert name.startswith("object.")
    assert objects.name_of(section, value) == name
    kind = objects.KINDS[section]
    found = registry.find("name", name, kind.package, kind.attribute)
    assert callable(found)


def test_other_objects_have_other_names():
    assert objects.name_of("net", linen_pair(6)) != objects.name_of("net", linen_pair(7))
    assert objects.name_of("variant", make_variant()) == objects.name_of("variant", make_variant())
    assert objects.name_of("variant", make_variant()) != objects.name_of("variant", lambda likelihood: None)


def test_what_is_no_object_of_a_kind_is_refused():
    with pytest.raises(UserError, match=r"^variant: int is not allowed; give a name, a make"):
        objects.name_of("variant", 3)
    with pytest.raises(UserError, match="is a module without make"):
        objects.name_of("variant", small_fit)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose variant, networks and data are objects."""
    grey = np.uint8(255 * IMAGES)[..., None]
    dataset = data.from_arrays(grey[:60], None, grey[60:], None)
    fields = {name: value for name, value in small_fit.SMALL.items() if name != "hidden"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "OBJECTS", {})
        patch.setattr(objects, "OBJECTS", registry.OBJECTS)
        workdir = tmp_path_factory.mktemp("fit") / "run"
        return vae_jax.fit(
            dataset, variant=make_variant(), strength=2.0, net=linen_pair(), workdir=workdir, **fields
        ).folder


def test_a_run_of_objects_needs_them_again(folder):
    with pytest.raises(UserError, match=r"made from objects that cannot be imported; .*net=\.\.\., variant=\.\.\.\)"):
        vae_jax.open_run(folder)
    registry.OBJECTS.clear()  # or its data count as missing only where they are read
    with pytest.raises(UserError, match=r"data=\.\.\., net=\.\.\., variant=\.\.\.\)"):
        open_run.open_run(folder)  # as the programs of the command line do
    with pytest.raises(UserError, match=r"^likelihood: this run's is 'bernoulli', which needs no object"):
        vae_jax.open_run(folder, net=linen_pair(), variant=make_variant(), likelihood=bernoulli)


def test_a_run_of_objects_opens_with_them_and_without_its_data(folder):
    model = vae_jax.open_run(folder, net=linen_pair(), variant=make_variant())
    assert model.sample(0, 3).shape == (3, 6, 6, 1)
    assert model.config["variant"]["strength"] == 2.0
    with pytest.raises(UserError, match=r"is not here; give it to vae_jax.open_run\(folder, data=\.\.\.\)"):
        model.evaluate()


def test_a_run_of_objects_trains_on_with_its_data(folder):
    grey = np.uint8(255 * IMAGES)[..., None]
    dataset = data.from_arrays(grey[:60], None, grey[60:], None)
    model = vae_jax.open_run(folder, net=linen_pair(), variant=make_variant(), data=dataset)
    assert model.continue_training(steps=30).step == 30


def test_networks_of_other_shapes_do_not_open_it(folder):
    with pytest.raises(UserError):
        vae_jax.open_run(folder, net=linen_pair(width=9), variant=make_variant())
