"""Adam with a traced learning rate, a warm-up and a cosine; and a variant's own optimiser beside it."""

import jax
import jax.numpy as jnp
import optax


def make_optimizer(*, warmup_steps: int = 0, cosine_steps: int = 0, clip: float = 0.0) -> optax.GradientTransformation:
    """Adam: clip by global norm, scale by Adam, then by minus the learning rate and the schedule.

    `update` takes `learning_rate` as an argument, so that it may be traced. The
    schedule rises linearly over `warmup_steps` and falls as a cosine to 0 at `cosine_steps`; 0 leaves
    a part out.
    """
    warmup = (
        optax.linear_schedule(1 / (warmup_steps + 1), 1.0, warmup_steps)
        if warmup_steps
        else optax.constant_schedule(1.0)
    )
    cosine = optax.cosine_decay_schedule(1.0, cosine_steps) if cosine_steps else optax.constant_schedule(1.0)
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.scale_by_adam(),
        _descend(lambda step: warmup(step) * cosine(step)),
    )


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
