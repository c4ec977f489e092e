"""A config to a model: each part is made of its section, and what is wrong with a section names the config's field."""

import pytest

from vae_jax import model
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError

SHAPE = (8, 8, 1)


def config_of(**sections):
    """digits' config as a tree of plain values, with fields of its sections set unchecked."""
    config = load_config("digits").to_dict()
    for section, fields in sections.items():
        name = fields.get("name", config[section]["name"])
        config[section] = model.defaults(section, name) | fields
    return config


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"net": {"hidden": (0,)}}, r"config\.net\.hidden: \[0\] is not allowed; give whole numbers of at least 1"),
        ({"net": {"activation": "rellu"}}, r"config\.net\.activation: 'rellu' is unknown; .* did you mean 'relu'\?"),
        ({"net": {"dtype": "float16"}}, r"config\.net\.dtype: 'float16' is unknown; known: bfloat16, float32"),
        ({"net": {"name": "conv"}}, r"config\.net\.name: 'conv' halves an image four times and 8x8 is too small"),
        (
            {"likelihood": {"name": "gaussian", "sigma": -1.0}},
            r"config\.likelihood\.sigma: -1.0 is not allowed; give a positive number",
        ),
        (
            {"likelihood": {"name": "laplace", "scale": "pixels"}},
            r"config\.likelihood\.scale: 'pixels' is unknown; .* did you mean 'pixel'\?",
        ),
        (
            {"likelihood": {"name": "logistic_mixture", "components": 0}},
            r"config\.likelihood\.components: 0 is not allowed; give a whole number of at least 1",
        ),
        (
            {"likelihood": {"name": "continuous_bernoulli"}},
            r"config\.data\.binarize: 'dynamic' does not fit the likelihood 'continuous_bernoulli', which "
            r"models other grey levels; take 'none'",
        ),
        (
            {"variant": {"name": "vamp", "components": 0}},
            r"config\.variant\.components: 0 is not allowed; give a whole",
        ),
        ({"schedule": {"name": "linear", "steps": 0}}, r"config\.schedule\.steps: 0 is not allowed; give a whole"),
        ({"schedule": {"name": "cyclical", "ratio": 2.0}}, r"config\.schedule\.ratio: 2.0 is not allowed"),
    ],
)
def test_what_is_wrong_with_a_section_names_the_configs_field(sections, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        model.build(config_of(**sections), SHAPE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "idx", "path": "nowhere"}, r"config\.data\.path: 'nowhere' is not a folder; give the one that holds"),
        ({"name": "dsprites", "path": "nowhere"}, r"config\.data\.path: 'nowhere' is not an npz file nor a folder"),
        ({"name": "cars3d"}, r"config\.data\.path: '' has no \.mat files and no npz"),
        ({"name": "sprites", "split": "randomly"}, r"config\.data\.split: 'randomly' is unknown; .*mean 'random'\?"),
        ({"name": "sprites", "sizes": (4, 1, 1, 1, 1)}, r"config\.data\.sizes: \(4, 1, 1, 1, 1\) is not allowed"),
        ({"name": "sprites", "resolution": 4}, r"config\.data\.resolution: 4 is not allowed; give at least 8"),
        (
            {"name": "sprites", "resolution": 4 * 10**9},
            r"config\.data\.resolution: 40+ is not allowed; give at most 4,0",
        ),
        ({"name": "scenes", "resolution": 10**5}, r"config\.data\.resolution: 10+ is not allowed; give at most 4,0"),
        ({"name": "sprites", "sizes": (3, 10**9, 1, 1, 1)}, r"config\.data\.sizes: .* is not allowed; give at most"),
        (
            {"name": "sprites", "sizes": (3, 1, 1, 1, 1), "changed": 2},
            r"config\.data\.changed: 2 is not allowed; give 0 \(drawn for each pair\) to 1",
        ),
    ],
)
def test_what_is_wrong_with_the_data_names_the_configs_field(fields, message):
    section = model.defaults("data", fields["name"]) | fields
    with pytest.raises(UserError, match=f"^{message}") as error:
        model.load_data(section)
    assert "\n" not in str(error.value)


def test_a_section_with_other_fields_than_its_names_is_refused():
    config = config_of(net={"widths": (4,)})
    with pytest.raises(UserError, match=r"^config\.net\.widths: 'widths' is unknown; known: activation, dtype"):
        model.check_fields(config)
