"""The VampPrior on the digits, with 50 pseudo-inputs.

Command    python -m experiments.train --config=configs/digits_vamp.py --workdir=runs/digits_vamp
Time       10,000 steps in 19 s on 2 shared CPU cores (jax 0.10.2)
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, 10,000 steps, 300 test images, nats per image, dynamically binarised:

    prior                    elbo      distortion   rate    active units
    N(0, I) (beta = 1)      -22.49     16.34        6.15    16 of 16
    mixture, K = 1          -22.60     16.59        6.00    14 of 16
    mixture, K = 50         -22.10     15.82        6.28    16 of 16
    mixture, K = 500        -22.03     15.69        6.34    16 of 16

One component is one Gaussian and gains nothing; fifty give most of what 500 do at half the time. The rate of a mixture
is from one draw, that of N(0, I) is exact. Draws from the prior are digits more often than those of the VAE. Active
units count latents whose mean moves by 0.1, a width that means less where the prior is not N(0, 1).
"""

from vae_jax.config import defaults


def get_config(variant: str = "vamp"):
    """A run on the digits; the argument is a variant's name."""
    config = defaults.get_config()
    config.variant = defaults.section("variant", variant)
    if variant == "vamp":
        config.variant.components = 50
    return config
