"""Which way each metric is better."""

import pytest

from vae_jax import metrics
from vae_jax.metrics._directions import HIGHER, LOWER, higher_is_better
from vae_jax.report import sentences

NEITHER = {"active_units", "latent_information", "aggregate_posterior", "smoothness"}


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
        *[("smoothness", None), ("smoothness.plausible", None), ("ais.gap", False), ("ais.acceptance", None)],
    ],
)  # fmt: skip
def test_which_way_is_better(metric, higher):
    assert higher_is_better(metric) is higher


def test_every_metric_has_a_direction_or_is_known_to_have_none():
    assert {name for name in metrics.names() if higher_is_better(name) is None} == NEITHER
    assert not HIGHER & LOWER
    known = {*metrics.names(), *sentences.TERMS, "distortion_relaxed"}
    assert {name.partition(".")[0] for name in HIGHER | LOWER} <= known
