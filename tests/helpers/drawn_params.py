"""Parameters drawn on the host, for tests of a loss: compiling an initialisation takes longer than the loss does."""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import randomness


def drawn_params(init, *inputs, seed=1):
    """Parameters of the shapes that `init(key, *inputs)` gives: those of a new network, but for biases, not zero here.

    Numbers of an array are as large as one over the square root of its rows.
    """
    shapes = jax.eval_shape(init, randomness.root_key(0), *inputs)
    rng = np.random.default_rng(seed)

    def draw(leaf):
        scale = leaf.shape[0] ** -0.5 if leaf.ndim > 1 else 0.1
        return jnp.asarray(rng.normal(0, scale, leaf.shape), leaf.dtype)

    return jax.tree.map(draw, shapes)
