"""Grids of factors: ids, splits, pairs; sprites against a polygon oracle and against the published images."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from matplotlib.path import Path as Polygon

from vae_jax import data
from vae_jax.data import _factors, _stored_grids, dsprites, sprites
from vae_jax.errors import UserError

DSPRITES = Path(__file__).parents[3] / "shared/data/dsprites/dsprites_grid_46080.npz"
SMALL = (3, 2, 5, 3, 3)
needs_dsprites = pytest.mark.skipif(not DSPRITES.exists(), reason="no dSprites sub-grid beside the checkout")


def small(split="random 0.25", changed=1, resolution=16):
    return sprites.load(sizes=SMALL, resolution=resolution, split=split, changed=changed)


def classes_of(part, indices=None):
    """The classes of all images of a split, or of those at `indices`."""
    return np.asarray(jax.jit(part.factors)(np.arange(part.size) if indices is None else indices))


def images_of(loaded, classes):
    return np.asarray(jax.jit(loaded.factors.images)(jnp.asarray(classes)))


def render(loaded, ids):
    return np.asarray(jax.jit(loaded.factors.render)(jnp.asarray(ids)))


def test_ids_and_classes_are_numpys():
    ids = np.arange(np.prod(SMALL))
    classes = np.stack(np.unravel_index(ids, SMALL), axis=1)
    np.testing.assert_array_equal(_factors.to_classes(SMALL, jnp.asarray(ids)), classes)
    np.testing.assert_array_equal(_factors.to_ids(SMALL, jnp.asarray(classes)), ids)


def test_splits_part_the_grid():
    loaded = small()
    train, test = classes_of(loaded.train), classes_of(loaded.test)
    ids = np.concatenate([np.ravel_multi_index(classes.T, SMALL) for classes in (train, test)])
    np.testing.assert_array_equal(np.sort(ids), np.arange(np.prod(SMALL)))
    assert 0.15 < loaded.test.size / len(ids) < 0.35
    images = jax.jit(loaded.train.fetch)(np.arange(5))
    np.testing.assert_array_equal(images, images_of(loaded, train[:5]))


def test_a_combination_is_held_out_whole():
    loaded = small("without shape=2 x>=1")
    train, test = classes_of(loaded.train), classes_of(loaded.test)
    combined = [(classes[:, 0] == 2) & (classes[:, 3] >= 1) for classes in (train, test)]
    assert combined[1].all()
    assert not combined[0].any()
    assert len(train) + len(test) == np.prod(SMALL)


def test_correlated_factors_are_correlated_in_training_and_not_in_the_held_out_split():
    loaded = sprites.load(sizes=(3, 6, 8, 16, 16), split="correlated x y 0.2")
    train, test = classes_of(loaded.train), classes_of(loaded.test)
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij"), axis=-1).reshape(-1, 2) / 15
    weight = np.exp(-((grid[:, 0] - grid[:, 1]) ** 2) / (2 * 0.2**2))
    centred = grid - np.average(grid, axis=0, weights=weight)
    cov = (weight[:, None] * centred).T @ centred / weight.sum()
    expected = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    assert expected > 0.5
    np.testing.assert_allclose(np.corrcoef(train[:, 3], train[:, 4])[0, 1], expected, atol=0.03)
    assert abs(np.corrcoef(test[:, 3], test[:, 4])[0, 1]) < 0.08
    assert abs(np.corrcoef(train[:, 1], train[:, 4])[0, 1]) < 0.03


@pytest.mark.parametrize("changed", [1, 3, 0])
def test_a_partner_differs_in_the_factors_asked_for_and_is_of_the_training_split(changed, key):
    loaded = small("random 0.25", changed, resolution=64)
    part, count = loaded.train, 200
    grid = render(loaded, np.arange(np.prod(SMALL)))[..., 0].reshape(np.prod(SMALL), -1)
    table = {image.tobytes(): i for i, image in enumerate(grid)}
    assert len(table) == np.prod(SMALL)
    indices = np.arange(count) % part.size
    classes = classes_of(part, indices)
    partners = np.asarray(jax.jit(part.partner)(jnp.asarray(indices), jnp.arange(count), key)).reshape(count, -1)
    trained = {
        image.tobytes() for image in np.asarray(jax.jit(part.fetch)(np.arange(part.size))).reshape(part.size, -1)
    }
    assert all(image.tobytes() in trained for image in partners)
    partner_classes = np.stack(np.unravel_index([table[image.tobytes()] for image in partners], SMALL), axis=1)
    differ = (classes != partner_classes).sum(axis=1)
    if changed:
        assert np.mean(differ == changed) > 0.97
    else:
        assert set(differ) == {1, 2, 3, 4}


def test_changes_reach_every_factor_that_can_and_every_other_value():
    sizes, start = (3, 1, 4), jnp.int32([1, 0, 2])
    keys = jax.random.split(jax.random.key(0), 400)
    moved = np.asarray(jax.jit(jax.vmap(lambda k: _factors.change_factors(k, sizes, 1, start)))(keys))
    assert {tuple(row) for row in moved.tolist()} == {(0, 0, 2), (2, 0, 2), (1, 0, 0), (1, 0, 1), (1, 0, 3)}
    assert 0.4 < np.mean(moved[:, 0] != 1) < 0.6


def test_a_pair_counts_the_factors_that_are_scored(key):
    sizes = (5, 10, 4, 6)
    start, noise = jnp.int32([1, 3, 0, 5]), (False, True, False, False)
    change = jax.jit(jax.vmap(lambda k, changed: _factors.change_factors(k, sizes, changed, start, noise), (0, None)))
    for changed, expected in ((1, {1}), (3, {3}), (0, {1, 2})):
        moved = np.asarray(change(jax.random.split(jax.random.fold_in(key, changed), 3000), changed))
        assert set((moved != np.asarray(start)[None])[:, [0, 2, 3]].sum(axis=1)) == expected
        np.testing.assert_allclose(np.bincount(moved[:, 1]) / 3000, 0.1, atol=0.03)


def test_a_partner_of_a_split_has_a_nuisance_of_its_own(key):
    sizes = (3, 8, 5)
    images = jnp.arange(120, dtype=jnp.uint8)[:, None, None, None]
    grid = _factors.Factors(("a", "b", "c"), sizes, Partial(_stored_grids.take_images, images), ("b",))
    part = data.from_factors(grid, "random 0.4", 1).train
    indices = jnp.arange(2000) % part.size
    partners = np.asarray(jax.jit(lambda part, key: part.partner(indices, jnp.arange(2000), key))(part, key)).ravel()
    assert set(partners) <= set(np.asarray(part.fetch(np.arange(part.size))).ravel())
    classes, other = classes_of(part, indices), np.stack(np.unravel_index(partners, sizes), axis=1)
    assert ((classes != other)[:, [0, 2]].sum(axis=1) == 1).all()
    assert 0.05 < np.mean(classes[:, 1] == other[:, 1]) < 0.2  # 1 in 8
    with pytest.raises(UserError, match=r"^changed: 3 is not allowed; give 0 .* to 2"):
        data.from_factors(grid, "random 0.4", 3)


def test_pairs_share_the_factor_asked_for():
    loaded = small()
    shared = jnp.arange(300) % 5
    first, second = map(np.asarray, jax.jit(loaded.factors.sample_pairs)(jax.random.key(0), shared))
    rows = np.arange(300)
    np.testing.assert_array_equal(first[rows, shared], second[rows, shared])
    for i, size in enumerate(SMALL):
        assert set(first[:, i]) == set(range(size))
        free = np.asarray(shared) != i
        np.testing.assert_allclose(np.mean(first[free, i] == second[free, i]), 1 / size, atol=0.12)


def oracle(shape, scale, angle, x, y, resolution):
    """The sprite as a polygon of its outline, by matplotlib's point-in-polygon, a pixel at a time."""
    t = np.linspace(0, 2 * np.pi, 4_001)
    outline = {
        0: np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.15,
        1: np.stack([0.2 * np.cos(t), 0.1125 * np.sin(t)], axis=1),
        2: np.stack(
            [
                0.15 * np.sin(t) ** 3,
                -0.021875 - 0.0103125 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)),
            ],
            axis=1,
        ),
    }[shape]
    turned = scale * outline @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    place = (np.arange(resolution) + 0.5) / resolution
    points = np.stack(np.meshgrid(place, place), axis=-1).reshape(-1, 2)
    return Polygon(turned + np.array([x, y])).contains_points(points).reshape(resolution, resolution)


@pytest.mark.parametrize("resolution", [16, 64])
def test_sprites_are_their_outlines(resolution):
    sizes = (3, 6, 40, 32, 32)
    random = np.random.default_rng(0)
    classes = np.stack([random.integers(0, size, 90) for size in sizes], axis=1)
    classes[:, 0] = np.arange(90) % 3
    images = images_of(sprites.load(resolution=resolution), classes)[..., 0]
    assert set(np.unique(images)) == {0, 255}
    for image, (shape, scale, turn, x, y) in zip(images > 0, classes, strict=True):
        expected = oracle(shape, 0.5 + scale / 10, 2 * np.pi * turn / 40, 0.25 + x / 62, 0.25 + y / 62, resolution)
        assert (image != expected).sum() <= 1, (shape, scale, turn)  # a centre that is on the outline to round-off


def test_no_two_sprites_are_alike_but_turned_squares_and_ellipses():
    loaded = sprites.load(sizes=(3, 2, 40, 2, 2))
    images = render(loaded, np.arange(3 * 2 * 40 * 4)).reshape(3, 2, 40, 4, -1)
    for scale, place in itertools.product(range(2), range(4)):
        counts = [len(np.unique(images[shape, scale, :, place], axis=0)) for shape in range(3)]
        assert 10 <= counts[0] <= 14  # a quarter turn of a square is itself but for round-off on its edge
        assert 20 <= counts[1] <= 24
        assert counts[2] == 40
    assert len(np.unique(images[2].reshape(-1, images.shape[-1]), axis=0)) == 2 * 40 * 4


def test_every_factor_moves_the_image():
    loaded = small(resolution=32)
    base = np.int32([2, 0, 1, 1, 1])
    moved = np.stack([np.where(np.arange(5) == i, v, base) for i, size in enumerate(SMALL) for v in range(size)])
    moved = moved[(moved != base[None]).any(axis=1)]
    assert len(moved) == sum(SMALL) - 5
    image, *others = images_of(loaded, np.concatenate([base[None], moved]))
    assert all((image != other).any() for other in others)


@needs_dsprites
def test_sprites_are_the_published_images():
    with np.load(DSPRITES) as arrays:
        images, classes = arrays["imgs"], arrays["latents_classes"]
    same = classes[:, 3] == 0  # the published angles end at 2 pi, so that only the first is ours too
    images, classes = images[same][::7], classes[same][::7, 1:]
    found = np.asarray(jax.jit(sprites.load().factors.images)(jnp.asarray(classes)))[..., 0] > 0
    for shape, least in enumerate((0.998, 0.994, 0.990)):
        ours, theirs = found[classes[:, 0] == shape], images[classes[:, 0] == shape] > 0
        assert (ours & theirs).sum() / (ours | theirs).sum() > least
        assert (ours == theirs).mean() > 0.9997


@needs_dsprites
def test_the_dsprites_file_is_read_as_it_stands():
    loaded = dsprites.load(path=str(DSPRITES))
    assert loaded.factors.names == ("colour", "shape", "scale", "orientation", "x", "y")
    assert loaded.factors.sizes == (1, 3, 6, 10, 16, 16)
    with np.load(DSPRITES) as arrays:
        images, classes = arrays["imgs"], arrays["latents_classes"]
    chosen = np.arange(0, 46_080, 977)
    np.testing.assert_array_equal(loaded.factors.render(jnp.asarray(chosen))[..., 0], images[chosen] * 255)
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in classes.T], axis=1)
    np.testing.assert_array_equal(_factors.to_classes(loaded.factors.sizes, jnp.asarray(chosen)), ranks[chosen])


def write_grid(file, keep=slice(None), shuffle=False):
    classes = np.stack(np.unravel_index(np.arange(12), (2, 3, 2)), axis=1)
    images = (np.arange(12 * 16 * 16).reshape(12, 16, 16) % 7 == 0).astype(np.uint8)
    order = np.random.default_rng(0).permutation(12) if shuffle else np.arange(12)
    np.savez(file, imgs=images[order][keep], latents_classes=(5 * classes)[order][keep])
    return images, classes


def test_any_complete_grid_is_read_in_whatever_order(tmp_path):
    images, classes = write_grid(tmp_path / "grid.npz", shuffle=True)
    loaded = dsprites.load(path=str(tmp_path), split="random 0.3")
    assert loaded.factors.sizes == (2, 3, 2)
    np.testing.assert_array_equal(loaded.factors.images(jnp.asarray(classes))[..., 0], images * 255)


def test_files_that_are_none_are_refused(tmp_path):
    write_grid(tmp_path / "part.npz", slice(0, 11))
    with pytest.raises(UserError, match="11 images, which are not a complete grid of 2 x 3 x 2"):
        dsprites.load(path=str(tmp_path / "part.npz"))
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"^path: .*bad.npz' is not in the format of dSprites"):
        dsprites.load(path=str(tmp_path / "bad.npz"))
    np.savez(tmp_path / "pickled.npz", imgs=np.array([{}], dtype=object), latents_classes=np.zeros((1, 1)))
    with pytest.raises(UserError, match="is not in the format"):
        dsprites.load(path=str(tmp_path / "pickled.npz"))
    with pytest.raises(UserError, match="is not an npz file nor a folder with one"):
        dsprites.load(path=str(tmp_path))


REFUSED = {
    "randomly 0.1": "^split: 'randomly' is unknown; .* did you mean 'random'",
    "random 0": "^split: '0' is not a positive number",
    "random 2": "leaves no training image",
    "random nan": "^split: 'nan' is not a positive number",
    "without shap=1": "^split: 'shap' is unknown; .* did you mean 'shape'",
    "without shape=x": "^split: 'shape=x' is not a condition",
    "without shape=7": "leaves no held-out image",
    "correlated x": "^split: 'correlated' takes two factors and a number",
    "correlated x z 1": "^split: 'z' is unknown",
}


@pytest.mark.parametrize("words", REFUSED)
def test_splits_that_cannot_be_are_refused(words):
    with pytest.raises(UserError, match=REFUSED[words]):
        small(words)


def test_fields_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"^changed: 6 is not allowed; give 0 .* to 5"):
        small(changed=6)
    with pytest.raises(UserError, match=r"^sizes"):
        sprites.load(sizes=(4, 1, 1, 1, 1))
    with pytest.raises(UserError, match=r"^sizes: .* give at most 100,000,000 images"):
        sprites.load(sizes=(3, 600, 400, 320, 320))
    with pytest.raises(UserError, match=r"^resolution: 4"):
        sprites.load(resolution=4)


def test_a_batch_holds_the_factors_and_a_pair(key):
    loaded = small(resolution=32)
    make = jax.jit(lambda part, indices, key: data.make_batch(part, data.threshold_levels, indices, indices, key))
    batch = make(jax.device_put(loaded.train), jnp.arange(7), key)
    np.testing.assert_array_equal(batch["factors"], classes_of(loaded.train, np.arange(7)))
    assert batch["pair"].shape == batch["image"].shape == (7, 32, 32, 1)
    assert (batch["pair"] != batch["image"]).any(axis=(1, 2, 3)).all()


def test_partners_of_training_images_are_none_that_validate(key):
    images = jnp.arange(120, dtype=jnp.uint8)[:, None, None, None]
    grid = _factors.Factors(("a", "b", "c"), (6, 5, 4), Partial(_stored_grids.take_images, images))
    dataset = data.with_validation(data.from_factors(grid, "random 0.2", 1), 0.25)
    parts = {name: set(np.asarray(split.fetch.ids).tolist()) for name, split in dataset.splits.items()}
    assert not parts["train"] & parts["validation"]
    indices = np.arange(dataset.train.size)
    pairs = dataset.train.partner(indices, indices, key)
    assert set(np.asarray(pairs)[:, 0, 0, 0].tolist()) <= parts["train"]
    at = np.arange(dataset.validation.size)
    others = set(np.asarray(dataset.validation.partner(at, at, key))[:, 0, 0, 0].tolist())
    assert others <= parts["train"] | parts["validation"]
    assert others & parts["train"]
