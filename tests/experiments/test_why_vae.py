"""The founding claims: each quantity on clouds and models whose answer is known, each rule on made-up numbers."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from experiments.why_vae import __main__, markdown, measures
from experiments.why_vae.claims import CLAIMS
from experiments.why_vae.measures import Cloud, Part
from experiments.why_vae.rules import (
    ABSENT,
    AUTOENCODER,
    FAILS,
    HOLDS,
    IN_PART,
    LEARNED,
    MOOT,
    NO,
    NO_KL,
    OPEN,
    SO_FAR,
    UNTOLD,
    VAE,
    YES,
    Check,
    above,
    as_good,
    below,
    better,
    cell,
    grown,
    if_matched,
    matched_decay,
    noise_baseline,
    not_lower,
    same_distortion,
    verdict,
)
from vae_jax import cli
from vae_jax.comparison.results import ComparedRun
from vae_jax.config.parse import flatten, load_config
from vae_jax.configs import why_vae as study_config
from vae_jax.errors import UserError
from vae_jax.metrics import _feature_classifier
from vae_jax.models.likelihoods import gaussian
from vae_jax.sweeps import algebra

# fmt: skip


ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/why_vae.py"
RANDOM = np.random.default_rng(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Codes


def test_coverage_is_that_of_balls_of_the_prior():
    prior = normal(1500, 4)
    np.testing.assert_allclose(measures.covered(prior, normal(1500, 4, seed=1)), 1 - 2**-5, atol=0.02)
    assert measures.covered(prior, 20 + normal(1500, 4, seed=1)) == 0
    half = normal(6000, 4, seed=1)
    found = measures.covered(prior, half[half[:, 0] > 0][:1500])
    assert 0.5 < found < 0.8  # the half of the prior, and what borders on it
    assert measures.covered(prior, np.repeat(prior[:1], 1500, axis=0)) < 0.02  # one point, however often


def test_neighbours_of_the_same_label_are_counted():
    codes, others = normal(30, 3), normal(40, 3, seed=1)
    labels, their = RANDOM.integers(0, 3, 30), RANDOM.integers(0, 3, 40)
    distances = np.linalg.norm(codes[:, None] - others[None], axis=-1)
    nearest = np.argsort(distances, axis=1)[:, :4]
    expected = np.mean([[their[j] == label for j in row] for row, label in zip(nearest, labels, strict=True)])
    np.testing.assert_allclose(measures.agreement(codes, labels, others, their, 4), expected)


def test_spreads_are_root_mean_squares():
    mean = np.float32([[0, 4], [2, 4]])
    found = measures.spreads(Cloud(mean, np.float32([[1, 2], [1, 2]])))
    variances, within = np.array([1.0, 0.0]), np.array([1.0, 4.0])
    np.testing.assert_allclose(found["sigma"], 1.5)
    np.testing.assert_allclose(found["spread"], np.sqrt(variances.mean()))
    np.testing.assert_allclose(found["relative"], np.sqrt(within.sum() / (variances + within).sum()))
    np.testing.assert_allclose(found["centre"], np.sqrt((1 + 16) / 2))
    np.testing.assert_allclose(found["deviation"], np.sqrt((variances + within).mean()))
    assert measures.spreads(Cloud(mean, np.zeros_like(mean)))["relative"] == 0


def test_overlap_is_the_integral():
    (m, s), (n, t) = (0.3, 0.5), (1.1, 0.8)
    integral, _ = quad(lambda z: np.sqrt(norm.pdf(z, m, s) * norm.pdf(z, n, t)), -10, 10)
    two = Cloud(np.float32([[m, 0], [n, 0]]), np.float32([[s, 1], [t, 1]]))
    np.testing.assert_allclose(measures.overlap(two), integral, rtol=1e-5)
    far = Cloud(np.float32([[m, 0], [n, 0], [99, 0]]), np.float32([[s, 1], [t, 1], [1, 1]]))
    np.testing.assert_allclose(measures.overlap(far), 2 / 3 * integral, rtol=1e-5)  # the nearest counts
    np.testing.assert_allclose(measures.overlap(Cloud(np.ones((3, 2)), np.ones((3, 2)))), 1)
    assert measures.overlap(Cloud(normal(3, 2), np.zeros((3, 2)))) == 0


def test_the_fitted_gaussian_has_the_mean_and_covariance_of_the_codes():
    codes, noise = normal(50, 3) @ normal(3, 3, seed=1) + 5, normal(400, 3, seed=2)
    noise = (noise - noise.mean(axis=0)[None]) @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    found = measures.gaussian_draws(codes.astype(np.float32), noise)
    np.testing.assert_allclose(found.mean(axis=0), codes.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(np.cov(found.T), np.cov(codes.T), rtol=1e-3, atol=1e-4)


def test_sets_of_draws_are_averaged(monkeypatch):
    monkeypatch.setattr(measures, "draws", lambda lab, images: {"mean": float(images.mean())})
    lab = SimpleNamespace(test=SimpleNamespace(seen=np.zeros((4, 1))))
    codes = np.repeat(np.float32([1, 2, 6]), 4)[:, None]
    assert measures.of_sets(lab, SimpleNamespace(decode=lambda z: z), codes) == {"mean": 3.0}


def test_fresh_images_are_as_near_to_training_as_to_held_out_images():
    training, held_out, fresh = normal(1300, 5), normal(300, 5, seed=1), normal(300, 5, seed=2)
    assert abs(measures.nearer(fresh, training, held_out) - 0.5) < 0.06
    assert abs(measures.nearer(0.3 * fresh, training, held_out) - 0.5) < 0.06  # soft is not copied
    some = training[np.random.default_rng(0).permutation(1300)[:1200]]
    np.testing.assert_allclose(measures.nearer(some, training, held_out), 1 / 4 + 3 / 4 * 0.5, atol=0.06)
    assert measures.nearer(training[:50], training[:50], held_out[:50]) == 1
    assert measures.nearer(held_out[:50], training[:50], held_out[:50]) == 0
    assert measures.nearer(fresh, held_out, held_out) == 0.5


# Models


SCALE = np.float32([[1.0, 0.5, -2.0], [0.3, 1.0, 1.0]])


def linear(cloud, sigma=0.5, config=None):
    """A decoder z @ SCALE of 3 pixels under a gaussian, and what images of mean codes look like."""
    seen = (cloud.mean @ SCALE).reshape(-1, 1, 3, 1)
    part = Part(seen, seen, np.zeros(len(seen), int))
    decode = lambda z: (np.asarray(z) @ SCALE).reshape(-1, 1, 3, 1)  # noqa: E731
    distortion = lambda params, z, x: np.square(decode(z) - x).sum(axis=(1, 2, 3)) / (2 * sigma**2)  # noqa: E731
    lab = SimpleNamespace(test=part, train=part, distortion=distortion, posterior=True, deviation=None)
    return lab, SimpleNamespace(params={}, decode=decode, config=config or {"likelihood": {"name": "bernoulli"}})


def test_visits_cost_what_a_linear_decoder_says(key):
    cloud = Cloud(2 * normal(4000, 2), np.broadcast_to(np.float32([[0.2, 0.7]]), (4000, 2)))
    lab, run = linear(cloud)
    keys = list(jax.random.split(key))
    found = measures.visits(lab, run, cloud, *keys)
    slopes = np.square(SCALE).sum(axis=1) / (2 * 0.5**2)
    np.testing.assert_allclose(found["visited"], np.sqrt(np.mean([0.2**2, 0.7**2])), rtol=0.01)
    np.testing.assert_allclose(found["rise"], slopes @ [0.2**2, 0.7**2], rtol=0.03)
    moved = measures.MOVED**2 * (cloud.mean.var(axis=0) + np.square([0.2, 0.7]))
    np.testing.assert_allclose(found["rise_moved"], slopes @ moved, rtol=0.03)
    points = Cloud(cloud.mean, np.zeros_like(cloud.mean))
    still = measures.visits(lab, run, points, *keys)
    assert still["visited"] < 1e-9
    assert still["rise"] == 0


def test_the_decoders_sd_is_read_from_its_density():
    likelihood = gaussian.make(sigma=0.1, scale="pixel")
    pixels = jnp.asarray(normal(20, 1, 1, 2))
    log_peak = likelihood.log_prob(pixels, likelihood.mean(pixels))  # one pixel: -log s - log sqrt(2 pi)
    expected = np.exp(-np.asarray(log_peak)) / np.sqrt(2 * np.pi)
    found = measures.deviations(likelihood, pixels)
    np.testing.assert_allclose(np.asarray(found).ravel(), expected, rtol=1e-4)


def test_sigma_that_grows_with_the_error_is_found():
    mean, sigma = normal(50, 2), np.exp(normal(50, 1, seed=1)) * np.ones((1, 2), np.float32)
    cloud = Cloud(mean, sigma)
    lab, run = linear(cloud, config={"likelihood": {"name": "gaussian", "scale": "pixel"}})
    wrong = lab.test.seen + np.sqrt(sigma[:, :1]).reshape(-1, 1, 1, 1) * np.float32([1, 2, 3]).reshape(1, 1, 3, 1)
    lab.test = lab.test._replace(seen=wrong)
    lab.deviation = lambda params, z: 1 / np.abs(wrong - run.decode(z))
    found = measures.uncertainty(lab, run, cloud)
    np.testing.assert_allclose(list(found.values()), [1, -1, -1])
    lab.posterior = None
    assert measures.uncertainty(lab, run, cloud) == {}


# Rules


def made(**groups):
    """measure "frechet" of named groups, a number a seed."""
    names = {"vae": VAE, "ae": AUTOENCODER, "no_kl": NO_KL}
    return {
        names.get(group, group): {str(seed): {"frechet": x, "distortion": x} for seed, x in enumerate(numbers)}
        for group, numbers in groups.items()
    }


def outcome(rule, values):
    return rule(values).outcome


def test_a_difference_counts_once_its_interval_leaves_zero():
    rule = better("frechet", VAE, AUTOENCODER, "")
    assert outcome(rule, made(vae=[1, 2, 3], ae=[11, 12, 13.5])) == YES  # less is better
    assert outcome(rule, made(vae=[11, 12, 13.5], ae=[1, 2, 3])) == NO
    assert outcome(rule, made(vae=[1, 2, 3], ae=[3, 1, 2.5])) == UNTOLD
    assert outcome(rule, made(vae=[1], ae=[99])) == UNTOLD  # one seed makes no claim
    assert outcome(rule, made(vae=[1, 2])) == ABSENT
    paired = made(vae=[1, 50, 100], ae=[2, 51.1, 101.2])  # seeds differ more than groups
    assert outcome(rule, paired) == YES
    assert "by 1.1 [" in rule(paired).number


def test_the_values_may_choose_whom_to_compare_with():
    values = made(vae=[10, 11, 12.5], **{"weight decay 0.1": [3, 4, 5], "weight decay 0.3": [12, 13, 14]})
    found = better("frechet", VAE, matched_decay, "")(values)
    assert found.outcome == YES
    assert found.number.startswith("weight decay 0.3: by 1.83 [")


def test_what_costs_something_else_is_not_compared():
    rule = if_matched(better("frechet", VAE, matched_decay, "smoother"))
    near = made(vae=[10, 11, 12.5], **{"weight decay 0.1": [11, 12, 13.3]})
    far = made(vae=[10, 11, 12.5], **{"weight decay 0.1": [30, 31, 32]})
    assert outcome(rule, near) == YES
    assert outcome(rule, far) == ABSENT
    assert rule(far).words == "smoother"


def test_not_much_lower():
    values = {LEARNED: {str(i): {"encoder_error": 0.5 + i / 100, "decoder_error": 0.55 + i / 90} for i in range(4)}}
    rule = lambda margin: not_lower("encoder_error", LEARNED, "decoder_error", margin, "")  # noqa: E731
    assert [outcome(rule(margin), values) for margin in (0.1, 0.052, 0.01)] == [YES, UNTOLD, NO]
    assert outcome(rule(0.1), {}) == ABSENT


def test_bars():
    values = made(vae=[1.0, 1.1, 1.2])
    assert [outcome(above("frechet", VAE, bar, ""), values) for bar in (0.5, 1.1, 2)] == [YES, UNTOLD, NO]
    assert [outcome(below("frechet", VAE, bar, ""), values) for bar in (0.5, 1.1, 2)] == [NO, UNTOLD, YES]
    assert cell({"0": 1234.6}) == "1,235"
    assert cell({}) == "-"


def test_growth_is_from_start_to_end():
    values = {NO_KL: {str(i): {"sigma": 0.1 + i / 100, "sigma_start": 1.0} for i in range(3)}}
    assert outcome(grown("sigma", "sigma_start", NO_KL, "", sign=-1), values) == YES
    assert outcome(grown("sigma", "sigma_start", NO_KL, ""), values) == NO


def test_as_good_is_most_of_the_gain():
    ends = {"ae": [100, 101, 99.0], "vae": [0, 1, 0.5]}  # a gain of 100, of which 20 may be missing
    rule = as_good("frechet", noise_baseline, "")
    for baseline, expected in (([5, 6, 4.0], YES), ([60, 61, 62.0], NO), ([0, 20, 40.0], UNTOLD), ([-9, -8, -9], YES)):
        assert outcome(rule, made(**ends) | made(**{"autoencoder + noise 1": baseline})) == expected
    assert outcome(rule, made(**ends)) == ABSENT
    none = {"ae": [1, 2, 3], "vae": [3, 1, 2.5], "autoencoder + noise 1": [-90, -90, -91]}
    assert outcome(rule, made(**none)) == MOOT
    assert outcome(rule, made(**(none | {"autoencoder + noise 1": [90, 90, 91]}))) == NO


def test_the_baselines_are_the_nearest():
    noises = made(vae=[0, 0], **{"autoencoder + noise 0.1": [9, 9], "autoencoder + noise 1": [5, 6]})
    assert noise_baseline(noises) == "autoencoder + noise 1"
    decays = made(vae=[10, 11], **{"weight decay 0.1": [3, 4], "weight decay 0.3": [12, 13], "weight decay 1": [40, 1]})
    assert matched_decay(decays) == "weight decay 0.3"
    rule = same_distortion(matched_decay, VAE, 3.0, "")
    assert outcome(rule, decays) == YES
    assert "weight decay 0.3" in rule(decays).number
    assert outcome(same_distortion(matched_decay, VAE, 1.0, ""), decays) == NO


@pytest.mark.parametrize(
    ("found", "premise", "expected"),
    [
        ((YES, YES), (), HOLDS),
        ((YES, MOOT), (), HOLDS),
        ((YES, ABSENT, MOOT), (), SO_FAR),
        ((MOOT, NO), (), FAILS),
        ((YES, UNTOLD), (), SO_FAR),
        ((YES, NO, UNTOLD), (), IN_PART),
        ((NO, UNTOLD), (), FAILS),
        ((UNTOLD,), (), OPEN),
        ((ABSENT,), (), OPEN),
        ((NO, NO), (YES,), FAILS),
        ((YES, YES), (NO,), OPEN),
    ],
)
def test_verdicts(found, premise, expected):
    assert verdict(*([Check("", outcome, "") for outcome in checks] for checks in (found, premise))) == expected


# The study and its page


def study_runs():
    """The runs of the study as a folder of them would be read."""
    runs = algebra.runs(str(CONFIG), [], study_config.sweep())
    flat = [flatten(run.config) for run in runs]
    return [
        ComparedRun(run.id, "", "", c["seed"], c, {}, "done", "", {}, None) for run, c in zip(runs, flat, strict=True)
    ]


def test_the_study_has_the_groups_of_the_claims():
    groups = {}
    for run in study_runs():
        groups.setdefault(__main__.group_of(run.config), []).append(run)
    names = sorted(groups, key=__main__.order)
    assert names == [
        "autoencoder", "autoencoder + noise 1", "beta = 0", "beta = 0.25", "VAE (beta = 1)", "beta = 4", "beta = 16",
        "weight decay 0.03", "weight decay 0.1", "weight decay 0.185", "VAE, learned pixel sigmas",
    ]  # fmt: skip
    assert {len(runs) for runs in groups.values()} == {5}
    assert all(markdown.in_claim(names, claim) for claim in CLAIMS)
    __main__.check_alike(groups)
    decays = groups["weight decay 0.1"]
    mixed = decays[:1] + [run._replace(config=run.config | {"variant.beta_z": 9.0}) for run in decays[1:]]
    with pytest.raises(UserError, match=r"config\.variant\.beta_z is not the same in all runs"):
        __main__.check_alike(groups | {"weight decay 0.1": mixed})
    other = groups[VAE][0]
    groups[VAE][0] = other._replace(config=other.config | {"latent_dim": 3})
    with pytest.raises(UserError, match=r"config\.latent_dim is not the same in all runs"):
        __main__.check_alike(groups)
    groups[VAE][0] = groups[VAE][1]
    with pytest.raises(UserError, match="several runs of one seed"):
        __main__.check_alike(groups)
    assert __main__.group_of(other.config | {"variant.free_bits": 1.0}) == ""


def test_the_study_is_there_for_mnist_too():
    config = load_config(f"{CONFIG}:mnist")
    assert (config.data.name, config.latent_dim) == ("mnist", 20)
    assert config.train.steps % config.checkpoint.every == 0


def test_the_page_follows_from_its_numbers():
    page = ROOT / "docs/why_vae.md"
    found = json.loads(page.with_suffix(".json").read_text())
    assert page.read_text() == markdown.render(found, page.stem), "run: python -m experiments.why_vae --runs=..."
    pictures = {file.stem for file in page.with_suffix("").glob("*.png")}
    assert pictures == {claim.picture for claim in CLAIMS}
    assert len(found["values"]) == 11
    assert {len(runs) for runs in found["values"].values()} == {5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two steps of the three groups that have to be there, and a folder that is no run."""
    study = tmp_path_factory.mktemp("study")
    (study / "notes").mkdir()
    short = {
        "train.steps": 2,
        "checkpoint.every": 1,
        "parallel.devices": 1,
        "net.hidden": "(8,)",
        "evaluation.metrics": "",
    }
    for number, point in enumerate(({"variant.beta": 0}, {"variant.beta": 1}, {"variant.name": "autoencoder"})):
        words = [f"--config.{field}={value}" for field, value in (point | short).items()]
        assert cli.train([f"--config={CONFIG}", f"--workdir={study / str(number)}", *words]) == 0
    return study


def test_a_study_becomes_a_page(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_feature_classifier, "STEPS", 100)
    page = tmp_path / "page.md"
    assert __main__.main([f"--runs={folder}", f"--page={page}"]) == 0
    found, text = json.loads(page.with_suffix(".json").read_text()), page.read_text()
    assert text == markdown.render(found, "page")
    assert "Left out of the folder: 1 no runs." in text
    assert text.count("**Cannot be told from these seeds.**") == len(CLAIMS)  # one seed makes no claim
    assert {file.stem for file in (tmp_path / "page").glob("*.png")} == {claim.picture for claim in CLAIMS}
    records, end = found["training"][VAE]["0"], found["values"][VAE]["0"]
    assert [record["step"] for record in records] == [0, 1, 2]
    assert records[-1]["sigma"] == end["sigma"] != records[0]["sigma"] == end["sigma_start"]
    assert LEARNED not in found["values"]
    assert {"smoothness", "samples.near_copies"} <= end.keys()
    evaluation = json.loads((folder / "1/evaluation.json").read_text())
    assert evaluation["aggregate_posterior"] == pytest.approx(end["aggregate_posterior"], rel=1e-5)


def test_a_study_without_the_groups_is_refused(folder, tmp_path):
    (tmp_path / "only").symlink_to(folder / "0")
    with pytest.raises(UserError, match="has no finished run of: autoencoder, VAE"):
        __main__.main([f"--runs={tmp_path}", f"--page={tmp_path / 'page.md'}"])
    with pytest.raises(UserError, match="--runs: give the folder of a study"):
        __main__.main([])
