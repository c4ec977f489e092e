"""What is known of each metric stands in its file, and a metric of the user's own is a file of the same kind."""

import pytest
from helpers.factor_codes import given, perfect
from helpers.linear_gaussian import linear

from vae_jax import metrics
from vae_jax.comparison.analyse import select_metrics
from vae_jax.comparison.results import ComparedRun
from vae_jax.data import digits
from vae_jax.errors import UserError
from vae_jax.metrics import higher_is_better
from vae_jax.metrics._held_out import HELD_OUT
from vae_jax.metrics._quantity import AGREEMENTS
from vae_jax.metrics._requests import parse_requests
from vae_jax.metrics._result_names import metric_name, result_label, split_result
from vae_jax.training.metric_runner import merge_evaluation, read_evaluation

NEITHER = {"active_units", "latent_information", "aggregate_posterior", "smoothness", "codebook_use"}


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        *[("elbo", True), ("loss", False), ("rate", None), ("active_units", None), ("active_units.3", None)],
        *[("samples", False), ("samples:images=500", False), ("samples.precision", True), ("my_own_metric", None)],
        ("samples:images=500.precision", True), ("samples:images=500.near_copies", False),
        *[("samples.frechet_of_data", None), ("samples.images", None), ("samples.accuracy", None)],
        *[("likelihood:k=5000", True), ("likelihood:k=5000.standard_error", None), ("likelihood.effective", None)],
        *[("mig:x=0.05", True), ("mig.shape", True), ("mig:points=10:bins=20.shape", True)],
        *[("irs:quantile=0.99.3", True), ("irs:points=100.3", True), ("aggregate_posterior.mutual_information", None)],
        *[("dci", True), ("dci:train=100.informativeness.shape", True), ("gaussian_tc", False)],
        *[("factor_vae:least_deviation=1e-05", True), ("factor_vae.latents", None), ("beta_vae.train", None)],
        *[("aggregate_posterior", None), ("aggregate_posterior.rate", None), ("aggregate_posterior.images", None)],
        *[("smoothness.path", None), ("smoothness.pixel_path", None), ("sap.x", True), ("modularity.2", True)],
        *[("psnr", True), ("psnr.pooled", True), ("ssim", True), ("ssim.window", None), ("codebook_use.dead", None)],
        *[("pairwise_information", False), ("pairwise_information.3", False), ("likelihood.codes", None)],
        *[("smoothness", None), ("smoothness.plausible", None), ("ais.gap", False), ("ais.acceptance", None)],
    ],
)  # fmt: skip
def test_which_way_is_better(metric, higher):
    assert higher_is_better(metric) is higher


def test_every_metric_has_a_direction_or_is_known_to_have_none():
    assert {name for name in metrics.names() if higher_is_better(name) is None} == NEITHER
    assert not set(HELD_OUT) & set(metrics.names())
    assert {name for name in HELD_OUT if higher_is_better(name) is None} == {"rate"}
    assert all(metrics.definition(name) for name in (*HELD_OUT, *metrics.names()))


@pytest.mark.parametrize(
    ("result", "unit"),
    [
        *[("elbo", "nats per image"), ("likelihood:k=50", "nats per image"), ("ais.gap", ""), ("my_own_metric", "")],
        *[("rate", "nats per image"), ("bits_per_dim", "bits per dimension"), ("mig", "")],
        *[("active_units", "latents"), ("active_units.3", "")],
    ],
)
def test_in_what_unit_a_result_is(result, unit):
    assert metrics.unit(result) == unit


@pytest.mark.parametrize(
    ("result", "agreement"),
    [
        *[("elbo", ("likelihood", "bound")), ("rate", ("bound",)), ("mig", ()), ("dci.completeness", ())],
        *[
            ("likelihood:k=50", ("likelihood", "density")),
            ("ais.gap", ("likelihood", "density")),
            ("loss", ("likelihood", "bound", "variant", "weights")),
        ],
        *[("my_own_term", ("likelihood", "bound", "variant")), ("nowhere/mine", ("likelihood", "density"))],
    ],
)
def test_what_runs_must_agree_in_for_a_result_to_be_one_quantity(result, agreement):
    assert metrics.agreement(result) == agreement
    assert set(agreement) <= set(AGREEMENTS)


@pytest.mark.parametrize(
    ("result", "name", "detail"),
    [
        ("mig", "mig", ""),
        ("mig:bins=30.x", "mig", "x"),
        ("dci:train=10:bins=3.informativeness.x", "dci", "informativeness.x"),
        ("my_lab/scores/mine", "my_lab.scores.mine", ""),
        ("my_lab/scores/mine.x", "my_lab.scores.mine", "x"),
        ("my_lab/scores/mine:rate=0.5:kind=flat.x.y", "my_lab.scores.mine", "x.y"),
        ("samples/mine", "samples.mine", ""),
        ("samples.mine", "samples", "mine"),
    ],
)
def test_the_dots_of_a_name_are_no_details(result, name, detail):
    assert split_result(result) == (name, detail)


def test_a_metric_may_be_asked_for_as_its_results_are_called():
    for word in ("my_lab.scores.mine:rate=0.5", "my_lab/scores/mine:rate=0.5"):
        assert result_label(word) == "my_lab/scores/mine:rate=0.5"
        assert metric_name(word) == "my_lab.scores.mine"
    assert result_label("irs:quantile=0.5") == "irs:quantile=0.5"


OWN = '''
"""The spread of the codes, in the codes' own units."""

import numpy as np

from vae_jax.metrics import Metric


def compute(context, key, *, bins: int = 20, share: float = 0.5):
    """The mean deviation of the latents, and each one's."""
    deviation = context.factor_codes.codes.std(axis=0)
    details = {f"spread.{i}": float(value) for i, value in enumerate(deviation)}
    return {"spread": float(deviation.mean() * bins * share), **details}


METRIC = Metric(
    compute, requires=("factors",), unit="metres", higher_is_better=False, details={"*": False}, minimum={"bins": 1}
)
WIDE = Metric(compute, unit="miles")
NONE = "a string"
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's own, on the path."""
    (tmp_path / "lab_of_a_test").mkdir()
    (tmp_path / "lab_of_a_test/spread.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_metric_of_the_users_own_is_computed_by_its_dotted_name(own, key):
    context = given(perfect())
    deviation = context.factor_codes.codes.std(axis=0)
    (request,) = parse_requests("lab_of_a_test.spread:bins=30:share=0.25")
    label = "lab_of_a_test/spread:bins=30:share=0.25"
    assert request.compute(context, key) == {
        label: float(deviation.mean() * 30 * 0.25),
        **{f"{label}.{i}": float(value) for i, value in enumerate(deviation)},
    }
    assert (request.label, request.protocol) == (label, "bins=30 share=0.25")
    (wide,) = parse_requests("lab_of_a_test.spread.WIDE")
    assert (wide.metric.unit, wide.label) == ("miles", "lab_of_a_test/spread/WIDE")


def test_a_whole_number_of_a_metric_is_read_like_those_of_a_config():
    (request,) = parse_requests("likelihood:k=1e2")
    assert request.parameters["k"] == 100
    assert request.protocol.startswith("k=100 ")
    with pytest.raises(UserError, match=r"--metrics=likelihood:k=1.5: '1.5' is not allowed; k is like \d+"):
        parse_requests("likelihood:k=1.5")


def test_what_is_known_of_a_metric_of_the_users_own_is_read_from_its_file(own):
    for label in ("lab_of_a_test/spread", "lab_of_a_test/spread:bins=30", "lab_of_a_test/spread:share=0.25"):
        assert metrics.is_metric(label)
        assert higher_is_better(label) is False
        assert higher_is_better(f"{label}.3") is False
        assert metrics.unit(label) == "metres"
        assert metrics.definition(f"{label}.3") == "The spread of the codes, in the codes' own units."
    assert higher_is_better("lab_of_a_test/spread/WIDE") is None
    # Where only its results are, nothing is known of it, and it is a metric all the same.
    assert metrics.is_metric("lab_elsewhere/spread.3")
    assert higher_is_better("lab_elsewhere/spread") is None
    assert metrics.unit("lab_elsewhere/spread") == metrics.definition("lab_elsewhere/spread") == ""


def test_what_a_metric_of_the_users_own_cannot_be_is_said(own):
    with pytest.raises(UserError, match=r"--metrics=lab_of_a_test.spread:bin=3: 'bin' is unknown; .*mean 'bins'"):
        parse_requests("lab_of_a_test.spread:bin=3")
    with pytest.raises(UserError, match="bins = 0 is not allowed; give at least 1"):
        parse_requests("lab_of_a_test.spread:bins=0")
    with pytest.raises(UserError, match=r"'lab_of_a_test.spread.NONE' is a str; give a vae_jax.metrics.Metric"):
        parse_requests("lab_of_a_test.spread.NONE")
    with pytest.raises(UserError, match=r"--metrics: 'lab_of_a_test.spreads' cannot be imported"):
        parse_requests("lab_of_a_test.spreads")
    (request,) = parse_requests("lab_of_a_test.spread")
    with pytest.raises(UserError, match=r"--metrics=lab_of_a_test.spread: is not for this run; it needs .*factors"):
        request.check(linear(1.0), digits.load())


def test_dotted_names_are_merged_and_chosen_as_metrics_and_not_as_details(tmp_path):
    file = tmp_path / "evaluation.json"
    merge_evaluation(file, "samples", {"samples": 1.0, "samples.recall": 0.5}, step=1)
    merge_evaluation(file, "samples/mine", {"samples/mine": 2.0, "samples/mine.x": 3.0}, step=1)
    merge_evaluation(file, "samples", {"samples": 4.0}, step=1)
    results = {"samples": 4.0, "samples/mine": 2.0, "samples/mine.x": 3.0}
    assert read_evaluation(file, 1) == {**results, "step": 1}
    numbers = {"loss": 1.0, "elbo": -1.0, "code_norm": 2.0, **results}
    run = ComparedRun("run", "", "", 0, {}, numbers, "done", "", {}, None)
    assert select_metrics((), [run]) == ("elbo", "samples", "samples/mine")
