"""VQ-VAE on the digits: two groups of eight latents, each one of 64 codes.

Command    python -m experiments.train --config=configs/digits_vq.py --workdir=runs/digits_vq
           (finite scalars: --config.variant.quantizer=fsq "--config.variant.levels=(8,8)" --config.latent_dim=4)
Time       6,000 steps in 43 s on 2 shared CPU cores (jax 0.10.2)
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, 300 test images, nats per image, dynamically binarised; 2,000 draws:

    codes               groups   elbo    distortion   rate    perplexity    tree: FD, sure   uniform: FD, sure
    beta, beta = 1        -     -22.68     16.50       6.17      -          (N(0, I): 0.29, 0.26)
    vq, 64, dim 8         2     -23.77     15.74       8.03   58.9 of 64     0.27   0.52     0.39   0.39
    vq, 64, dim 2         2     -24.91     16.73       8.17   59.4 of 64     0.45   0.47     0.51   0.41
    fsq, (8, 8)           2     -24.86     16.77       8.09   57.9 of 64     0.46   0.48     0.56   0.45
    vq, 64, dim 4         4     -26.94     10.59      16.35   61.3 of 64     0.52   0.26     0.58   0.25
    fsq, (4, 4, 2, 2)     4     -27.67     11.29      16.37   60.2 of 64     0.46   0.29     0.55   0.27

FD is the Frechet distance to the held-out images as Gaussians over pixels (0.13 for the training images), "sure" the
share of draws to which a logistic regression of real digits gives a class at more than 0.9 (0.79 for held-out ones).
The ELBO is at best a nat below the VAE's: nothing in the loss limits the rate, which is nearly all that the codes can
carry, 2 log 64 = 8.32 or 4 log 64 = 16.64 nats. The tree saves 0.2 to 0.3 nats of it: groups are used evenly and say
little about each other, so that uniform draws are not far behind. More groups reconstruct better and draw worse. Draws
of two groups are digits more often than the VAE's. Learned and fixed codes of the same dim are within 0.7 nats; a wider
dim is what helps.
Paper      32 x 32 groups of 512 codes for ImageNet at 128 pixels and an autoregressive prior: no number here
           compares.
"""

from vae_jax.config import defaults


def get_config(variant: str = "vq"):
    """A run on the digits; the argument is a variant's name."""
    config = defaults.get_config()
    config.train.steps = 6000
    config.variant = defaults.section("variant", variant)
    if variant == "vq":
        config.variant.dim = 8
    return config
