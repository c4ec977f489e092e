"""Why a VAE is not an autoencoder: the runs from which docs/why_vae.md is measured.

Command    python -m launch.local --config=configs/why_vae.py --workdir=runs/why_vae
           python -m experiments.why_vae --runs=runs/why_vae
MNIST      configs/why_mnist.py

Five seeds of eleven groups, which share network, data and steps:

    autoencoder             codes are points
    autoencoder, noise 1    the same noise on every code
    beta                    0 (no KL), 0.25, 1 (the VAE), 4, 16
    rae                     other regularisers, weight decay of the decoder and a penalty on codes, of three strengths;
                            the third costs about as many nats of distortion as the VAE's KL (on digits)
    beta 1, gaussian        grey levels; the decoder says how sure it is of each pixel

Time       digits: 55 runs of 4,000 steps in 3.8 minutes on 2 CPU cores with pictures and metrics (jax 0.10.2), the
           comparison 5 s, measuring and the page 40 s
Measured   docs/why_vae.md

The ten checkpoints of a run are kept: what happens to the codes is measured over training.
"""

from collections.abc import Sequence

from vae_jax.config import defaults
from vae_jax.sweeps.algebra import chain, grid, product, seeds, zipped

METRICS = "samples,smoothness"
STRENGTHS = (0.03, 0.1, 0.185)


def get_config(name: str = "digits"):
    """A run of the study on "digits" or "mnist": the VAE."""
    config = defaults.get_config()
    config.data = defaults.section("data", name, validation=0)
    if name == "mnist":
        config.latent_dim = 20
        config.net = defaults.section("net", "mlp", hidden=(400,))
    config.train.steps = 4690 if name == "mnist" else 4000
    config.evaluation.every = config.checkpoint.every = config.train.steps // 10
    config.checkpoint.keep = 20
    config.evaluation.metrics = f"{METRICS},aggregate_posterior"
    return config


def sweep(
    seed_count: int = 5, betas: Sequence[float] = (0.0, 0.25, 1.0, 4.0, 16.0), strengths: Sequence[float] = STRENGTHS
):
    """The groups, eleven with these betas and strengths, of so many seeds each; four compiled programs."""
    of_points = {"evaluation.metrics": METRICS}  # points have no aggregate posterior with a density
    autoencoders = grid(**{"variant.name": ["autoencoder"], "variant.noise": [0.0, 1.0]})
    regularised = zipped(**{"variant.beta_z": strengths, "variant.lambda_reg": strengths})
    learned_sigmas = {"data.binarize": "none", "likelihood.name": "gaussian", "likelihood.scale": "pixel"}
    learned_sigmas |= {"likelihood.mean": "linear"}
    return product(
        chain(
            [point | of_points for point in autoencoders],
            grid(**{"variant.beta": betas}),
            [{"variant.name": "rae"} | point | of_points for point in regularised],
            [learned_sigmas | {"variant.beta": 1.0}],
        ),
        seeds(seed_count),
    )
