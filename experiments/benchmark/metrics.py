"""How long metrics take: scores of given codes, encoding, and the importance bound.

    python -m experiments.benchmark_metrics [--only=scores,encoding,likelihood] [--metrics=mig,dci] [--path=FOLDER]

All three by default. `scores`: seconds, compiling included, of each score (--metrics: of some) of one model of ten
latents at the full protocol. Its codes are made up for the grid of the sprites: five noisy factors, two of them mixed,
and five latents of noise. `encoding`: the latents of about 10,000 sprites of 64x64, as metrics take them, beside the
training loss without its gradient, of the same images, network and batches. `likelihood`: the bound with k = 5000 of
1,000 images on the network of configs/mnist_iwae.py, untrained, beside the rate of its widest layer's matrix product
and with the process's peak of memory, for which it has to be alone; the images are MNIST's from its files in --path,
without it made up.
"""

import resource
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from vae_jax.configs import mnist_iwae
from vae_jax.configs import sprites as sprites_config

from experiments.benchmark import __main__
from experiments.benchmark.__main__ import Work, in_turn
from vae_jax import data, metrics, model, randomness, registry
from vae_jax.config.command_line import Arguments, run_program
from vae_jax.data import Dataset, sprites
from vae_jax.data._factors import Factors
from vae_jax.inference import TrainedModel
from vae_jax.metrics import Subject, likelihood
from vae_jax.models.distributions import Gaussian
from vae_jax.registry import keyword_fields
from vae_jax.training.step import fetch_fn, initial_state, make_eval_step, make_hyper
from vae_jax.typing import AXIS, Config

SCORES = (
    "beta_vae,factor_vae,mig,mig_sampled,sap,dci,modularity,explicitness,irs,gaussian_tc,wasserstein_correlation,"
    "active_units,latent_information"
)
SIZES = keyword_fields(sprites.load)["sizes"]
NETS = {"mlp": {"hidden": (512, 256)}, "conv": {}}
IMAGES, DRAWS, ROUNDS = 1000, 5000, 3


class Given(Subject):
    """A subject of which only the codes are known, one row for each image of a grid; every posterior is as wide."""

    def __init__(self, codes: np.ndarray, names: tuple[str, ...], sizes: tuple[int, ...], logvar: float = -4.0):
        self.dataset = SimpleNamespace(factors=Factors(names, sizes, render=None))
        self.model = SimpleNamespace(variant=SimpleNamespace(log_prior=None))
        self.run = None
        self.coded = metrics.coded(codes, names, sizes)
        self.logvar = logvar

    def codes(self, images: int) -> np.ndarray:
        """The codes of `images` of the grid, 0 for all, spread over it."""
        order = np.random.default_rng(0).permutation(len(self.coded.codes))
        return self.coded.codes[order[:images] if images else order]

    def posterior(self, images: int) -> Gaussian:
        """Around the codes."""
        mean = jnp.asarray(self.codes(images))
        return Gaussian(mean, jnp.full_like(mean, self.logvar))

    def posterior_at(self, ids: np.ndarray) -> Gaussian:
        """Around the codes of the grid."""
        mean = jnp.asarray(self.coded.codes[ids])
        return Gaussian(mean, jnp.full_like(mean, self.logvar))


def made_up(sizes: tuple[int, ...], latents: int) -> np.ndarray:
    """Codes of the grid: each factor, scaled and noisy, the first two mixed with the last two; then noise."""
    random = np.random.default_rng(0)
    classes = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    factors = 3 * (classes / (np.asarray(sizes)[None] - 1) - 0.5)
    codes = 0.3 * random.normal(size=(len(classes), latents))
    codes[:, : len(sizes)] += factors
    codes[:, :2] += 0.7 * factors[:, -2:]
    return codes.astype(np.float32)


def scores(own: dict[str, str]) -> None:
    """Times each score once."""
    computed = metrics.parse(own.get("metrics", f"{SCORES},aggregate_posterior"))
    subject, key, total = Given(made_up(SIZES, 10), sprites.NAMES, SIZES), randomness.root_key(0), 0.0
    print("| score | seconds | value |\n|---|---|---|")
    for word, compute in computed.items():
        begin = time.perf_counter()
        result, _ = compute(subject, key)
        seconds = time.perf_counter() - begin
        total += seconds
        print(f"| {word} | {seconds:.2f} | {next(iter(result.values())):.3f} |", flush=True)
    print(f"| all | {total:.1f} | |")


def untrained(config: Config, dataset: Dataset) -> Subject:
    """A model of `config` as it is before the first step, and its data."""
    built = model.build(config, dataset.image_shape)
    params = jax.jit(lambda: initial_state(built, config, dataset.image_shape))().params
    return Subject(TrainedModel(config.to_dict(), dataset.image_shape, built, params, 0), dataset)


def forward(config: Config, subject: Subject) -> Work:
    """The loss of all held-out images, rendered in the step as in training, in the batches that metrics encode."""
    built, split, size = subject.model, jax.device_put(subject.dataset.test), metrics.BATCH
    step = make_eval_step(built.nets, built.variant, fetch_fn(config)(split))
    lifted = jax.jit(jax.vmap(step, in_axes=(None, 0, None, None, None), axis_name=AXIS))
    batches = [np.arange(start, start + size, dtype=np.int32)[None] for start in range(0, split.size - size + 1, size)]
    rest = (randomness.root_key(0), jnp.int32(0), make_hyper(config, built))
    return Work(
        lambda: jax.block_until_ready([lifted(subject.run.params, batch, *rest) for batch in batches]),
        len(batches) * size,
        "images",
    )


def encoding(own: dict[str, str]) -> None:
    """Times what metrics encode beside the forward pass, in turn."""
    print("| network | work | images/s | of forward |\n|---|---|---|---|")
    for name, fields_of in NETS.items():
        config = sprites_config.get_config()
        config.net = sprites_config.default.section("net", name, **fields_of)
        config.data.update(resolution=64, sizes=(3, 4, 16, 8, 8), split="random 0.82")
        subject = untrained(config, model.load_data(config.data))

        def codes(subject=subject):
            subject.codes.cache_clear()
            subject.codes(0)

        def coded(subject=subject):
            vars(subject).pop("coded", None)
            return subject.coded

        timed = {
            "forward": forward(config, subject),
            "codes of held-out images": Work(codes, subject.dataset.test.size, "images"),
            "codes of a grid": Work(coded, subject.dataset.factors.count, "images"),
        }
        for work in timed.values():
            work.call()
        rates = in_turn(timed, ROUNDS)
        for work, found in rates.items():
            ratio = np.median(np.asarray(found) / np.asarray(rates["forward"]))
            print(f"| {name} | {work} | {np.median(found):,.0f} | {ratio:.2f} |", flush=True)


def importance_bound(own: dict[str, str]) -> None:
    """Times the bound, compiling included, between two measurements of the matrix product."""
    config = mnist_iwae.get_config()
    if "path" in own:
        config.data.path = own["path"]
        dataset = model.load_data(config.data)
    else:
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
        dataset = data.from_arrays(images, None, images, None)
    subject, devices = untrained(config, dataset), jax.devices()[:1]
    config.train.batch_size = likelihood.VALUES // 784
    matmul = {"": __main__.layer_matmul(config, subject.model, dataset.image_shape, devices)}
    before = in_turn(matmul, ROUNDS)[""]
    began = time.perf_counter()
    found = likelihood.compute(subject, randomness.root_key(0), k=DRAWS, images=IMAGES)
    seconds = time.perf_counter() - began
    limit = np.median(before + in_turn(matmul, ROUNDS)[""])
    decoder = jax.tree.leaves(subject.run.params["nets"]["decoder"])
    rate = 2 * DRAWS * found["likelihood.images"] * sum(leaf.size for leaf in decoder if leaf.ndim == 2) / seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"k = {DRAWS}, {found['likelihood.images']} images: {seconds:.1f} s, peak {peak:.2f} GiB, "
        f"{rate / 1e9:.0f} GFLOP/s of the decoder's products, {rate / limit:.0%} of the {limit / 1e9:.0f} GFLOP/s "
        f"that the widest layer's product reaches alone; {found['likelihood']:.2f} nats"
    )


PARTS = {"scores": scores, "encoding": encoding, "likelihood": importance_bound}


def main(argv: list[str]) -> int:
    """Times what is asked for; the exit status."""
    own, _ = Arguments(("only", "metrics", "path")).parse(argv)
    parts = [registry.choose("--only", name, PARTS) for name in own.get("only", ",".join(PARTS)).split(",")]
    print(f"1 x {jax.devices()[0].device_kind}, jax {jax.__version__}")
    for part in parts:
        print()
        part(own)
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    run_program(main, __doc__)
