"""The disentanglement study on dSprites (Locatello et al. 2019): its network, its training, its variants.

Command    python -m experiments.train --config=configs/dsprites.py:factor --config.data.path=FILE
           (FILE is dSprites' npz; configs/sprites.py needs none)
Sweep      python -m launch.local --config=configs/dsprites.py --config.data.path=FILE --workdir=runs/dsprites_study
           (the paper's 1,800 runs below, six programs; --dry_run says what they would take)
Time       the paper's 300,000 steps take some four hours at 20 steps/s on 2 CPU cores
Paper      batch 64, Adam 1e-4, ten latents, Bernoulli pixels; 50 seeds of each of

    beta       variant.beta 1 2 4 6 8 16
    capacity   variant.capacity 5 10 25 50 75 100, gamma 1000, over 100,000 steps
    factor     variant.gamma 10 20 30 40 50 100, an adversary of 6 layers of 1000
    dip        variant.lambda_od 1 2 5 10 20 50; I: lambda_d = 10 lambda_od; II: lambda_d = lambda_od
    tcvae      variant.beta 1 2 4 6 8 10, mws

           and, weakly supervised, ada with variant.beta 1 2 4 6 8 16 (Locatello et al. 2020).
           The paper trains on all images; here a tenth is held out.
"""

from vae_jax.config import defaults
from vae_jax.sweeps.algebra import chain, grid, product, seeds, zipped

OF_THE_STUDY = {
    "capacity": {"gamma": 1000.0, "capacity": 25.0, "ramp_steps": 100_000.0},
    "factor": {"gamma": 10.0, "width": 1000, "depth": 6, "adversary_learning_rate": 1e-4},
    "dip": {"lambda_od": 5.0, "lambda_d": 50.0},
    "tcvae": {"beta": 6.0},
    "beta": {"beta": 4.0},
}


def get_config(variant: str = "beta"):
    """A run of the study; the argument is a variant's name."""
    config = defaults.get_config()
    config.latent_dim = 10
    config.data = defaults.section("data", "dsprites", binarize="static")
    config.net = defaults.section("net", "conv")
    config.variant = defaults.section("variant", variant, **OF_THE_STUDY.get(variant, {}))
    config.train.steps = 300_000
    config.train.batch_size = 64
    config.train.learning_rate = 1e-4
    config.evaluation.every = 10_000
    config.checkpoint.every = 10_000
    return config


def sweep():
    """The study: 6 families x 6 strengths x 50 seeds."""
    lambdas = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    families = [
        family("beta", grid(**{"variant.beta": [1.0, 2.0, 4.0, 6.0, 8.0, 16.0]})),
        family("capacity", grid(**{"variant.capacity": [5.0, 10.0, 25.0, 50.0, 75.0, 100.0]})),
        family("factor", grid(**{"variant.gamma": [10.0, 20.0, 30.0, 40.0, 50.0, 100.0]})),
        family("dip", _lambdas(lambdas, 10.0), kind="I"),
        family("dip", _lambdas(lambdas, 1.0), kind="II"),
        family("tcvae", grid(**{"variant.beta": [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]})),
    ]
    return product(chain(*families), seeds(50))


def family(variant: str, strengths: list[dict], **fixed) -> list[dict]:
    """The variant under the study's own settings, but for the fields that `strengths` sets."""
    settings = {f"variant.{field}": value for field, value in (OF_THE_STUDY[variant] | fixed).items()}
    return [{"variant.name": variant} | settings | strength for strength in strengths]


def _lambdas(off_diagonal: list[float], ratio: float) -> list[dict]:
    return zipped(**{"variant.lambda_od": off_diagonal, "variant.lambda_d": [ratio * each for each in off_diagonal]})
