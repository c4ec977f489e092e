"""A beta-TCVAE on the digits: total correlation weighs six times what the rest of the rate does.

Command    python -m experiments.train --config=configs/digits_tcvae.py --workdir=runs/digits_tcvae
Time       6,000 steps in 65 s on 2 CPU cores shared with seven other jobs (28 s of CPU; jax 0.10.2)
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, 300 test images, nats per image:

    elbo      distortion   rate   MI     TC      DWKL     active units
    -23.18    18.36        4.82   4.97   0.002   -0.009   8 of 16

MI, TC and DWKL are the stratified estimator's on those images, as one batch. The weights alpha =
gamma = 1, beta = 6 are the paper's for dSprites, where it has batches of 2,048 (Chen et al. 2018).
"""

from vae_jax.config import defaults


def get_config(variant: str = "tcvae"):
    """A run on the digits with the weights of Chen et al. 2018 and the stratified estimator."""
    config = defaults.get_config()
    config.variant = defaults.section("variant", variant)
    if variant == "tcvae":
        config.variant.estimator = "mss"
    config.train.steps = 6000
    return config
