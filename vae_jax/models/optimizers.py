"""Optax's optimisers by name, with a traced learning rate and weight decay; and a variant's own optimiser beside them.

Each is what optax calls so, its fields at optax's defaults. The learning rate falls and rises with the schedule;
weight decay is decoupled from the gradient (Loshchilov & Hutter 2019): beside the update u of the optimiser,

    p <- p - learning_rate * schedule(step) * (u + weight_decay * p)      for kernels;  without the last term for others

A kernel is a matrix or a filter of the networks, or of a network of a variant's own. Biases, the scales of norms,
the likelihood's shared numbers and what else a variant learns (a codebook, pseudo-inputs) do not decay.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.typing import Params

Path = tuple[Any, ...]


def _sgd(momentum: float) -> optax.GradientTransformation:
    return optax.trace(momentum) if momentum else optax.identity()


def _muon(momentum: float) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for kernels that are matrices, Adam for all else."""

    def dimensions(params: Params) -> Params:
        numbers = optax.contrib.MuonDimensionNumbers()
        return _map_with_path(lambda path, leaf: numbers if is_kernel(path, leaf) and leaf.ndim == 2 else None, params)

    descent = optax.contrib.muon(1.0, muon_weight_dimension_numbers=dimensions)
    return optax.chain(descent, optax.scale(-1.0))


def _plain(scale: Callable[[], optax.GradientTransformation]) -> Callable[[float], optax.GradientTransformation]:
    return lambda momentum: scale()


OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "adabelief": _plain(optax.scale_by_belief),
    "adam": _plain(optax.scale_by_adam),
    "adamax": _plain(optax.scale_by_adamax),
    "adamw": _plain(optax.scale_by_adam),
    "amsgrad": _plain(optax.scale_by_amsgrad),
    "lamb": _plain(partial(optax.scale_by_adam, eps=1e-6)),
    "lion": _plain(optax.scale_by_lion),
    "muon": _muon,
    "nadam": _plain(partial(optax.scale_by_adam, nesterov=True)),
    "radam": _plain(optax.scale_by_radam),
    "rmsprop": _plain(optax.scale_by_rms),
    "schedule_free": _plain(partial(optax.scale_by_adam, b1=0.0)),
    "sgd": _sgd,
    "yogi": _plain(optax.scale_by_yogi),
}
"""name -> (momentum, which SGD alone has) -> the update before weight decay and learning rate."""

AFTER_DECAY: dict[str, Callable[[], optax.GradientTransformation]] = {"lamb": optax.scale_by_trust_ratio}
"""What is done to update and decay together, where that is something (You et al. 2020, algorithm 2)."""

AVERAGING = ("schedule_free",)
"""Those that keep an average x of the weights beside y, at which gradients are taken (Defazio et al. 2024)."""

INTERPOLATION = 0.9
"""beta of y = (1 - beta) z + beta x, in the place of Adam's momentum."""

CONSTANT = optax.constant_schedule(1.0)

WITHOUT_DECAY = ("adam",)
"""Adam with weight decay is AdamW."""


def make_optimizer(
    *,
    name: str = "adam",
    momentum: float = 0.9,
    schedule: optax.Schedule = CONSTANT,
    clip: float = 0.0,
) -> optax.GradientTransformation:
    """Clips by global norm, scales as the optimiser `name` does, then by minus the learning rate and the schedule.

    `update` takes `learning_rate` and `weight_decay` (0 where it is left out) as arguments, so that they may be
    traced.

    Args:
        name: one of OPTIMIZERS.
        momentum: of "sgd"; 0 for none.
        schedule: step -> the factor on the learning rate (learning_rates.py).
        clip: the largest global norm of the gradient; 0 for no clipping.

    Raises:
        UserError: for an unknown name, with the nearest.
    """
    scale = registry.choose("optimizer", name, OPTIMIZERS)(momentum)
    steps = [
        scale,
        *([] if name in WITHOUT_DECAY else [_decay_kernels(), AFTER_DECAY.get(name, optax.identity)()]),
        _descend(schedule),
    ]
    if name in AVERAGING:
        # Its steps weigh in the average by their learning rate, of which a factor common to all cancels.
        steps = [optax.contrib.schedule_free(optax.chain(*steps), lambda t: schedule(t - 1), b1=INTERPOLATION)]
    return optax.chain(optax.clip_by_global_norm(clip) if clip else optax.identity(), *steps)


def averaged(state: optax.OptState, params: Params) -> Params | None:
    """The average that an optimiser of AVERAGING keeps, which is to be evaluated; None where there is none.

        x = (y - (1 - beta) z) / beta        (Defazio et al. 2024, eq. 4), y = `params`

    What another optimiser trains, a variant's own, is as it is.
    """
    kind = optax.contrib.ScheduleFreeState
    found = [
        leaf for leaf in jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, kind)) if isinstance(leaf, kind)
    ]
    if not found:
        return None

    def average(z: Any, y: Any) -> Any:
        return y if isinstance(z, optax.MaskedNode) else (y - (1 - INTERPOLATION) * z) / INTERPOLATION

    return jax.tree.map(average, found[0].z, params, is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode))


def check_ema(name: str, ema: float) -> None:
    """Raises UserError for a moving average beside the average that the optimiser `name` keeps."""
    if ema and name in AVERAGING:
        raise UserError(f"ema: {ema} is not read by the optimizer {name!r}, which averages by itself; give 0")


def check_decay(name: str, weight_decay: float) -> None:
    """Raises UserError for a weight decay that the optimiser `name` would not read."""
    if weight_decay and name in WITHOUT_DECAY:
        raise UserError(f"weight_decay: {weight_decay} is not read by the optimizer {name!r}; take 'adamw', or 0")


def is_kernel(path: Path, leaf: Any) -> bool:
    """Whether a parameter is a kernel, by its path in {"nets", "own"}, of which the second is a variant's own.

    In the networks every array of two and more dimensions is one, whoever wrote them and whatever it is called.
    """
    if leaf.ndim < 2:
        return False
    names = [str(getattr(entry, "key", entry)) for entry in path]
    return names[:1] != ["own"] or names[-1].startswith("kernel")


def _map_with_path(function: Callable[[Path, Any], Any], params: Params) -> Params:
    return jax.tree_util.tree_map_with_path(function, params)


def _decay_kernels() -> optax.GradientTransformationExtraArgs:
    """Adds weight_decay * p to the update of each kernel p."""

    def update(updates, state, params=None, *, weight_decay=0.0, **extra):
        def decay(path, u, p):
            return u + weight_decay * p if is_kernel(path, p) else u

        return jax.tree_util.tree_map_with_path(decay, updates, params), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _descend(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Scales by -learning_rate * schedule(step); optax.inject_hyperparams would drift numerically."""

    def update(updates, step, params=None, *, learning_rate, **extra):
        rate = -learning_rate * schedule(step)
        return jax.tree.map(lambda u: rate * u, updates), step + 1

    return optax.GradientTransformationExtraArgs(lambda params: jnp.int32(0), update)


def partition_optimizers(
    shared: optax.GradientTransformation, own: optax.GradientTransformation | None
) -> optax.GradientTransformation:
    """The optimiser of {"nets", "own"}: `own` for a variant's own parameters, `shared` for all else; None: `shared`."""
    if own is None:
        return shared
    return optax.partition({"nets": shared, "own": own}, {"nets": "nets", "own": "own"})
