"""A variant's loss on one small batch, compiled once for each loss and number of devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import randomness
from vae_jax.typing import AXIS


@partial(jax.jit, static_argnames=("loss", "nets", "devices", "size"))
def _loss_and_gradient(loss, nets, params, batch, floats, step, key_data, devices, size):
    shares = jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch)

    def objective(params, share):
        key = jax.random.wrap_key_data(key_data, impl="threefry2x32")
        return loss(nets, params, {**share, "size": size}, key, step, **floats)

    over_devices = jax.vmap(jax.value_and_grad(objective, has_aux=True), in_axes=(None, 0), axis_name=AXIS)
    (value, terms), gradient = over_devices(params, shares)
    return jnp.mean(value), terms, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradient)


def loss_and_gradient(loss, nets, params, batch, floats, seed=2, step=0, devices=1, size=60):
    """(loss, terms, gradient) of a variant's `loss` as NumPy arrays.

    Loss and gradient are the means over `devices`; terms are (devices, examples of each, ...). The key is of `seed`,
    `floats` are traced, and `size` is how many images the split has.
    """
    floats = jax.tree.map(np.float32, floats)
    key_data = jax.random.key_data(randomness.root_key(seed))
    result = _loss_and_gradient(loss, nets, params, batch, floats, np.int32(step), key_data, devices, size)
    return jax.tree.map(np.asarray, result)


def whole_batch(terms):
    """Terms of each example, (devices, examples, ...) -> (batch, ...)."""
    return {name: term.reshape(-1, *term.shape[2:]) for name, term in terms.items()}


def assert_close(actual, expected, rtol=1e-4, atol=1e-5):
    """Asserts that each leaf of two trees is close."""
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), actual, expected)
