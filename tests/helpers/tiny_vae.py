"""A tiny VAE for tests of the step and of what is wrapped around it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import data, randomness
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import mlp
from vae_jax.models.optimizers import make_optimizer
from vae_jax.training import step as training_step
from vae_jax.training.step import Hyper, init_state, make_train_step
from vae_jax.typing import AXIS
from vae_jax.variants import beta

SHAPE, LATENT, SIZE = (4, 4, 1), 3, 60
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
VARIANT = beta.make(bernoulli.make())


def split():
    """Sixty faded copies of ten binary patterns, on the default device."""
    labels = np.arange(SIZE) % 10
    patterns = np.random.default_rng(0).integers(0, 2, (10, *SHAPE))
    return jax.device_put(data.make_split((patterns[labels] * 200 + 20).astype(np.uint8), labels))


def state(ema=0.0, **optimizer):
    """The state before the first step."""
    adam = make_optimizer(**optimizer)
    return init_state(randomness.root_key(0), NETS, VARIANT, adam, SHAPE, LATENT, ema)


def make_step(ema=0.0, **optimizer):
    """split -> train step, with binarisation drawn anew."""
    adam = make_optimizer(**optimizer)
    return lambda part: make_train_step(NETS, VARIANT, adam, partial(data.make_batch, part, data.sample_pixels), ema)


def make_eval_step(part):
    """The evaluation step on `part`."""
    return training_step.make_eval_step(NETS, VARIANT, partial(data.make_batch, part, data.sample_pixels))


COMPILER_OPTIONS = {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": False}
"""Of a program of many steps, which then takes longer to compile and less over all."""


def over_axis(step, *axes, **compiler_options):
    """`step` under vmap with the device axis: what stands in for pmap. Returns what the first device has."""
    lifted = jax.vmap(step, in_axes=axes, axis_name=AXIS)

    def first(*arguments):
        return jax.tree.map(lambda replicas: replicas[0], lifted(*arguments))

    return jax.jit(first, compiler_options=compiler_options)


def hyper(rate=1e-2, **floats):
    """The traced numbers: beta = 1 unless given."""
    floats = {"beta": 1.0, "free_bits": 0.0, **floats}
    return Hyper(jnp.float32(rate), {name: jnp.float32(value) for name, value in floats.items()})


def indices(start, steps, batch=16):
    """The index stream of `split()` under seed 0."""
    return data.index_stream(0, start, steps, SIZE, batch)
