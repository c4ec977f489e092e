"""How long metrics take: scores of given codes, encoding, and the importance bound.

    python -m experiments.benchmark.metrics [--parts=scores,encoding,likelihood] [--metrics=mig,dci] [--path=FOLDER]

All three by default. `scores`: seconds, compiling included, of each score (or of --metrics) of one model of ten
latents at the full protocol. Its codes are made up for the grid of the sprites: five noisy factors, two of them mixed,
and five latents of noise. `encoding`: the latents of about 10,000 sprites of 64x64, as metrics take them, beside the
training loss without its gradient, of the same images, network and batches. `likelihood`: the bound with k = 5000 of
1,000 images on the network of configs/papers/burda_2016.py, untrained, beside the rate of its widest layer's matrix
product and with the process's peak of memory, for which it has to be alone; the images are MNIST's from its files in
--path, without it made up.
"""

import argparse
import resource
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from vae_jax.configs import sprites as sprites_config
from vae_jax.configs.papers import burda_2016

from experiments.benchmark.timing import Workload, machine, measure_rates, median_ratio, run_benchmark
from experiments.benchmark.workloads import widest_layer
from vae_jax import data, model, randomness, registry
from vae_jax.config import defaults
from vae_jax.config.command_line import Parser, path, text, words
from vae_jax.data import sprites
from vae_jax.inference import TrainedModel
from vae_jax.metrics import EvaluationContext, FactorCodes, likelihood
from vae_jax.metrics._evaluation_context import BATCH
from vae_jax.metrics._given_codes import GivenCodes
from vae_jax.metrics._requests import parse_requests
from vae_jax.registry import keyword_fields
from vae_jax.training.setup import Setup, make_setup
from vae_jax.training.step import make_hyper
from vae_jax.typing import AXIS

SCORES = (
    "beta_vae,factor_vae,mig,mig_sampled,sap,dci,modularity,explicitness,irs,gaussian_tc,wasserstein_correlation,"
    "active_units,latent_information"
)
SIZES = keyword_fields(sprites.load)["sizes"]
NETS = {"mlp": {"hidden": (512, 256)}, "conv": {}}
IMAGES, DRAWS, ROUNDS = 1000, 5000, 3


def made_up_codes(sizes: tuple[int, ...], latents: int) -> np.ndarray:
    """Codes of the grid: each factor, scaled and noisy, the first two mixed with the last two; then noise."""
    random = np.random.default_rng(0)
    classes = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
    factors = 3 * (classes / (np.asarray(sizes)[None] - 1) - 0.5)
    codes = 0.3 * random.normal(size=(len(classes), latents))
    codes[:, : len(sizes)] += factors
    codes[:, :2] += 0.7 * factors[:, -2:]
    return codes.astype(np.float32)


def main(argv: list[str]) -> int:
    """Times the parts of the command line; the exit status."""
    parser = Parser("experiments.benchmark.metrics", __doc__, launcher="python -m")
    parser.flag("parts", words, tuple(PARTS), "PART,...", f"what is timed, of {', '.join(PARTS)}")
    parser.flag("metrics", text, f"{SCORES},aggregate_posterior", "NAME,...", "the scores that are timed")
    parser.flag("path", path, None, "FOLDER", "MNIST's files, for the images of the bound")
    flags, _ = parser.parse(argv)
    parts = [registry.choose("--parts", name, PARTS) for name in flags.parts]
    print(machine(1))
    for part in parts:
        print()
        part(flags)
    return 0


def time_scores(flags: argparse.Namespace) -> None:
    """Times each score once."""
    context, key, total = GivenCodes(made_up_codes(SIZES, 10), sprites.NAMES, SIZES), randomness.root_key(0), 0.0
    print("| score | seconds | value |\n|---|---|---|")
    for request in parse_requests(flags.metrics):
        begin = time.perf_counter()
        scores = request.compute(context, key)
        taken = time.perf_counter() - begin
        total += taken
        print(f"| {request.label} | {taken:.2f} | {next(iter(scores.values())):.3f} |", flush=True)
    print(f"| all | {total:.1f} | |")


def untrained(setup: Setup) -> EvaluationContext:
    """The model of a setup as it is before the first step, and its data."""
    config, dataset = setup.config, setup.dataset
    params = setup.initial_state(randomness.root_key(config.seed)).params
    return EvaluationContext(TrainedModel(config.to_dict(), dataset.image_shape, setup.model, params, 0), dataset)


def forward_pass(setup: Setup, context: EvaluationContext) -> Workload:
    """The loss of all held-out images, rendered in the step as in training, in the batches that metrics encode."""
    split, size = jax.device_put(setup.dataset.test), BATCH
    axes = (None, 0, None, None, None)
    lifted = jax.jit(jax.vmap(setup.evaluation_step(split), in_axes=axes, axis_name=AXIS))
    batches = [np.arange(start, start + size, dtype=np.int32)[None] for start in range(0, split.size - size + 1, size)]
    constants = (randomness.root_key(0), jnp.int32(0), make_hyper(setup.config, setup.model))

    def run() -> None:
        jax.block_until_ready([lifted(context.run.params, batch, *constants) for batch in batches])

    return Workload(run, len(batches) * size)


def encode_held_out(context: EvaluationContext) -> None:
    """Encodes the held-out images anew."""
    context.forget()
    context.codes(0)


def encode_grid(context: EvaluationContext) -> FactorCodes:
    """The codes of every image of the grid, encoded anew."""
    context.forget()
    return context.factor_codes


def time_encoding(flags: argparse.Namespace) -> None:
    """Times what metrics encode beside the forward pass, in turn."""
    print("| network | work | images/s | of forward |\n|---|---|---|---|")
    for name, fields in NETS.items():
        config = sprites_config.get_config()
        config.net = defaults.section("net", name, **fields)
        config.data.update(resolution=64, sizes=(3, 4, 16, 8, 8), split="random 0.82")
        setup = make_setup(config, model.load_data(config.data))
        context = untrained(setup)
        workloads = {
            "forward": forward_pass(setup, context),
            "codes of held-out images": Workload(partial(encode_held_out, context), setup.dataset.test.size),
            "codes of a grid": Workload(partial(encode_grid, context), setup.dataset.factors.size),
        }
        for workload in workloads.values():
            workload.run()
        rates = measure_rates(workloads, ROUNDS)
        for work in workloads:
            ratio = median_ratio(rates[work], rates["forward"])
            print(f"| {name} | {work} | {np.median(rates[work]):,.0f} | {ratio:.2f} |", flush=True)


def time_bound(flags: argparse.Namespace) -> None:
    """Times the importance bound, compiling included, between two measurements of the matrix product."""
    config = burda_2016.get_config("iwae_k50")
    if flags.path is not None:
        config.data.path = str(flags.path)
        dataset = model.load_data(config.data)
    else:
        images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
        dataset = data.from_arrays(images, None, images, None)
    config.train.batch_size = likelihood.VALUES // 784
    setup = make_setup(config, dataset)
    context, product = untrained(setup), {"": widest_layer(setup, jax.devices()[:1])}
    before, begin = measure_rates(product, ROUNDS)[""], time.perf_counter()
    scores = likelihood.compute(context, randomness.root_key(0), k=DRAWS, images=IMAGES)
    taken = time.perf_counter() - begin
    limit = np.median(np.concatenate([before, measure_rates(product, ROUNDS)[""]]))
    decoder = jax.tree.leaves(context.run.params["nets"]["decoder"])
    rate = 2 * DRAWS * scores["likelihood.images"] * sum(leaf.size for leaf in decoder if leaf.ndim == 2) / taken
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"k = {DRAWS}, {scores['likelihood.images']} images: {taken:.1f} s, peak {peak:.2f} GiB, "
        f"{rate / 1e9:.0f} GFLOP/s of the decoder's products, {rate / limit:.0%} of the {limit / 1e9:.0f} GFLOP/s "
        f"that the widest layer's product reaches alone; {scores['likelihood']:.2f} nats"
    )


PARTS = {"scores": time_scores, "encoding": time_encoding, "likelihood": time_bound}


if __name__ == "__main__":
    run_benchmark(main)
