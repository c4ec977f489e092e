"""A trained model as a person uses it: NumPy in, NumPy out.

run = vae_jax.open_run("runs/digits")
z = run.encode(images)              # (n, height, width, channels) -> (n, latent)
pictures = run.sample(jax.random.key(0), 16)
"""

import copy
import dataclasses
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from vae_jax import samplers
from vae_jax.aggregate_codes import posterior_draws
from vae_jax.data import Split
from vae_jax.data._arrays import as_array, check_labels, is_whole, warn_once
from vae_jax.errors import UserError
from vae_jax.jax_flags import pinned_flags
from vae_jax.model import Model, build
from vae_jax.models.networks import Nets
from vae_jax.randomness import root_key, stream
from vae_jax.samplers import FittedSampler
from vae_jax.typing import Codes, Config, Key, Params

BATCH_SIZES = (1, 16, 256)
"""Batch sizes that are ever compiled: any other is padded to the next of these, or cut into the largest."""

TOLERANCE = 1e-4
"""How far beyond [0, 1] grey levels may be by rounding; what is beyond is clipped."""

Rows: TypeAlias = PyTree
"""Arrays with as many rows: images, codes, or a dict of them."""


@dataclasses.dataclass(frozen=True)
class CompiledFunction:
    """`function(params, rows)` for NumPy rows of any number, compiled for BATCH_SIZES alone."""

    jitted: Callable[[Params, Rows], Any]

    @pinned_flags()
    def __call__(self, params: Params, rows: Rows) -> np.ndarray:
        """The function of all rows, one after the other in one array."""
        largest, count = BATCH_SIZES[-1], _row_count(rows)
        starts = range(0, max(count, 1), largest)
        return np.concatenate([self._padded_call(params, _cut(rows, start, start + largest)) for start in starts])

    def _padded_call(self, params: Params, rows: Rows) -> np.ndarray:
        count = _row_count(rows)
        size = next(size for size in BATCH_SIZES if count <= size)
        return np.asarray(self.jitted(params, jax.tree.map(lambda array: _pad(array, size), rows)))[:count]


def _row_count(rows: Rows) -> int:
    return len(jax.tree.leaves(rows)[0])


def _cut(rows: Rows, start: int, end: int) -> Rows:
    return jax.tree.map(lambda array: array[start:end], rows)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    """`array` with rows of zeros up to `size`."""
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])


def _as_numbers(field: str, values: Any, expected: str) -> np.ndarray:
    """`values` as float32. Raises UserError naming `field` for what are no numbers, and for NaN and infinities."""
    array = as_array(field, values)
    if array.dtype.kind in "SUmMc":
        raise UserError(f"{field}: {array.dtype} is not allowed; give {expected} of numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    unusable = array.size - int(np.isfinite(array).sum())
    if unusable:
        raise UserError(f"{field}: {unusable} of {array.size} values are NaN or infinite; give finite numbers")
    return array


def _as_real(field: str, images: np.ndarray) -> np.ndarray:
    """Numbers of any size as float32, NaN where one is missing. Raises UserError for infinities and other things."""
    if images.dtype.kind not in "biuf":
        raise UserError(f"{field}: {images.dtype} is not allowed; give numbers")
    with np.errstate(over="ignore"):
        images = images.astype(np.float32, copy=False)
    if infinite := int(np.isinf(images).sum()):
        raise UserError(f"{field}: {infinite} of {images.size} values are infinite; give finite numbers, or NaN")
    return images


def _clip_rounding(field: str, images: np.ndarray) -> np.ndarray:
    """Grey levels in [0, 1]. Raises UserError for NaN, and for what is further beyond than rounding is."""
    unknown, (low, high) = int(np.isnan(images).sum()), (images.min(initial=0), images.max(initial=0))
    if unknown:
        raise UserError(f"{field}: {unknown} of {images.size} values are NaN; give grey levels from 0 to 1")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        low, high = images.min(), images.max()
        raise UserError(f"{field}: values from {low:.9g} to {high:.9g}; give uint8 (0 to 255) or float (0 to 1)")
    return np.clip(images, 0, 1)


def _as_key(key: Any) -> Key:
    """A key of one use of randomness, from that or from a seed."""
    if is_whole(key) and 0 <= key < 2**32:
        return root_key(operator.index(key))
    if isinstance(key, jax.Array) and key.shape == () and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype == root_key(0).dtype:
            return key
        return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")
    if isinstance(key, (jax.Array, np.ndarray)) and key.shape == (2,) and key.dtype == np.uint32:  # PRNGKey's
        return jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32")
    what = key if isinstance(key, (int, float, str, type(None))) else type(key).__name__
    raise UserError(f"key: {what!r} is not allowed; give one key, as jax.random.key(0), or a seed from 0 to 2^32 - 1")


def _rebuild(
    config: Config, image_shape: tuple[int, int, int], params: Params, step: int, checkpoint: str
) -> "TrainedModel":
    return TrainedModel(config, image_shape, build(config, image_shape), params, step, checkpoint)


class TrainedModel:
    """A model and its trained weights. Images are (n, height, width, channels), codes (n, latent).

    It can be pickled and copied: what its config names is built anew, and compiled anew where it is used.
    """

    def __init__(
        self,
        config: Config,
        image_shape: tuple[int, int, int],
        model: Model,
        params: Params,
        step: int,
        checkpoint: str = "latest",
    ):
        self.config, self.image_shape, self.params, self.step = config, image_shape, params, step
        self.checkpoint = checkpoint
        self.latent_dim = config["latent_dim"]
        self.code_dim = model.variant.dummy_inputs(self.image_shape, self.latent_dim)[1].shape[-1]
        self.model = model
        self.samplers: dict[str, FittedSampler] = {}

        def encode(params: Params, batch: Rows) -> Any:
            return model.variant.encode(model.nets, params, batch)

        def decode(params: Params, codes: Rows) -> Any:
            return model.likelihood.mean(model.nets.decode(params["nets"], codes))

        self._encode, self._decode = CompiledFunction(jax.jit(encode)), CompiledFunction(jax.jit(decode))

    @property
    def nets(self) -> Nets:
        """The encoder and the decoder as pure functions: `nets.encode(params["nets"], images)`."""
        return self.model.nets

    def __reduce__(self) -> tuple[Any, ...]:
        params = jax.tree.map(np.asarray, self.params)
        return _rebuild, (self.config, self.image_shape, params, self.step, self.checkpoint)

    def __copy__(self) -> "TrainedModel":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def with_params(self, config: Config, params: Params, step: int) -> "TrainedModel":
        """Another run of the same program, which shares what this one has compiled."""
        other = copy.copy(self)
        other.config, other.params, other.step, other.samplers = config, params, step, {}
        return other

    def encode(self, images: ArrayLike, labels: ArrayLike | None = None) -> np.ndarray:
        """The code of each image, its posterior mean.

        Args:
            images: (n, height, width, channels): uint8 from 0 to 255; float from 0 to 1 (up to 0.0001 outside counts as
                rounding and is clipped); or bool, True for white. For a run on numbers of any size
                (data.binarize=real) such numbers, NaN where one is missing.
            labels: (n,) class numbers, for variants that were trained with them.

        Returns:
            (n, code) float32; the first `latent_dim` numbers of a code are the latents.

        Raises:
            UserError: for a wrong shape, dtype or range, for NaN, and for labels that are missing or unknown.
        """
        images = self._checked_images("images", images)
        return self._codes(images, "labels", None if labels is None else check_labels(labels, len(images)))

    def _codes(self, images: np.ndarray, field: str, labels: np.ndarray | None) -> np.ndarray:
        """The codes of checked images; the labels were given as `field`."""
        codes = self._encode(self.params, {"image": images} if labels is None else {"image": images, "label": labels})
        if labels is not None and not np.isfinite(codes).all():
            raise UserError(f"{field}: some belong to no class of this run")
        return codes

    def decode(self, codes: ArrayLike) -> np.ndarray:
        """The expected image at each code.

        Args:
            codes: (n, code).

        Returns:
            (n, height, width, channels) float32: grey levels, in [0, 1] if the likelihood keeps them there.

        Raises:
            UserError: for a wrong shape, and for numbers that are not finite.
        """
        codes = _as_numbers("codes", codes, f"(n, {self.code_dim})")
        if codes.ndim != 2 or codes.shape[1] != self.code_dim:
            raise UserError(f"codes: shape {codes.shape} is not allowed; give (n, {self.code_dim})")
        return self._decode(self.params, codes)

    def reconstruct(self, images: ArrayLike, labels: ArrayLike | None = None) -> np.ndarray:
        """The expected image at each image's code. Raises UserError as `encode` does."""
        return self._decode(self.params, self.encode(images, labels))

    @pinned_flags()
    def sample(
        self, key: Key | int, n: int, labels: ArrayLike | None = None, sampler: str = samplers.PRIOR
    ) -> np.ndarray:
        """Expected images at draws from the prior; draw i depends on key, i and, where given, label i alone.

        Args:
            key: a JAX key; or a seed, as config.seed is: 0 for jax.random.key(0).
            n: how many draws.
            labels: (n,) class numbers, if the prior depends on a label.
            sampler: "prior", or the name of a sampler that `fit_sampler` has fitted to the codes of data.

        Returns:
            (n, height, width, channels) float32.

        Raises:
            UserError: for a wrong key or number of draws, for labels that are not one for each draw or that this run's
                prior does not use, and for a sampler that is unknown or not fitted.
        """
        key = _as_key(key)
        if not is_whole(n) or n < 0:
            raise UserError(f"n: {n!r} is not allowed; give a whole number of at least 0")
        if labels is not None:
            labels = check_labels(labels, int(n), noun="draw")
        if n == 0:
            return np.zeros((0, *self.image_shape), np.float32)
        return self._decode(self.params, np.asarray(self._draw_codes(sampler, key, int(n), labels)))

    def _draw_codes(self, sampler: str, key: Key, n: int, labels: np.ndarray | None) -> Codes:
        """`n` codes of the prior, or of a sampler that is fitted."""
        if sampler == samplers.PRIOR:
            sample_prior = self.model.variant.sample_prior
            return sample_prior(self.model.nets, self.params, key, n, self.latent_dim, labels)
        if labels is not None:
            raise UserError(f"labels: the sampler {sampler!r} is the same for every label; leave them out")
        if sampler not in self.samplers:
            samplers.get(sampler)
            raise UserError(f"sampler: {sampler!r} is not fitted yet; call fit_sampler({sampler!r}, dataset.train)")
        return self.samplers[sampler].sample(key, n)

    @pinned_flags()
    def fit_sampler(self, sampler: str, split: Split) -> None:
        """Fits a sampler to draws from the posteriors of training images, for `sample` to draw from; once.

        Args:
            sampler: a name of docs/samplers.md, such as "gmm", or a dotted name of your own; "prior" needs no fit.
            split: the training images; at most 60,000 are encoded.

        Raises:
            UserError: for an unknown sampler, and for a run whose codes no sampler suits.
        """
        chosen = samplers.get(sampler)
        if chosen is None or sampler in self.samplers:
            return
        codes = posterior_draws(self.model, self.params, split, self.config)
        key = stream(stream(root_key(self.config["seed"]), "samplers"), sampler)
        self.samplers[sampler] = FittedSampler(chosen, chosen.fit(codes, key))

    def interpolate(self, a: ArrayLike, b: ArrayLike, n: int = 8, labels: ArrayLike | None = None) -> np.ndarray:
        """`n` images on the straight line between the codes of the images `a` and `b`, both ends included.

        `labels` has the label of each image, for variants that were trained with labels. Raises UserError for `n` below
        1, and as `encode` does.
        """
        if not is_whole(n) or n < 1:
            raise UserError(f"n: {n!r} is not allowed; give a whole number of at least 1")
        pair = [self._checked_image("a", a), self._checked_image("b", b)]
        label_pair = (None, None) if labels is None else check_labels(labels, 2)[:, None]
        start, end = (self._codes(image, "labels", label) for image, label in zip(pair, label_pair, strict=True))
        weight = np.linspace(0, 1, n, dtype=np.float32)[:, None]
        return self._decode(self.params, (1 - weight) * start + weight * end)

    def traverse(
        self, x: ArrayLike, latent: int, values: ArrayLike | None = None, label: int | None = None
    ) -> np.ndarray:
        """The image `x` decoded with one latent set to each of `values` (-3 to 3 in eleven steps).

        Raises UserError for a latent that does not exist, for values that are not finite, and as `encode` does.
        """
        if not is_whole(latent) or not 0 <= latent < self.latent_dim:
            raise UserError(f"latent: {latent!r} is not allowed; this run has latents 0 to {self.latent_dim - 1}")
        values = np.linspace(-3, 3, 11) if values is None else np.atleast_1d(_as_numbers("values", values, "(n,)"))
        if values.ndim != 1:
            raise UserError(f"values: shape {values.shape} is not allowed; give (n,)")
        image = self._checked_image("x", x)
        labels = None if label is None else check_labels([label], 1, "label")
        codes = np.repeat(self._codes(image, "label", labels), len(values), axis=0)
        codes[:, latent] = values
        return self._decode(self.params, codes)

    def _checked_image(self, field: str, image: ArrayLike) -> np.ndarray:
        """One image as `_checked_images` gives it, (1, height, width, channels)."""
        image = as_array(field, image)
        if image.shape != self.image_shape:
            raise UserError(f"{field}: shape {image.shape} is not allowed; give {self.image_shape}")
        return self._checked_images(field, image[None])

    def _checked_images(self, field: str, images: ArrayLike) -> np.ndarray:
        """Grey levels in [0, 1], the expectation of dynamic binarisation; thresholded where training did that.

        Numbers of any size stay as they are.
        """
        images, binarize = as_array(field, images), self.config["data"]["binarize"]
        expected = "(n, " + ", ".join(map(str, self.image_shape)) + ")"
        if images.shape[1:] != self.image_shape:
            raise UserError(f"{field}: shape {images.shape} is not allowed; give {expected}")
        if binarize == "real":
            return _as_real(field, images)
        if images.dtype == np.uint8:
            if images.max(initial=0) == 1:
                warn_once(
                    f"{field}: uint8 of 0 and 1 alone is almost black; for black and white give bool, or 0 and 255"
                )
            images = images / np.float32(255)
        elif images.dtype == np.bool_:
            images = images.astype(np.float32)
        elif images.dtype.kind == "f":
            images = _clip_rounding(field, images)
        else:
            raise UserError(f"{field}: dtype {images.dtype} is not allowed; give uint8 (0 to 255) or float (0 to 1)")
        return (images > 0.5).astype(np.float32) if binarize == "static" else images.astype(np.float32, copy=False)
