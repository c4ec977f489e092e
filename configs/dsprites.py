"""The disentanglement study on dSprites (Locatello et al. 2019): its network, its training, its variants.

Command    python -m experiments.train --config=configs/dsprites.py:factor --config.data.path=FILE
           (FILE is dSprites' npz; configs/sprites.py needs none)
Time       the paper's 300,000 steps are not run here: about two hours at 39 steps/s on 2 CPU cores
Paper      batch 64, Adam 1e-4, ten latents, Bernoulli pixels; 50 seeds of each of

    beta       variant.beta 1 2 4 6 8 16
    capacity   variant.capacity 5 10 25 50 75 100, gamma 1000, over 100,000 steps
    factor     variant.gamma 10 20 30 40 50 100, an adversary of 6 layers of 1000
    dip        variant.lambda_od 1 2 5 10 20 50; I: lambda_d = 10 lambda_od; II: lambda_d = lambda_od
    tcvae      variant.beta 1 2 4 6 8 10, mws

           and, weakly supervised, ada with variant.beta 1 2 4 6 8 16 (Locatello et al. 2020).
           The paper trains on all images; here a tenth is held out.
"""

from configs import default

OF_THE_STUDY = {
    "capacity": {"gamma": 1000.0, "capacity": 25.0, "ramp_steps": 100_000.0},
    "factor": {"gamma": 10.0, "width": 1000, "depth": 6, "adversary_learning_rate": 1e-4},
    "dip": {"lambda_od": 5.0, "lambda_d": 50.0},
    "tcvae": {"beta": 6.0},
    "beta": {"beta": 4.0},
}


def get_config(variant: str = "beta"):
    """A run of the study; the argument is a variant's name."""
    config = default.get_config()
    config.latent_dim = 10
    config.data = default.section("data", "dsprites", binarize="static")
    config.net = default.section("net", "conv")
    config.variant = default.section("variant", variant, **OF_THE_STUDY.get(variant, {}))
    config.train.steps = 300_000
    config.train.batch_size = 64
    config.train.learning_rate = 1e-4
    config.evaluation.every = 10_000
    config.checkpoint.every = 10_000
    return config
