"""Why a VAE is not an autoencoder, on MNIST: the groups of configs/why_vae.py on which verdicts rest, of three seeds.

Command    python -m launch.local --config=configs/why_mnist.py --config.data.path=FOLDER --workdir=runs/why_mnist
           python -m experiments.why_vae --runs=runs/why_mnist
Strengths  the second of weight decay costs about as many nats of distortion as the VAE's KL: 75.3 and 76.3 on seed 100,
           which is none of the study's; nothing else was measured of those runs
Measured   docs/why_vae.md
"""

from vae_jax.configs import why_vae

STRENGTHS = (0.03, 0.075)


def get_config():
    """A run of the study: the VAE."""
    return why_vae.get_config("mnist")


def sweep():
    """The seven groups, of three seeds each; four compiled programs."""
    return why_vae.sweep(seed_count=3, betas=(0.0, 1.0), strengths=STRENGTHS)
