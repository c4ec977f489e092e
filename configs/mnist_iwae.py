"""The IWAE of Burda et al. 2016 on MNIST: 784-200-200-50, tanh, 50 latents, K = 50, dynamic binarisation.

Command    python -m experiments.train --config=configs/mnist_iwae.py --config.data.path=FOLDER
           (FOLDER holds MNIST's four IDX files; without a path MNIST comes through TFDS); K with
           --config.variant.samples=5, the estimator with --config.variant.estimator=dreg
Time       not run whole: 9,840,000 steps
Paper      Burda et al. 2016, table 1, one stochastic layer: -log p(x) of the test split by 5,000 draws, nats per image,
           and active units. Not run here:

    k     VAE              IWAE
    1     86.76, 19 of 50  86.76, 19 of 50
    5     86.47, 20 of 50  85.54, 22 of 50
    50    86.35, 20 of 50  84.78, 25 of 50

           The VAE at k is miwae with samples = 1, groups = k. With dreg, by others, not run here: 86.08, 84.90
           and 84.32 at k = 1, 5 and 50; MIWAE(8, 8) 84.97, PIWAE(8, 8) 84.46, CIWAE(0.05) 84.57.
Deviates   The learning rate falls as a half cosine from 1e-3 to 0 over the paper's 3,280 epochs; the paper has
           0.001 * 10^(-i/7) for 3^i epochs, i = 0 to 7, ending at 1e-4. Kernels start as LeCun's normal, there Glorot's
           uniform. The network, batches of 20 and Adam(0.9, 0.999) are the paper's. Its released code is another
           thing again: Adam's b1 is 0.99, its second moments start at 1 and its eps is 1e-4 on a gradient summed over
           the batch, images are not shuffled, and the output's bias starts at the training mean's logit.
"""

from vae_jax.config import defaults


def get_config(variant: str = "iwae"):
    """The network and batches of Burda et al. 2016 on MNIST; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 50
    config.data = defaults.section("data", "mnist")
    config.net = defaults.section("net", "mlp", hidden=(200, 200), activation="tanh")
    config.variant = defaults.section("variant", variant)
    if variant == "iwae":
        config.variant.samples = 50
    config.train.steps = 3280 * 3000
    config.train.batch_size = 20
    config.train.learning_rate = 1e-3
    config.train.cosine = True
    config.log.every = 3000
    config.evaluation.every = config.checkpoint.every = 60_000
    return config
