"""Inverse autoregressive flow on MNIST: the flow of Kingma et al. 2016 in a smaller network.

Command    python -m experiments.train --config=configs/mnist_flow.py --config.data.path=FOLDER
Time       not run here
Measured   not yet
Paper      -79.10 nats is its best log p(x), by importance sampling on dynamically binarised MNIST (not run here)

The paper's: 32 latents, two steps of width 320 (its smallest flow; the largest has eight of 1920), dynamic
binarisation. Not the paper's: the networks, which are ResNets there and the plain convolutions of
configs/mnist_conv.py here, the learning rate and the 100 epochs. Its numbers are of those networks and no goal
for this one.
"""

from vae_jax.config import defaults


def get_config(variant: str = "flow"):
    """A convolutional network of 32 latents on MNIST; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 32
    config.data = defaults.section("data", "mnist")
    config.net = defaults.section("net", "conv")
    config.variant = defaults.section("variant", variant)
    if variant == "flow":
        config.variant.update(steps=2, hidden=(320, 320), context=64)
    config.train.steps = 46_900
    config.train.dispatch = 20
    return config
