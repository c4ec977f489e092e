"""Ghosh et al. 2020 and Dai & Wipf 2019: a density fitted to the codes of a trained model draws better pictures.

Command    python -m experiments.reproduce --only=samplers --mnist=FOLDER
           (one run: python -m experiments.train --config=configs/papers/ghosh_2020.py:autoencoder)
Protocol   MNIST, convolutional nets of 16 latents; a mixture of ten Gaussians with full covariances is fitted to the
           codes of training images (Ghosh et al.), or a second VAE (Dai & Wipf). Frechet distance in the features of
           an Inception network, of 10,000 samples.
Deviates   784-512-256-16 and its mirror, binarised pixels, 12,000 steps of 100 images, the rate from 1e-3 to 0 as a
           half cosine; all 60,000 images are trained on, three seeds. Frechet distance in the features of this
           project's classifier (vae_jax/metrics/samples.py), of 10,000 samples from the 10,000 test images: numbers do
           not compare with the papers'; their order may.
Paper      For models whose codes are points the mixture is far better than N(0, I), which they were never trained
           towards; for the VAE it is somewhat better, as is the second stage.
Measured   autoencoder_prior: 242.8 FD (3 seeds, 236.0 to 249.6): no published number
           autoencoder_gmm: 5.8 FD (3 seeds, 5.4 to 6.1): no published number
           autoencoder_two_stage: 17.8 FD (3 seeds, 17.0 to 18.6): no published number
           autoencoder_coupling_flow: 5.3 FD (3 seeds, 3.0 to 7.6): no published number
           As in the papers any density of an autoencoder's codes is far ahead of N(0, I). As many training images score
           0.5. The second VAE is behind the two others, which three seeds do not tell apart.
"""

from vae_jax.config import defaults

EPOCH = 600


def get_config(variant: str = "autoencoder"):
    """The model whose codes a density is fitted to: autoencoder or beta."""
    config = defaults.get_config()
    config.latent_dim = 16
    config.data = defaults.section("data", "mnist", validation=0)
    config.net = defaults.section("net", "mlp", hidden=(512, 256))
    config.variant = defaults.section("variant", variant)
    config.train.steps = 20 * EPOCH
    config.train.batch_size = 100
    config.train.learning_rate = 1e-3
    config.train.schedule = "cosine"
    config.log.every = EPOCH
    config.evaluation.every = config.checkpoint.every = 10 * EPOCH
    return config
