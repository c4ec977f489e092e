"""JointVAE in the setting of its released code for MNIST: ten latents, one categorical of ten.

Command    python -m experiments.train --config=configs/mnist_joint.py --config.data.path=FOLDER
Time       2,000 steps in 2 minutes on 2 shared CPU cores (jax 0.10.2); the full run is 47 times that
Measured   with --config.train.steps=2000 --config.variant.ramp_steps=2000: seed 0, test split, nats per image,
           distortion 147.33, rate 7.69 (the two capacities' ends are 5 and 2.30), 8 of 10 latents active
Paper      Dupont 2018, as in the released code: gamma = 30, C_z from 0 to 5 and C_c from 0 to 5 nats over 25,000 steps
           (C_c capped at log 10 = 2.30 nats, so from step 11,513 on), temperature 0.67, batches of 64, Adam 5e-4, 100
           epochs of 60,000 images.
Deviates   28x28 pixels and not 32x32; the network of Locatello et al. 2019 in place of the author's, which has
           three layers of 4x4 convolutions; grey levels as the released code takes them, for which the
           Bernoulli formula is a cross-entropy and its ELBO no bound: data.binarize=dynamic makes it one.
"""

from vae_jax.config import defaults


def get_config(variant: str = "joint"):
    """A run on MNIST; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 10
    config.data = defaults.section("data", "mnist", binarize="none")
    config.net = defaults.section("net", "conv")
    config.variant = defaults.section("variant", variant)
    if variant == "joint":
        config.variant.update(
            categories=(10,),
            gamma=30.0,
            capacity=5.0,
            discrete_capacity=5.0,
            ramp_steps=25_000.0,
            temperature=0.67,
        )
    config.train.batch_size = 64
    config.train.learning_rate = 5e-4
    config.train.steps = 93_750
    config.train.dispatch = 20
    return config
