"""The space of a search and its objectives: read from a config, checked at its ends, said where they are wrong."""

import pytest

from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.sweeps.algebra import integer, random
from vae_jax.sweeps.objectives import Objective, mean_and_error, metric_overrides, parse_objectives
from vae_jax.sweeps.space import load_space


@pytest.fixture
def space_file(tmp_path):
    """Writes a config's file whose search() returns this."""

    def write(returned):
        file = tmp_path / "mine.py"
        file.write_text(
            "from vae_jax.configs.digits import get_config\n"
            "from vae_jax.sweeps.algebra import choice, integer, log_uniform, uniform\n"
            f"def search():\n    return {returned}\n"
        )
        return str(file)

    return write


def test_a_space_is_optunas_and_its_points_are_those_of_a_sweep(space_file):
    pytest.importorskip("optuna")
    file = space_file(
        "{'variant.beta': log_uniform(0.1, 10), 'variant.free_bits': uniform(0, 1), 'latent_dim': integer(2, 5), "
        "'net.hidden': choice((16,), (8, 8))}"
    )
    config, space = load_space(file, [("train.steps", "7")])
    assert config.train.steps == 7
    assert space.static == ("latent_dim", "net.hidden")
    assert "at most 8 in all: latent_dim (integer(2, 5)), net.hidden (choice((16,), (8, 8)))" in space.cost()
    width, hidden, beta, bits = space.distributions().values()  # whatever their order in the file
    assert (beta.low, beta.high, beta.log) == (0.1, 10, True)
    assert (bits.log, width.low, width.high, hidden.choices) == (False, 2, 5, ("(16,)", "(8, 8)"))
    params = {"variant.beta": 1 / 3, "variant.free_bits": 0.25, "latent_dim": 4, "net.hidden": "(8, 8)"}
    assert space.point(params) == params | {"variant.beta": 0.333333, "net.hidden": (8, 8)}
    assert not load_space(space_file("{'variant.beta': uniform(1, 2)}"), [])[1].cost()
    assert (
        "of its own: train.clip (uniform(1, 2))"
        in load_space(space_file("{'train.clip': uniform(1, 2)}"), [])[1].cost()
    )


def test_integers_are_drawn_to_both_ends():
    drawn = [point["a"] for point in random(30, 0, a=integer(-1, 2))]
    assert set(drawn) == {-1, 0, 1, 2}
    assert all(type(number) is int for number in drawn)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[1]", r"search\(\) of .* gives list; return a dict"),
        ("{}", "has no fields"),
        ("{'variant.beta': 4}", "search: variant.beta is 4; give uniform"),
        ("{'variant.beta': lambda stream: 4}", "search: variant.beta is <function"),
        ("{'variant.betta': uniform(1, 2)}", "^search: config.variant.betta: 'betta' is unknown.*did you mean 'beta'"),
        (
            "{'variant.beta': uniform(-1, 2)}",
            "^search: config.variant.beta: -1.* is not allowed; give a number of at",
        ),
        ("{'variant.beta': uniform(2, 1)}", r"uniform: \(2, 1\) is not a range; give two numbers that rise"),
        ("{'variant.beta': log_uniform(0, 1)}", "log_uniform: 0 has no logarithm"),
        ("{'latent_dim': integer(1.5, 2)}", r"integer: \(1.5, 2\) is not allowed; give two whole numbers"),
        ("{'latent_dim': integer('a', 2)}", r"integer: \('a', 2\) is not a range"),
        ("{'seed': integer(0, 9)}", "search: seed cannot be a field of the space; --seeds=3"),
        ("{'train.steps': choice(7, 8)}", "^--config.train.steps: is chosen by the search; leave it out"),
    ],
)
def test_what_makes_no_space_is_said(space_file, returned, message):
    with pytest.raises(UserError, match=message):
        load_space(space_file(returned), [("train.steps", "7")])


def test_a_file_without_a_search_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text("from vae_jax.configs.digits import get_config\n")
    with pytest.raises(UserError, match=r"has no search\(\)"):
        load_space(str(tmp_path / "mine.py"), [])


def test_objectives_have_a_way_that_is_better():
    config = load_config("digits")
    objectives = parse_objectives(["elbo", "rate:min", "mig:bins=30", "distortion:max"], config, ["variant.beta"])
    assert objectives == (
        Objective("elbo", True),
        Objective("rate", False),
        Objective("mig:bins=30", True),
        Objective("distortion", True),
    )
    assert [objective.label for objective in objectives] == ["elbo", "rate", "mig:bins=30", "distortion"]
    assert [objective.source for objective in objectives[1:3]] == ["the validation split", "the whole grid of factors"]
    with pytest.raises(UserError, match="--objective: missing"):
        parse_objectives([], config, [])
    assert [objective.is_metric for objective in objectives] == [False, False, True, False]
    assert metric_overrides(objectives, config) == [("evaluation.validation_metrics", "mig:bins=30")]
    config.evaluation.validation_metrics = "dci"
    assert metric_overrides(objectives, config) == [("evaluation.validation_metrics", "dci,mig:bins=30")]
    assert metric_overrides(objectives[:2], config) == []


@pytest.mark.parametrize(
    ("word", "config", "fields", "message"),
    [
        ("elbow", "digits", [], "'elbow' is unknown.*did you mean 'elbo'"),
        ("rate", "digits", [], "'rate': neither way is better by itself; give rate:min or rate:max"),
        ("elbo", "digits:autoencoder", [], "'elbo' is not evaluated by variant 'autoencoder'"),
        ("loss", "digits", ["train.learning_rate", "variant.beta"], "'loss' is another quantity at each variant.beta"),
        ("elbo", "digits", ["likelihood.name"], "'elbo' is another quantity at each likelihood.name"),
        ("mig", "sprites", ["data.flip", "data.validation"], "'mig' is another quantity at each data.validation"),
    ],
)
def test_an_objective_that_ranks_nothing_is_refused(word, config, fields, message):
    with pytest.raises(UserError, match=message):
        parse_objectives([word], load_config(config), fields)


def test_seeds_are_scored_by_their_mean_and_its_error():
    assert mean_and_error([4.0]) == (4.0, None)
    mean, error = mean_and_error([1.0, 2.0, 6.0])
    assert mean == 3.0
    assert error == pytest.approx((7 / 3) ** 0.5)  # s^2 = (4 + 1 + 9) / 2 = 7, over 3 seeds
