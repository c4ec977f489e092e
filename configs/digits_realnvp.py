"""The RealNVP prior on the digits, beside the VampPrior and N(0, I).

Command    python -m experiments.train --config=configs/digits_realnvp.py --workdir=runs/digits_realnvp
           (configs/digits_realnvp.py:beta and :vamp --config.variant.components=50 for the others; --config.seed=1)
Time       10,000 steps in about 100 s on 2 shared CPU cores (jax 0.10.2); the VampPrior 45 s
Measured   with --config.data.validation=0 (training uses all but the test images):
           10,000 steps, 300 test images, nats per image, dynamically binarised; the mean of seeds 0, 1, 2,
           and the ELBO of each:

    prior                          elbo      distortion   rate    seeds 0, 1, 2
    N(0, I) (beta = 1)            -22.62     16.57        6.06    -22.49, -22.74, -22.64
    RealNVP, 8 blocks             -22.24     15.89        6.35    -22.19, -22.30, -22.24
    VampPrior, K = 50             -22.12     16.11        6.01    -22.10, -22.13, -22.14

The learned prior is worth 0.3 to 0.4 nats on unseen images. Fifty pseudo-inputs are worth 0.1 more at half the time:
each stands for some of the 1,497 images, where a flow has to learn the shape. Four blocks of networks (64,) gave -22.36
for seed 0 (--config.variant.blocks=4 "--config.variant.hidden=(64,)", with ELU in the networks, which cost 0.04).
It is worth nothing where two hidden layers of 128 bend N(0, I) themselves and use fewer latents (seed 0, 3,000 steps at
a rate of 2e-3, a tenth of the images for validation): -22.75 against -22.72, and -22.63 for the VampPrior.
Paper      Xu et al. 2019 have no experiment of this size.
"""

from vae_jax.config import defaults


def get_config(variant: str = "realnvp"):
    """A run on the digits; the argument is a variant's name."""
    config = defaults.get_config()
    config.variant = defaults.section("variant", variant)
    return config
