"""The capacity-controlled VAE on the digits: the rate is led to 10 nats, above the VAE's own 6.

Command    python -m experiments.train --config=configs/digits_capacity.py --workdir=runs/digits_capacity
Time       6,000 steps in 24 to 35 s on 2 shared CPU cores (jax 0.10)
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, 300 test images, nats per image, dynamically binarised, C = 10:

    variant                    elbo      distortion   rate     active units
    beta, beta = 1            -22.68     16.51         6.16    16 of 16
    capacity, gamma = 100     -28.94     19.16         9.78    16 of 16
    capacity, gamma = 1000    -30.69     20.68        10.01    16 of 16

A larger gamma holds the rate closer to C, and after so few steps the images are worse for it.
Paper      Burgess et al. 2018 on dSprites: gamma = 1000, C from 0.5 to 25 nats over 100,000 steps
           (configs/dsprites.py:capacity, not this config).
"""

from vae_jax.config import defaults


def get_config(variant: str = "capacity"):
    """A run on the digits; the argument is a variant's name."""
    config = defaults.get_config()
    config.train.steps = 6000
    config.variant = defaults.section("variant", variant)
    if variant == "capacity":
        config.variant.update(gamma=100.0, capacity=10.0, ramp_steps=3000.0)
    return config
