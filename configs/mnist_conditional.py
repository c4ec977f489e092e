"""The conditional VAE of MNIST's digits: the textbook VAE of configs/mnist.py, given the digit's class.

Command    python -m experiments.train --config=configs/mnist_conditional.py --config.data.path=FOLDER
Time       4,690 steps in 134 s on 2 shared CPU cores
Measured   with --config.data.validation=0 (training uses all but the test images):
           seed 0, test split of 10,000, nats per image, one draw of epsilon an image:

    variant            elbo      distortion   rate    bounds
    beta, beta = 1   -103.03     75.82       27.21    log p(x)     (configs/mnist.py)
    conditional       -99.23     74.87       24.36    log p(x|y)

A bound on log p(x|y) may exceed one on log p(x) by up to log 10 = 2.3 nats for knowing the label; the rest of the 3.8
nats is what a label is worth to a network of this size.
Paper      Sohn et al. 2015 predict parts of an MNIST digit from the other parts, a different task.
"""

from vae_jax.configs import mnist


def get_config(variant: str = "conditional"):
    """A run on MNIST; the argument is a variant's name."""
    return mnist.get_config(variant)
