"""DCI and its trees: against scikit-learn's, and on importances and codes whose answer is known."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.metrics import _boosted_trees, dci, higher_is_better
from vae_jax.metrics._given_codes import GivenCodes
from vae_jax.metrics._requests import parse_requests

pytestmark = pytest.mark.usefixtures("undrawn")

SIZES = (3, 8, 8)
GRID = np.stack(np.unravel_index(np.arange(math.prod(SIZES)), SIZES), axis=1)
ROUNDS = {"train": 1500, "test": 1500, "rounds": 20}
KNOWN = ((0.5, 0.5, 0.0), (0.0, 0.0, 1.0))


def blobs(count, seed=0):
    """Rows of five features and two labels, of 3 and 2 values: a shift, a bend, a tail and noise."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, count)
    rows = random.normal(size=(count, 5))
    rows[:, 0] += 2 * label
    rows[:, 1] += np.sin(label)
    rows[:, 2] = rows[:, 2] ** 3 + 0.7 * (label % 2)
    return rows.astype(np.float32), np.stack([label, label > 0], axis=1).astype(np.int32)


@pytest.mark.full
def test_trees_are_those_of_sklearn_where_every_row_has_its_own_bin():
    from sklearn.ensemble import GradientBoostingClassifier

    (rows, labels), (others, truth) = blobs(300), blobs(2000, seed=1)
    edges = _boosted_trees.bin_edges(rows, 1200)
    binned = _boosted_trees.assign_bins(rows, edges)
    trees = _boosted_trees.fit(jax.random.key(0), binned, jnp.asarray(labels), sizes=(3, 2), bins=1200, rounds=30)
    told = np.asarray(_boosted_trees.predict(trees, _boosted_trees.assign_bins(others, edges), sizes=(3, 2)))
    for k in range(2):
        theirs = GradientBoostingClassifier(n_estimators=30, random_state=0).fit(rows, labels[:, k])
        # They cut half way between rows and choose among equal splits in another order.
        np.testing.assert_allclose(trees.importance[:, k], theirs.feature_importances_, atol=0.02)
        assert np.mean(told[:, k] == theirs.predict(others)) > 0.97
        assert abs(np.mean(told[:, k] == truth[:, k]) - theirs.score(others, truth[:, k])) < 0.01


@pytest.fixture(scope="module")
def full():
    """2,000 rows at the settings of the score: 256 bins, 100 rounds."""
    (rows, labels), (others, truth) = blobs(2000), blobs(4000, seed=1)
    edges = _boosted_trees.bin_edges(rows, 256)
    binned = _boosted_trees.assign_bins(rows, edges)
    trees = _boosted_trees.fit(jax.random.key(0), binned, jnp.asarray(labels), sizes=(3, 2), bins=256)
    told = np.asarray(_boosted_trees.predict(trees, _boosted_trees.assign_bins(others, edges), sizes=(3, 2)))
    return rows, labels, others, truth, trees, told


def test_bins_cost_little(full):
    from sklearn.ensemble import GradientBoostingClassifier

    rows, labels, others, truth, trees, told = full
    theirs = GradientBoostingClassifier(random_state=0).fit(rows, labels[:, 0])
    np.testing.assert_allclose(trees.importance[:, 0], theirs.feature_importances_, atol=0.03)
    assert abs(np.mean(told[:, 0] == truth[:, 0]) - theirs.score(others, truth[:, 0])) < 0.01


def test_importances_are_shares_and_nodes_split_where_they_say(full):
    trees = full[4]
    np.testing.assert_allclose(trees.importance.sum(axis=0), 1, rtol=1e-5)
    assert trees.feature.shape == (100, 5, 7)
    assert trees.leaf.shape == (100, 5, 8)
    # Two values of one label have mirrored trees: what one gains the other loses.
    np.testing.assert_allclose(trees.leaf[0, 3], -trees.leaf[0, 4], atol=1e-5)
    assert not np.allclose(trees.leaf[0, 0], -trees.leaf[0, 1], atol=1e-2)


def test_first_splits_are_those_of_a_slow_oracle():
    rows = np.array([[0, 3], [1, 3], [2, 0], [3, 0], [3, 1], [0, 0]], np.int32)
    labels = np.array([0, 0, 1, 1, 1, 0], np.int32)
    # The residual of class 0 is [y = 0] - 1/2. One split takes it all: leaves of rate 0.1 times 1/2 (+-1/2) / (1/4).
    expected = [0.1, 0, 0, 0, -0.1, 0, 0, 0]
    trees = _boosted_trees.fit(jax.random.key(0), jnp.asarray(rows), labels[:, None], sizes=(2,), bins=4, rounds=1)
    residual = (labels == 0) - 0.5
    best = max(
        (left.sum() * (~left).sum() / 6 * (residual[left].mean() - residual[~left].mean()) ** 2, -feature, -cut)
        for feature in range(2)
        for cut in range(3)
        for left in [rows[:, feature] <= cut]
    )
    assert (int(trees.feature[0, 0, 0]), int(trees.last_left[0, 0, 0])) == (-best[1], -best[2])
    np.testing.assert_allclose(trees.leaf[0, 0], expected, atol=1e-6)


def test_bins_hold_equally_many_and_equal_values_share_one():
    rows = np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32)
    np.testing.assert_allclose(
        np.bincount(np.asarray(_boosted_trees.assign_bins(rows, _boosted_trees.bin_edges(rows, 8)))[:, 0]), 125
    )
    repeated = (np.arange(1000)[:, None] % 20).astype(np.float32)
    found = np.asarray(_boosted_trees.assign_bins(repeated, _boosted_trees.bin_edges(repeated, 64)))[:, 0]
    assert len(np.unique(found)) == 20
    assert all(len(np.unique(found[repeated[:, 0] == value])) == 1 for value in range(20))


def test_scores_of_importances_by_hand():
    np.testing.assert_allclose(dci.disentanglement(np.eye(3)), 1)
    np.testing.assert_allclose(dci.completeness(np.eye(3)), 1)
    np.testing.assert_allclose(dci.disentanglement(np.ones((4, 3))), 0, atol=1e-12)
    np.testing.assert_allclose(dci.completeness(np.ones((4, 3))), 0, atol=1e-12)
    # Rows: two factors of three at weight 1, one factor at weight 1. Columns: each has one latent.
    np.testing.assert_allclose(dci.disentanglement(np.array(KNOWN)), 0.5 * (1 - math.log(2) / math.log(3)) + 0.5)
    np.testing.assert_allclose(dci.completeness(np.array(KNOWN)), 1)
    # A latent that matters to nothing has no weight.
    np.testing.assert_allclose(dci.disentanglement(np.concatenate([np.eye(3), np.zeros((2, 3))])), 1)
    assert np.isnan(dci.disentanglement(np.ones((3, 1))))
    assert np.isnan(dci.completeness(np.ones((1, 3))))


def test_latents_and_factors_count_by_their_share_of_all_importance():
    # Rows sum to 0.8, 0.2 and 0.1, columns to 0.7 and 0.4, of 1.1 in all.
    matrix = np.array([[0.6, 0.2], [0.1, 0.1], [0.0, 0.1]])
    # In bits: H(3/4, 1/4) = 2 - 3/4 log 3, H(1/2, 1/2) = 1 and H(0, 1) = 0.
    rows = [1 - (2 - 0.75 * math.log2(3)), 0, 1]
    expected = (0.8 * rows[0] + 0.2 * rows[1] + 0.1 * rows[2]) / 1.1
    np.testing.assert_allclose(dci.disentanglement(matrix), expected)
    np.testing.assert_allclose(expected, 0.228161364, rtol=1e-8)
    # H(6/7, 1/7, 0) = log 7 - 6/7 log 6 and H(1/2, 1/4, 1/4) = 3/2 log 2, of log 3.
    columns = [1 - (math.log(7) - 6 / 7 * math.log(6)) / math.log(3), 1 - 1.5 * math.log(2) / math.log(3)]
    expected = (0.7 * columns[0] + 0.4 * columns[1]) / 1.1
    np.testing.assert_allclose(dci.completeness(matrix), expected)
    np.testing.assert_allclose(expected, 0.418299432, rtol=1e-8)
    # Of equal weight they would be 0.396 and 0.340.
    assert abs(dci.disentanglement(matrix) - np.mean(rows)) > 0.1
    assert abs(dci.completeness(matrix) - np.mean(columns)) > 0.05


def found(codes):
    """DCI of codes of the grid, four latents; all share one compiled program."""
    subject = GivenCodes(np.asarray(codes, np.float32), ("shape", "x", "y"), SIZES)
    return dci.compute(subject, randomness.root_key(0), **ROUNDS)


@pytest.fixture(scope="module")
def perfect():
    scaled = (GRID * np.array([-1, 0.5, 2]))[:, ::-1]
    return found(np.concatenate([scaled, np.random.default_rng(0).normal(size=(len(GRID), 1))], axis=1))


def test_perfect_codes_score_almost_one(perfect):
    assert perfect["dci"] > 0.98
    assert perfect["dci.completeness"] > 0.98
    assert perfect["dci.informativeness"] == 1


def test_noise_tells_nothing():
    codes = np.random.default_rng(1).normal(size=(len(GRID), 4))
    # Every image has its own code, which trees would learn by heart: judge by images not seen.
    seen = np.random.default_rng(2).random(len(GRID)) < 0.5
    parts = [codes[seen], GRID[seen], codes[~seen], GRID[~seen]]
    codes, classes, test_codes, test_classes = (
        part.astype(np.int32 if i % 2 else np.float32) for i, part in enumerate(parts)
    )
    matrix, accuracy = dci.importances(randomness.root_key(0), codes, classes, test_codes, test_classes, 64, 20)
    np.testing.assert_allclose(accuracy, 1 / np.array(SIZES), atol=0.15)
    assert dci.disentanglement(matrix) < 0.1
    assert dci.completeness(matrix) < 0.1


def test_rotation_lowers_disentanglement_and_completeness(perfect):
    x, y = (GRID[:, i] - 3.5 for i in (1, 2))
    turned = found(np.stack([GRID[:, 0], x + y, x - y, 0 * x], axis=1))
    assert turned["dci"] < perfect["dci"] - 0.3
    assert turned["dci.completeness"] < perfect["dci.completeness"] - 0.3


def test_duplicates_lower_completeness_alone(perfect):
    # Three latents, and the one of x once more: its importance is shared by lot, half and half.
    twice = found(np.concatenate([GRID, -GRID[:, 1:2]], axis=1))
    assert twice["dci"] > perfect["dci"] - 0.02
    expected = (1 + 1 + (1 - math.log(2) / math.log(4))) / 3
    np.testing.assert_allclose(twice["dci.completeness"], expected, atol=0.03)


def test_a_factor_that_took_one_value_has_no_importances():
    codes = np.random.default_rng(3).normal(size=(50, 2)).astype(np.float32)
    classes = np.zeros((50, 2), np.int32)
    matrix, accuracy = dci.importances(jax.random.key(0), codes, classes, codes, classes, 8, 2)
    assert np.isnan(matrix).all()
    assert np.isnan(accuracy).all()
    assert np.isnan(dci.disentanglement(matrix))
    classes[:, 1] = codes[:, 0] > 0
    matrix, accuracy = dci.importances(jax.random.key(0), codes, classes, codes, classes, 8, 2)
    assert np.isnan(matrix[:, 0]).all()
    assert matrix[0, 1] > 0.9
    assert np.isnan(dci.disentanglement(matrix))
    np.testing.assert_array_equal(np.isnan(accuracy), [True, False])


def test_a_value_that_was_never_seen_counts_as_missed():
    codes = np.arange(60, dtype=np.float32)[:, None] % 6
    classes = codes.astype(np.int32)
    seen = classes[:, 0] < 5
    _, accuracy = dci.importances(jax.random.key(0), codes[seen], classes[seen], codes, classes, 8, 20)
    np.testing.assert_allclose(accuracy, 5 / 6)


def drawn_blobs(count=200):
    """Codes and classes to learn from, and those to be judged by."""
    return *blobs(count), *blobs(count, seed=1)


def test_trees_of_sklearn_are_its_own():
    from sklearn.ensemble import GradientBoostingClassifier

    drawn = codes, classes, test_codes, test_classes = drawn_blobs()
    matrix, accuracy = dci.importances(jax.random.key(0), *drawn, 64, 5, "sklearn")
    for k in range(2):
        theirs = GradientBoostingClassifier(n_estimators=5).fit(codes, classes[:, k])
        np.testing.assert_allclose(matrix[:, k], theirs.feature_importances_, atol=1e-6)
        np.testing.assert_allclose(accuracy[k], theirs.score(test_codes, test_classes[:, k]))


def test_trees_of_lightgbm_are_its_own():
    lightgbm = pytest.importorskip("lightgbm", reason="the extra 'lightgbm' is not installed")
    drawn = codes, classes, test_codes, test_classes = drawn_blobs()
    matrix, accuracy = dci.importances(jax.random.key(0), *drawn, 64, 5, "lightgbm")
    for k in range(2):
        data = lightgbm.Dataset(codes, classes[:, k])
        settings = {"objective": "multiclass", "num_class": 3} if k == 0 else {"objective": "binary"}
        theirs = lightgbm.train({**settings, "verbose": -1}, data, num_boost_round=5)
        gain = theirs.feature_importance("gain")
        np.testing.assert_allclose(matrix[:, k], gain / gain.sum(), atol=1e-6)
        told = theirs.predict(test_codes)
        told = told.argmax(axis=1) if k == 0 else told > 0.5
        np.testing.assert_allclose(accuracy[k], np.mean(told == test_classes[:, k]))


def test_which_trees_is_a_setting_of_the_score(perfect):
    (request,) = parse_requests("dci:trees=sklearn:train=500:test=500:rounds=3")
    subject = GivenCodes(GRID.astype(np.float32), ("shape", "x", "y"), SIZES)
    found = request.compute(subject, randomness.root_key(0))
    label = "dci:trees=sklearn:train=500:test=500:rounds=3"
    assert {name.removeprefix(label) for name in found} == {name.removeprefix("dci") for name in perfect}
    assert found[label] > 0.98
    assert found[f"{label}.informativeness.x"] == 1
    assert higher_is_better(f"{label}.informativeness.x") is True
    assert request.protocol == "train=500 test=500 bins=256 rounds=3 trees=sklearn"
    with pytest.raises(UserError, match=r"--metrics=dci:trees=sklern: trees: 'sklern' is unknown; .* mean 'sklearn'"):
        parse_requests("dci:trees=sklern")


def test_lightgbm_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(UserError, match=r"^trees: 'lightgbm' needs the extra 'lightgbm': pip install -e"):
        dci.importances(jax.random.key(0), *drawn_blobs(), 64, 5, "lightgbm")
