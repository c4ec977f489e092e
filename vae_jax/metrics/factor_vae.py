"""The FactorVAE score (Kim & Mnih 2018, section 4): does the stillest latent tell which factor is held fixed?

    vote  = argmin_j Var_b(z_j) / Var(z_j)    over a batch of images alike in factor k
    score = accuracy of the majority vote: each latent stands for the factor it was most often the stillest of

In [0, 1]; chance is 1 / factors. As Locatello et al. 2019 measure it: Var(z_j) from 10,000 images, divided by n - 1;
latents whose deviation there is below 0.05 are dropped, or a latent that never moves would be the stillest of all;
10,000 votes to learn from and 5,000 to be judged by, of 64 images each. Kim & Mnih judge the 800 votes that they
learnt from, and drop latents by their KL from the prior. Where all are dropped every vote is the same and the score
is chance, with `factor_vae.latents` 0; disentanglement_lib gives 0 there.
Any latent that is still for one factor will do, so one that carries two factors is not punished as long as
others are stiller; the 0.05 is in the codes' own units.
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from vae_jax.metrics import Coded, Subject
from vae_jax.typing import Key

NEEDS = ("factors",)
LEAST = {"train": 1, "test": 1, "points": 2, "images": 2, "least_deviation": 0}


def stillest(
    batches: Float[np.ndarray, "vote image latent"],
    variance: Float[np.ndarray, " latent"],
    active: Bool[np.ndarray, " latent"],
) -> Int[np.ndarray, " vote"]:
    """The active latent whose variance in each batch is least beside its `variance`; 0 where none is active."""
    relative = batches.astype(np.float64).var(axis=1, ddof=1) / np.where(active, variance, 1.0)[None]
    return np.where(active[None], relative, np.inf).argmin(axis=1)


def votes(
    coded: Coded, key: Key, count: int, images: int, variance: Float[np.ndarray, " latent"], least: float
) -> Int[np.ndarray, "latent factor"]:
    """How often each latent was the stillest in `count` batches that share each factor."""
    which, drawn = jax.random.split(key)
    shared = np.asarray(jax.random.randint(which, (count,), 0, len(coded.names)))
    found = stillest(coded.sharing(drawn, shared, images), variance, np.sqrt(variance) >= least)
    table = np.zeros((len(variance), len(coded.names)), np.int64)
    np.add.at(table, (found, shared), 1)
    return table


def compute(
    subject: Subject,
    key: Key,
    *,
    points: int = 10_000,
    train: int = 10_000,
    test: int = 5_000,
    images: int = 64,
    least_deviation: float = 0.05,
) -> dict[str, float]:
    """The accuracy on `test` votes, on those it was learnt from, and how many latents were not dropped."""
    whole, first, second = jax.random.split(key, 3)
    coded = subject.coded
    variance = coded.draw(whole, points)[0].astype(np.float64).var(axis=0, ddof=1)
    # A latent without any variance has nothing to be divided by, however low the bar.
    least = max(least_deviation, float(np.finfo(np.float32).tiny))
    known, judged = (votes(coded, part, n, images, variance, least) for part, n in ((first, train), (second, test)))
    stands_for = known.argmax(axis=1)
    right = [float(table[np.arange(len(table)), stands_for].sum() / table.sum()) for table in (judged, known)]
    return {
        "factor_vae": right[0],
        "factor_vae.train": right[1],
        "factor_vae.latents": int(np.sum(np.sqrt(variance) >= least)),
    }
