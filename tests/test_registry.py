"""Names in a config to code: a file of ours, or a dotted name of the user's own, which trains as ours do."""

import json
import sys
import textwrap

import numpy as np
import pytest

import vae_jax.models.networks
from vae_jax import model, registry
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.training.open_run import open_run
from vae_jax.training.train_run import train_in_folder

pytestmark = pytest.mark.usefixtures("undrawn")

NETWORKS = "vae_jax.models.networks"

STRIPES = """
    import numpy as np
    from vae_jax.data import from_arrays

    def load(*, width: int = 4):
        images = np.zeros((24, 4, width, 1), np.uint8)
        images[::2] = 255
        return from_arrays(images[:16], None, images[16:], None)
"""
NETS = """
    import jax
    import jax.numpy as jnp
    from vae_jax.models.networks import Nets

    def make(image_shape, latent_dim, channels, shared=0, *, scale: float = 0.1):
        height, width, colours = image_shape
        pixels = height * width * colours
        sizes = {"in": (pixels, 2 * latent_dim), "out": (latent_dim, pixels * channels)}

        def init(key, image, code):
            keys = dict(zip(sizes, jax.random.split(key)))
            return {name: scale * jax.random.normal(keys[name], size) for name, size in sizes.items()}

        def encode(params, x):
            return tuple(jnp.split(x.reshape(len(x), -1) @ params["in"], 2, axis=1))

        def decode(params, z):
            return (z @ params["out"]).reshape(len(z), height, width, colours * channels)

        return Nets(init, encode, decode)
"""
LIKELIHOOD = """
    from vae_jax.models.likelihoods import bernoulli

    def tilted(*, weight: float = 2.0):
        coin = bernoulli.make()
        return coin._replace(log_prob=lambda logits, x: weight * coin.log_prob(logits, x))
"""
CONFIG = """
    from vae_jax.config import defaults

    def get_config():
        config = defaults.get_config()
        config.data = defaults.section("data", "own_stripes.load", width=5)
        config.net = defaults.section("net", "own_nets.make")
        config.likelihood = defaults.section("likelihood", "own_likelihoods.tilted")
        return config
"""
TINY = {
    "latent_dim": 2, "train.steps": 2, "train.batch_size": 8, "evaluation.batch_size": 8, "parallel.devices": 1,
}  # fmt: skip


def write(folder, **modules):
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code))


def trained(config, folder):
    """The held-out numbers of a run of two steps."""
    assert train_in_folder(config, folder) == 0
    return json.loads((folder / "evaluation.json").read_text())


def test_data_networks_and_a_likelihood_beside_the_config_file_train(own_modules):
    write(own_modules, own_stripes=STRIPES, own_nets=NETS, own_likelihoods=LIKELIHOOD, study=CONFIG)
    config = load_config(str(own_modules / "study.py"), **TINY)
    assert config.data.to_dict() == {
        "name": "own_stripes.load",
        "binarize": "dynamic",
        "validation": 0.1,
        "flip": False,
        "shift": 0,
        "width": 5,
    }
    assert config.net.to_dict() == {"name": "own_nets.make", "scale": 0.1}
    assert config.likelihood.to_dict() == {"name": "own_likelihoods.tilted", "weight": 2.0}
    numbers = trained(config, own_modules / "run")
    assert numbers["step"] == 2
    # Codes are nearly 0 and so are logits: each of 20 pixels costs log 2 nats, twice.
    np.testing.assert_allclose(numbers["distortion"], 2 * 20 * np.log(2), rtol=0.1)


def test_modules_where_a_program_runs_are_found_and_are_found_again(own_modules, monkeypatch):
    write(own_modules, own_stripes=STRIPES)
    monkeypatch.chdir(own_modules)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(own_modules))])
    config = load_config("digits", **{"data.name": "own_stripes.load", "net.hidden": (4,), **TINY})
    trained(config, own_modules / "run")
    del sys.modules["own_stripes"]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(own_modules)])
    monkeypatch.chdir("/")
    assert model.load_data(open_run(own_modules / "run").config["data"]).image_shape == (4, 4, 1)


@pytest.mark.full
def test_modules_of_a_package_on_the_path_train_by_their_dotted_names(own_modules, monkeypatch):
    lab = own_modules / "somewhere" / "my_lab"
    lab.mkdir(parents=True)
    write(lab, __init__="", stripes=STRIPES, nets=NETS, likelihoods=LIKELIHOOD)
    monkeypatch.syspath_prepend(lab.parent)
    names = {"data.name": "my_lab.stripes", "net.name": "my_lab.nets", "likelihood.name": "my_lab.likelihoods.tilted"}
    # The fields of the test above: what it compiled is taken from the cache.
    config = load_config("digits", **names, **TINY, **{"data.width": 5, "net.scale": 0.1, "likelihood.weight": 2.0})
    numbers = trained(config, own_modules / "run")
    assert numbers["step"] == 2
    np.testing.assert_allclose(numbers["distortion"], 2 * 20 * np.log(2), rtol=0.1)


def test_a_field_of_a_users_own_module_is_checked_like_ours(own_modules):
    write(own_modules, own_nets=NETS)
    sys.path.append(str(own_modules))
    with pytest.raises(UserError, match=r"^config\.net\.scle: 'scle' is unknown; .* did you mean 'scale'\?"):
        load_config("digits", **{"net.name": "own_nets.make", "net.scle": 1.0})
    with pytest.raises(UserError, match=r"^config\.net\.scale: 'wide' is not allowed; give a number"):
        load_config("digits", **{"net.name": "own_nets.make", "net.scale": "wide"})


BROKEN = {
    "my_lab_nowhere.nets": "'my_lab_nowhere.nets' cannot be imported; give a module on the path, here or beside",
    "own_empty.nets": "'own_empty.nets' cannot be imported; give a module .* that has make, or a name in such a module",
    "own_raises.nets": r"'own_raises.nets' cannot be imported \(ZeroDivisionError: division by zero\)",
    "own_needs.nets": "'own_needs.nets' needs the module 'no_such_library', which is not installed",
    "own_exits.nets": r"'own_exits.nets' cannot be imported \(SystemExit: 0\)",
    "own_value.nets": r"'own_value.nets' cannot be imported \(ValueError: mine\)",
    "math.pi": r"'math.pi' fails \(Type\w*Error: ",
    "a..b": "'a..b' cannot be imported; give a module",
    ".nets": "'.nets' cannot be imported; give a module",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_dotted_name_that_cannot_be_imported_is_refused_in_one_line(name, own_modules):
    exits, value = "raise SystemExit(0)", "raise ValueError('mine')"
    write(own_modules, own_empty="", own_raises="1 / 0", own_needs="import no_such_library", own_exits=exits)
    write(own_modules, own_value=value)
    sys.path.append(str(own_modules))
    with pytest.raises(UserError, match=rf"^config\.net\.name: {BROKEN[name]}") as error:
        load_config("digits", **{"net.name": name})
    assert "\n" not in str(error.value)


def load_and_build(names):
    """What a run begins with."""
    config = load_config("digits", **names)
    model.load_data(config.data)
    model.build(config, (8, 8, 1))


@pytest.mark.parametrize("error", ["RuntimeError('no luck')", "SystemExit('no luck')"])
@pytest.mark.parametrize("section", ["data", "net", "likelihood", "variant"])
def test_what_a_users_own_function_raises_is_said_in_a_line(section, error, own_modules):
    write(own_modules, own_fails=f"def make(*_):\n    raise {error}")
    sys.path.append(str(own_modules))
    with pytest.raises(UserError) as refused:
        load_and_build({f"{section}.name": "own_fails.make"})
    what = "cannot be loaded" if section == "data" else "fails"
    kind = error.partition("(")[0]
    assert str(refused.value) == f"config.{section}.name: 'own_fails.make' {what} ({kind}: no luck)"


def test_a_users_own_error_of_use_passes_as_it_is_and_a_fault_of_ours_has_its_trace():
    with pytest.raises(UserError, match="width: 0"), registry.users_code("name", "my_lab.make"):
        raise UserError("width: 0 is not allowed")
    with pytest.raises(RuntimeError, match="ours"), registry.users_code("name", "mlp"):
        raise RuntimeError("ours")


@pytest.mark.parametrize(("section", "gives"), [("net", "Nets"), ("likelihood", "Likelihood")])
def test_a_users_own_function_that_gives_something_else_is_said_in_a_line(section, gives, own_modules):
    write(own_modules, own_nothing="def make(*_):\n    pass")
    sys.path.append(str(own_modules))
    message = rf"^config\.{section}\.name: 'own_nothing.make' gives NoneType; return {gives}, as ours do$"
    with pytest.raises(UserError, match=message):
        model.build(load_config("digits", **{f"{section}.name": "own_nothing.make"}), (8, 8, 1))


@pytest.mark.parametrize(
    ("section", "name", "nearest"),
    [
        ("data", "sprits", "sprites"),
        ("net", "conf", "conv"),
        ("likelihood", "gausian", "gaussian"),
        ("variant", "tcva", "tcvae"),
        ("schedule", "linaer", "linear"),
    ],
)
def test_a_misspelt_plain_name_is_answered_with_the_nearest(section, name, nearest):
    message = rf"^config\.{section}\.name: '{name}' is unknown; known: .*did you mean '{nearest}'\?$"
    with pytest.raises(UserError, match=message):
        model.defaults(section, name)


def test_files_that_begin_with_an_underscore_are_no_names():
    assert registry.file_names(NETWORKS) == ("conv", "grid", "mlp", "resnet")
    for name in ("_layers", "_convolution"):
        with pytest.raises(UserError, match=rf"^name: '{name}' is unknown"):
            registry.find("name", name, NETWORKS, "make")


def test_a_plain_name_is_the_attribute_of_its_file():
    assert registry.find("name", "mlp", NETWORKS, "make") is vae_jax.models.networks.get("mlp")


def test_a_choice_of_a_table_is_its_entry_and_another_the_nearest_name():
    table = {"one": 1, "three": 3}
    assert registry.choose("count", "three", table) == 3
    with pytest.raises(UserError, match=r"^count: 'thre' is unknown; known: one, three; did you mean 'three'\?"):
        registry.choose("count", "thre", table)


def test_what_a_config_may_set_are_the_keyword_only_parameters_with_their_defaults():
    def make(likelihood, shared=0, *, hidden=(8,), rate=0.5):
        return likelihood, shared, hidden, rate

    assert registry.keyword_fields(make) == {"hidden": (8,), "rate": 0.5}
