"""Writes the tables of docs/networks.md from the code: each network's fields, layers and parameter counts.

    python -m experiments.network_page

What stands in that file from "## Your own network" on is kept as it is.
"""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import registry
from vae_jax.config.command_line import Parser, run_program
from vae_jax.models import networks

PAGE = Path(__file__).parents[1] / "docs/networks.md"
KEPT = "## Your own network"
IMAGE, LATENTS = (28, 28, 1), 16
MORE_LATENTS = {"grid": 196}
"""Of networks that 16 are too few for."""
WRAPPERS = ("body", "Mlp_0")
"""Modules whose layers are listed one by one."""

HEAD = """# Networks

An encoder and a decoder are chosen together, by `--config.net.name`; every one works with every variant and likelihood,
in populations too. Each is one file in vae_jax/models/networks.

    vae-jax train --config=mnist --config.net.name=resnet --config.net.widths="(32,64)" --workdir=runs/resnet

Layers and counts are of the defaults on 28x28x1 images with 16 latents (grid: 196, four for each of 7x7 places) and a
Bernoulli likelihood, one number a pixel.
Each is written as the shape of its kernel, inputs x outputs: a convolution's inputs are the numbers in its window (nine
pixels of 64 channels are 576), a transposed one's outputs those in its. What no kernel accounts for is biases and the
scales of norms. `python -m experiments.network_page` computes them; a test holds the page to the code.

"""


def main(argv: list[str]) -> int:
    """Rewrites the part of the page that follows from the code; the exit status."""
    Parser("experiments.network_page", __doc__, launcher="python -m").parse(argv)
    kept = PAGE.read_text().partition(KEPT)[2] if PAGE.exists() else "\n"
    PAGE.write_text(generate() + KEPT + kept)
    print(PAGE.name)
    return 0


def generate() -> str:
    """The part of the page that follows from the code."""
    return HEAD + "".join(_section(name) for name in registry.file_names(networks.__name__))


def _section(name: str) -> str:
    make = networks.get(name)
    fields = ", ".join(f"`{field}={value!r}`" for field, value in registry.keyword_fields(make).items())
    parts = _parts_of_network(name)
    lines = [f"| {part.name} | {', '.join(map(_shape, part.kernels))} | {part.size:,} |" for part in parts]
    total = f"| all | | {sum(part.size for part in parts):,} |"
    table = "\n".join(["| part | kernels | parameters |", "|---|---|---|", *lines, total])
    return f"## {name}\n\n```\n{inspect.getdoc(make)}\n```\n\nFields: {fields}.\n\n{table}\n\n"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


class Part(NamedTuple):
    """A layer or a block: its name, the shapes of its kernels, and how many parameters it has."""

    name: str
    kernels: list[tuple[int, ...]]
    size: int


def _parts_of_network(name: str) -> list[Part]:
    """The layers and blocks of both networks in the order in which they are applied; nothing is computed."""
    parts: list[Part] = []
    latents = MORE_LATENTS.get(name, LATENTS)

    def init(key: jax.Array) -> None:
        # flax lists layers as they are applied; what eval_shape returns is sorted by name.
        params = networks.get(name)(IMAGE, latents, 1).init(key, jnp.zeros((1, *IMAGE)), jnp.zeros((1, latents)))
        parts.extend(_parts("encoder", params["encoder"]))
        parts.extend(_parts("decoder", params["decoder"]))

    jax.eval_shape(init, jax.random.key(0))
    return parts


def _parts(name: str, tree: Mapping[str, Any]) -> Iterator[Part]:
    for child, subtree in tree.items():
        if child in WRAPPERS:
            yield from _parts(name, subtree)
        else:
            leaves = jax.tree_util.tree_leaves_with_path(subtree)
            kernels = [leaf.shape for path, leaf in leaves if path[-1].key == "kernel"]
            yield Part(f"{name} {child}", kernels, sum(leaf.size for _, leaf in leaves))


if __name__ == "__main__":
    run_program(main)
