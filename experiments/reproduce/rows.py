"""The rows of docs/reproductions.md: a setting of a paper, its number, and how ours is measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vae_jax.errors import unknown_name

SMOKE = {
    "data.name": "digits",
    "train.steps": "20",
    "train.dispatch": "10",
    "log.every": "20",
    "evaluation.every": "20",
    "checkpoint.every": "20",
    "log.pictures": "false",
}
SMOKE_SPRITES = {**SMOKE, "data.name": "sprites", "data.resolution": "16"}
"""What --smoke sets, so that a row runs in seconds and without files."""


@dataclass(frozen=True)
class Row:
    """One number of a paper.

    Attributes:
        name: of the row.
        table: rows that one --only names together.
        title: what is measured, in words.
        paper: who published it.
        config: the file and its argument.
        data: the flag that says where the data lie; empty where they need no files.
        metric: what is computed of each run after training; empty where its own evaluation has the number.
        result: the name of the number in a run's evaluation.
        sign: -1 where papers give the negative.
        published: the paper's number; None where a row has none to be held to.
        bar: whose number it is to be better than, and that number, where nobody published the row's own.
        tolerance: how far off still counts as reproduced, whatever the interval.
        unit: of the number.
        higher_is_better: of the number as the paper gives it.
        median: whether it differs so much from seed to seed that studies give medians, which the page then has too.
        seeds: how many runs.
        cost: what it takes where it was not run, measured or estimated on two cores.
        checkpoint: "latest", or "best" by validation.
        smoke: what --smoke sets.
    """

    name: str
    table: str
    title: str
    paper: str
    config: str
    data: str
    metric: str
    result: str
    published: float | None
    unit: str
    seeds: int
    cost: str
    sign: int = 1
    tolerance: float = 0.0
    bar: tuple[str, float] | None = None
    higher_is_better: bool = False
    median: bool = False
    checkpoint: str = "latest"
    smoke: Mapping[str, str] = field(default_factory=lambda: SMOKE)

    @property
    def folder(self) -> str:
        """The folder of its runs, which rows of one config share."""
        file, _, argument = self.config.partition(":")
        return f"{Path(file).stem}_{argument}"


NLL = "likelihood:k=1000"
OF_NLL = {"metric": NLL, "result": NLL, "unit": "nats", "sign": -1, "tolerance": 0.5}
"""-log p(x), which counts as reproduced within half a nat."""
OF_ELBO = {"metric": "", "result": "elbo", "unit": "nats", "sign": -1, "tolerance": 0.5}
OF_MIG = {
    "metric": "mig",
    "result": "mig",
    "unit": "",
    "higher_is_better": True,
    "median": True,
    "smoke": SMOKE_SPRITES,
}
OF_PSNR = {"metric": "psnr", "result": "psnr", "unit": "dB", "higher_is_better": True, "tolerance": 0.1}


def _rows(table: str, paper: str, file: str, data: str, settings: Mapping[str, Any]) -> Callable[..., Row]:
    """What makes the rows of a table: (name, title, config's argument, published, seeds, cost, others) -> a row."""

    def row(name: str, title: str, argument: str, published: float | None, seeds: int, cost: str, **others: Any) -> Row:
        config = f"configs/papers/{file}.py:{argument}"
        fields = {"data": data, "paper": paper, **settings, **others}
        return Row(name, table, title, config=config, published=published, seeds=seeds, cost=cost, **fields)

    return row


VAMP = ("the VampPrior", 82.43)

burda = _rows("iwae_table1", "Burda et al. 2016", "burda_2016", "mnist", OF_NLL)
fixed = _rows("fixed_mnist", "Burda et al. 2016", "burda_2016", "binarized_mnist", OF_NLL | {"checkpoint": "best"})
priors = _rows("priors", "Tomczak & Welling 2018", "tomczak_2018", "mnist", OF_NLL | {"checkpoint": "best"})
sigma = _rows("sigma", "Rybkin et al. 2021", "rybkin_2021", "mnist", OF_ELBO | {"checkpoint": "best"})
sprites = _rows("disentanglement", "Locatello et al. 2019", "locatello_2019", "", OF_MIG)
ladder = _rows("ladder", "a re-run of Sonderby et al. 2016", "sonderby_2016", "binarized_mnist", OF_ELBO)
codes = _rows("codes", "Drolet et al. 2026", "drolet_2026", "mnist", OF_PSNR)
samplers = _rows("samplers", "Ghosh et al. 2020", "ghosh_2020", "mnist", {"unit": "FD"})


def sampler_row(model: str, sampler: str, title: str) -> Row:
    """How good pictures are that a sampler draws."""
    metric = "samples" if sampler == "prior" else f"samples:sampler={sampler}"
    title = f"{title}, Frechet distance"
    return samplers(f"{model}_{sampler}", title, model, None, 3, "15 min", metric=metric, result=metric)


ROWS = (
    burda("vae_k1", "VAE, k = 1, -log p(x)", "vae_k1", 86.76, 4, "1 h"),
    burda("iwae_k5", "IWAE, k = 5, -log p(x)", "iwae_k5", 85.54, 2, "1 h"),
    burda("iwae_k50", "IWAE, k = 50, -log p(x)", "iwae_k50", 84.78, 1, "4 h"),
    burda("dreg_k5", "IWAE, k = 5, DReG, -log p(x)", "dreg_k5", 84.90, 2, "1 h", paper="a re-run of Burda et al. 2016"),
    fixed("vae_k1_fixed", "VAE, k = 1, fixed pixels, -log p(x)", "vae_k1_fixed", 88.71, 4, "20 min"),
    priors("normal", "N(0, I), gated MLP, -log p(x)", "normal", 84.45, 2, "40 min"),
    priors("vamp", "VampPrior, K = 500, gated MLP, -log p(x)", "vamp", 82.43, 1, "2 h"),
    priors("realnvp", "RealNVP prior, gated MLP, -log p(x)", "realnvp", None, 2, "1 h", bar=VAMP),
    ladder("ladder_12", "ladder of 12 layers, fixed pixels, -ELBO", "ladder_12", 80.50, 2, "3 h", checkpoint="best"),
    sigma("sigma_shared", "Gaussian, learned sigma, -ELBO", "shared", -896.0, 3, "10 min"),
    sigma("sigma_fixed", "Gaussian, sigma = 1, -ELBO", "fixed", 740.0, 3, "10 min"),
    codes("vq", "VQ, 8 codes of 256, PSNR", "vq", 18.45, 3, "15 min"),
    codes("fsq", "FSQ, 8 codes of (8, 6, 5), PSNR", "fsq", 18.42, 3, "15 min"),
    sampler_row("autoencoder", "prior", "autoencoder, N(0, I)"),
    sampler_row("autoencoder", "gmm", "autoencoder, mixture of Gaussians"),
    sampler_row("autoencoder", "two_stage", "autoencoder, second VAE"),
    sampler_row("autoencoder", "coupling_flow", "autoencoder, RealNVP on codes"),
    sampler_row("beta", "prior", "VAE, N(0, I)"),
    sampler_row("beta", "gmm", "VAE, mixture of Gaussians"),
    sampler_row("beta", "two_stage", "VAE, second VAE"),
    sampler_row("beta", "coupling_flow", "VAE, RealNVP on codes"),
    sprites("mig_beta_1", "beta = 1 on sprites, MIG", "beta_1", None, 5, "5 min"),
    sprites("mig_beta_4", "beta = 4 on sprites, MIG", "beta_4", None, 5, "25 min"),
    sprites("mig_tcvae", "beta-TCVAE, beta = 4, on sprites, MIG", "tcvae", None, 5, "15 min"),
)


def choose_rows(names: Sequence[str]) -> Sequence[Row]:
    """The rows of these tables or of these names; all where none is given. Raises UserError for others."""
    known = [*dict.fromkeys(row.table for row in ROWS), *(row.name for row in ROWS)]
    for name in names:
        if name not in known:
            raise unknown_name("--only", name, known)
    return [row for row in ROWS if not names or row.table in names or row.name in names]
