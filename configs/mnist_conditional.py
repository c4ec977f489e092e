"""The conditional VAE of MNIST's digits: the textbook VAE of configs/mnist.py, told which digit it is.

Command    python -m experiments.train --config=configs/mnist_conditional.py --config.data.path=FOLDER
Time       TO MEASURE
Measured   not yet; the textbook VAE at the same steps has an ELBO of -103.03 (configs/mnist.py), of log p(x),
           which this one's, of log p(x|y), may pass by up to log 10 = 2.3 nats for knowing the label alone
Paper      Sohn et al. 2015 give parts of an MNIST digit and ask for the others, a task that is not this one.
"""

from configs import mnist


def get_config(variant: str = "conditional"):
    """A run on MNIST; the argument is a variant's name."""
    return mnist.get_config(variant)
