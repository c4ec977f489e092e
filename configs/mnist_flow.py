"""Inverse autoregressive flow on MNIST: the flow of Kingma et al. 2016 in a smaller network.

Command    python -m experiments.train --config=configs/mnist_flow.py --config.data.path=FOLDER
Time       2,000 steps in 6 minutes on 2 shared CPU cores (jax 0.10.2)
Measured   5 of the 100 epochs, with --config.train.steps=2000: seed 0, test split, nats per image, one draw:

    variant            elbo              distortion   rate    active units
    flow             -106.14 +- 0.31     87.70       18.44    32 of 32
    beta, beta = 1   -104.09 +- 0.30     83.15       20.94    30 of 32

           A flow starts slower: it is behind at this budget.
Paper      -79.10 nats is its best log p(x), by importance sampling on dynamically binarised MNIST

The paper's: 32 latents, two steps of width 320 (its smallest flow; the largest has eight of 1920), dynamic
binarisation. Not the paper's: the networks, which are ResNets there and the plain convolutions of
configs/mnist_conv.py here, the learning rate and the 100 epochs. Its numbers belong to those networks and are no target
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
