"""Scores that know the factors, of codes whose answer is known; and what all scores have in common."""

import numpy as np
import pytest
from helpers.factor_codes import GRID, NAMES, SIZES, given, noise, perfect, rotated, score

from experiments.benchmark.metrics import SCORES
from vae_jax import metrics, registry
from vae_jax.errors import UserError
from vae_jax.metrics import _information, beta_vae, explicitness, factor_vae, irs, mig, modularity, sap, udr

SMALL = {"train": 2000, "test": 1000}


def test_group_shares_its_factor_and_nothing_else(key):
    codes_of_grid = given(GRID).factor_codes
    shared = np.repeat(np.arange(4), 500)
    codes = codes_of_grid.draw_groups(key, shared, 6)
    assert codes.shape == (2000, 6, 4)
    same = (codes == codes[:, :1]).all(axis=1)
    assert same[np.arange(2000), shared].all()
    assert same.sum() < 2000 + 2000 * 3 * 2.0**-4
    for factor, size in enumerate(SIZES):
        share = np.bincount(codes[:, 0, factor].astype(int), minlength=size) / 2000
        np.testing.assert_allclose(share, 1 / size, atol=0.05)
        free = codes[shared != factor][:, :, factor].astype(int)
        np.testing.assert_allclose(np.bincount(free.ravel(), minlength=size) / free.size, 1 / size, atol=0.02)


def test_information_is_that_of_sklearn():
    from sklearn.metrics import mutual_info_score

    random = np.random.default_rng(1)
    codes = random.normal(size=(640, 3)) + GRID[:, :3]
    classes = random.integers(0, 6, (640, 2))
    classes[:, 1] = np.clip(codes[:, 1], 0, 5)
    known, entropies = _information.binned_information(codes, classes.astype(np.int32), 20)
    bins = _information.assign_bins(codes, 20)
    for j, k in np.ndindex(3, 2):
        np.testing.assert_allclose(known[j, k], mutual_info_score(bins[:, j], classes[:, k]), atol=1e-9)
    np.testing.assert_allclose(entropies, [mutual_info_score(column, column) for column in classes.T], atol=1e-9)
    assert known[1, 1] > 10 * known[0, 0]


def test_perfect_codes_have_a_gap_of_one_where_a_bin_holds_one_value():
    np.testing.assert_allclose(mig.gaps(perfect(), GRID, 20), 1, atol=1e-9)


def test_thirty_two_values_in_twenty_bins_leave_a_gap_of_exactly_0_85():
    # 12 bins hold two values and 8 hold one: H(bin) = 3/4 log 16 + 1/4 log 32, of log 32.
    sizes = (32, 3)
    grid = np.stack(np.unravel_index(np.arange(96), sizes), axis=1).astype(np.int32)
    np.testing.assert_allclose(mig.gaps(grid.astype(np.float32), grid, 20), [0.85, 1], atol=1e-9)


def test_duplicates_have_no_gap_but_are_modular():
    twice = np.concatenate([perfect(), -2 * perfect()], axis=1)
    np.testing.assert_allclose(mig.gaps(twice, GRID, 20), 0, atol=1e-9)
    each = modularity.modularity(_information.binned_information(twice, GRID, 20)[0])
    np.testing.assert_allclose(each, [np.nan, *[1] * 4] * 2, atol=1e-9)


def test_modularity_by_hand():
    known = np.array([[2.0, 0, 0], [2, 1, 0], [1, 1, 1], [0, 0, 0]])
    np.testing.assert_allclose(modularity.modularity(known), [1, 1 - 1 / (4 * 2), 0, np.nan])


def test_perfect_codes_score_what_the_definitions_say():
    subject = given(perfect())
    assert score(beta_vae, subject, **SMALL)["beta_vae"] == 1
    assert score(factor_vae, subject, **SMALL) == {
        "factor_vae": 1,
        "factor_vae.train": 1,
        "factor_vae.latents": 4,
    }
    np.testing.assert_allclose(score(irs, subject)["irs"], 1, atol=1e-9)
    np.testing.assert_allclose(score(modularity, subject)["modularity"], 1, atol=1e-3)
    assert score(explicitness, subject, train=500, test=300)["explicitness"] > 0.99
    # Nothing but counts between independent things: about (20 - 1)(8 - 1) / (2 n) nats of log 8.
    assert score(mig, subject)["mig"] > 0.99


def test_sap_of_perfect_codes_is_one_less_chance_for_two_values():
    sizes = (2, 2, 2)
    found = score(sap, given(perfect(sizes), tuple("abc"), sizes), **SMALL)
    np.testing.assert_allclose(found["sap"], 0.5, atol=0.05)


def test_noise_scores_chance():
    subject = given(noise(8))
    assert abs(score(beta_vae, subject, **SMALL)["beta_vae"] - 1 / 4) < 0.1
    assert abs(score(factor_vae, subject, **SMALL)["factor_vae"] - 1 / 4) < 0.2
    assert abs(score(explicitness, subject, **SMALL)["explicitness"] - 0.5) < 0.1
    assert score(mig, subject)["mig"] < 0.05
    assert score(sap, subject, **SMALL)["sap"] < 0.05


def test_rotation_lowers_the_scores_of_axes_and_not_of_reach():
    plain, turned = (given(codes) for codes in ((GRID - GRID.mean(axis=0)[None]) / GRID.std(axis=0)[None], rotated()))
    assert score(mig, turned)["mig"] < score(mig, plain)["mig"] - 0.3
    assert score(modularity, turned)["modularity"] < score(modularity, plain)["modularity"] - 0.1
    assert score(sap, turned, **SMALL)["sap"] < score(sap, plain, **SMALL)["sap"] - 0.05
    assert score(irs, turned)["irs"] < score(irs, plain)["irs"] - 0.2
    reach = [score(explicitness, subject, **SMALL)["explicitness"] for subject in (plain, turned)]
    np.testing.assert_allclose(*reach, atol=0.02)


def test_stillest_latent_is_that_of_a_slow_oracle():
    random = np.random.default_rng(2)
    batches = (
        random.normal(size=(30, 9, 4)) * random.uniform(0.5, 1.5, (30, 1, 4)) * np.sqrt([1, 0.5, 2, 1])[None, None]
    )
    variance, active = np.array([1.0, 0.5, 2.0, 1e-9]), np.array([True, True, True, False])
    slow = []
    for batch in batches:
        relative = [np.sum((z - z.mean()) ** 2) / 8 / v for z, v in zip(batch.T[:3], variance, strict=False)]
        slow.append(int(np.argmin(relative)))
    np.testing.assert_array_equal(factor_vae.stillest(batches.astype(np.float32), variance, active), slow)
    assert set(slow) == {0, 1, 2}


def test_votes_are_counted_where_they_are_cast(key):
    perfect_codes, variance = given(perfect()).factor_codes, perfect().var(axis=0, ddof=1)
    table = factor_vae.count_votes(perfect_codes, key, 400, 16, variance, 0.05)
    assert table.sum() == 400
    # perfect() has factor k at latent 4 - k, and the constant at 0.
    np.testing.assert_array_equal(table[1:][::-1] > 0, np.eye(4, dtype=bool))
    assert not table[0].any()


def test_a_latent_that_hardly_moves_is_dropped_and_would_else_win():
    still = np.concatenate([perfect()[:, 1:], 1e-3 * noise(1) * (GRID[:, :1] == 0)], axis=1)
    assert score(factor_vae, given(still), **SMALL)["factor_vae.latents"] == 4
    kept = score(factor_vae, given(still), least_deviation=0.0, **SMALL)
    assert kept["factor_vae.latents"] == 5
    gone = score(factor_vae, given(1e-3 * perfect()), **SMALL)
    assert gone["factor_vae.latents"] == 0
    assert abs(gone["factor_vae"] - 1 / 4) < 0.06


def test_areas_are_those_of_sklearn():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(3)
    classes = random.integers(0, 3, 200)
    scores = np.round(random.normal(size=(200, 3)) + np.eye(3)[classes], 1)  # rounded, for ties
    expected = [roc_auc_score(classes == k, scores[:, k]) for k in range(3)]
    np.testing.assert_allclose(explicitness.areas(scores, classes[:, None] == np.arange(3)[None]), expected)
    assert np.isnan(explicitness.areas(scores, np.zeros((200, 3), bool))).all()


@pytest.mark.parametrize("c", [0.0, 0.25, 0.8])
def test_robustness_of_a_mixture_in_closed_form(c):
    # z = u + c v, u and v of +-1: with u set, z strays by c of the 1 + c that it can.
    classes = np.stack(np.unravel_index(np.arange(4), (2, 2)), axis=1).astype(np.int32)
    signs = 2.0 * classes - 1
    each, weight = irs.robustness(signs[:, :1] + c * signs[:, 1:], classes, 1.0)
    np.testing.assert_allclose(each, 1 / (1 + c))
    np.testing.assert_allclose(weight, 1 + c)


SETTINGS = {name: {"train": 300, "test": 200} for name in ("beta_vae", "factor_vae", "sap", "explicitness")}
SETTINGS["dci"] = {"train": 300, "test": 200, "rounds": 3, "bins": 8}
PARAMETERS = {name: SETTINGS.get(name, {}) for name in SCORES.split(",")}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_score_depends_on_codes_and_key_alone_and_is_first_in_its_result(name):
    found, again = (score(metrics.get(name), given(rotated() + 0.1 * noise()), **PARAMETERS[name]) for _ in range(2))
    assert found == again
    assert next(iter(found)) == name
    assert all(part == name or part.startswith(f"{name}.") for part in found)
    assert all(np.isfinite(value) for value in found.values())
    assert set(metrics.get(name).requires) <= metrics.REQUIREMENTS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_constant_codes_have_a_defined_score(name):
    found = score(metrics.get(name), given(np.ones((len(GRID), 4))), **PARAMETERS[name])[name]
    nothing = {"mig", "mig_sampled", "sap", "gaussian_tc", "active_units", "latent_information"}
    undefined = {"modularity", "irs", "wasserstein_correlation", "dci"}
    chance = {"beta_vae": 1 / 4, "factor_vae": 1 / 4, "explicitness": 1 / 2}
    expected = 0.0 if name in nothing else np.nan if name in undefined else chance[name]
    np.testing.assert_allclose(found, expected, atol=0.08 if name in chance else 1e-5)


@pytest.mark.parametrize("name", [name for name in PARAMETERS if "factors" in metrics.get(name).requires])
def test_a_factor_of_one_value_is_left_out(name):
    with_constant = given(noise(), ("constant", *NAMES), (1, *SIZES))
    scores = score(metrics.get(name), with_constant, **PARAMETERS[name])
    assert scores == score(metrics.get(name), given(noise()), **PARAMETERS[name])
    assert not any("constant" in part for part in scores)


def test_factors_that_took_one_value_in_the_draw_are_nan_and_not_zero():
    codes, classes = noise(3)[:40], GRID[:40].copy()
    classes[:, 0] = 0
    assert np.isnan(mig.gaps(codes, classes, 20)[0])
    assert np.isnan(sap.accuracy(codes[:, 0], classes[:, 0], codes[:, 0], classes[:, 0]))
    assert np.isnan(explicitness.explicitness(codes, classes[:, 0], codes, classes[:, 0]))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if name == "dci" else ()) for name in PARAMETERS]
)
def test_fewer_points_than_classes_give_a_number_or_say_that_there_is_none(name):
    few = {field: 6 for field in ("points", "train", "test", "images") if field in metrics_fields(name)}
    found = score(metrics.get(name), given(rotated()), **few)
    assert found[name] != 0 or np.isnan(found[name])


def metrics_fields(name):
    return registry.keyword_fields(metrics.get(name).compute)


def test_codes_that_are_not_finite_are_refused():
    codes = noise()
    codes[7, 1] = np.nan
    with pytest.raises(UserError, match=r"codes: 1 of 640 are not finite"):
        given(codes)
    with pytest.raises(UserError, match="not finite"):
        udr.score([codes, codes], [np.ones(4)] * 2)


def test_what_cannot_be_scored_is_refused_by_name():
    subject = given(noise())
    with pytest.raises(UserError, match="only one factor varies"):
        score(modularity, given(noise()[:8], ("a",), (8,)))
    with pytest.raises(UserError, match="several models"):
        score(udr, subject)
    with pytest.raises(UserError, match=r"relation: 'laso'.*did you mean 'lasso'"):
        udr.score([noise(), noise()], [np.ones(4)] * 2, relation="laso")
    with pytest.raises(UserError, match="two or more"):
        udr.score([noise()], [np.ones(4)])
    with pytest.raises(UserError, match="same images"):
        udr.score([noise(), noise()[:9]], [np.ones(4)] * 2)
