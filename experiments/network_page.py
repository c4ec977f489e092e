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

from experiments.docstring_markdown import markdown, read_arguments
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

`--config.net.name` chooses encoder and decoder together. Every network works with every variant and likelihood, and in
populations. Each is one file in vae_jax/models/networks.

    vae-jax train --config=mnist --config.net.name=resnet --config.net.widths="(32,64)" --workdir=runs/resnet

{summary}

All take `activation` and `dtype` (float32, bfloat16). `train.optimizer` is one of optax's: adam, adamw, adabelief,
adamax, amsgrad, lamb, lion, muon, nadam, radam, rmsprop, schedule_free, sgd, yogi. `train.schedule` is constant,
cosine, warmup_cosine, steps or exponential. `train.learning_rate` and `train.weight_decay` are swept in one compiled
program. Decay is of kernels only: not of biases, norms or a codebook.

Layers and counts below are for the defaults on 28x28x1 images with 16 latents (grid: 196, four for each of 7x7 places)
and a Bernoulli likelihood, one number a pixel. A kernel's shape is inputs x outputs: a convolution's inputs are the
numbers in its window (nine pixels of 64 channels are 576), a transposed convolution's outputs are the numbers in its
window. Parameters that are in no kernel are biases and the scales of norms. `python -m experiments.network_page`
computes the tables.

"""


DETAILS = """<details markdown="1">
<summary>Layers and parameters</summary>

{table}

</details>"""


def main(argv: list[str]) -> int:
    """Rewrites the part of the page that follows from the code; the exit status."""
    Parser("experiments.network_page", __doc__, launcher="python -m").parse(argv)
    kept = PAGE.read_text().partition(KEPT)[2] if PAGE.exists() else "\n"
    PAGE.write_text(generate() + KEPT + kept)
    print(PAGE.name)
    return 0


def generate() -> str:
    """The part of the page that follows from the code."""
    names = registry.file_names(networks.__name__)
    titles = {name: (inspect.getdoc(networks.get(name)) or "").partition("\n")[0] for name in names}
    summary = "\n".join(["| name | |", "|---|---|", *(f"| [{name}](#{name}) | {titles[name]} |" for name in names)])
    return HEAD.format(summary=summary) + "".join(_section(name) for name in names)


def _section(name: str) -> str:
    make = networks.get(name)
    doc, _, arguments = (inspect.getdoc(make) or "").partition("\n\nArgs:\n")
    meanings = read_arguments(arguments)
    rows = [f"| `{f}` | {value!r} | {meanings[f]} |" for f, value in registry.keyword_fields(make).items()]
    fields = "\n".join(["| field | default | |", "|---|---|---|", *rows])
    parts = _parts_of_network(name)
    lines = [f"| {part.name} | {', '.join(map(_shape, part.kernels))} | {part.size:,} |" for part in parts]
    total = f"| all | | {sum(part.size for part in parts):,} |"
    table = "\n".join(["| part | kernels | parameters |", "|---|---|---|", *lines, total])
    return f"## {name}\n\n{markdown(doc)}\n\n{fields}\n\n{DETAILS.format(table=table)}\n\n"


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
