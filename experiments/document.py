"""Writes docs/variants.md and docs/metrics.md from the code: docstrings, fields and lab notes.

    python -m experiments.document

What stands in those files from "## Step times" and "## Measured" on is measured, and kept as it is.
"""

import ast
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vae_jax import metrics, registry, variants
from vae_jax.config.command_line import Parser, run_program
from vae_jax.config.parse import load_config

ROOT = Path(__file__).parents[1]

METRICS_HEAD = """# Metrics

Each is one file in vae_jax/metrics, computed from a trained run and its data:

    vae-jax evaluate --workdir=runs/sprites --metrics=mig,dci,likelihood:k=5000

Results join the run's evaluation.json: `mig`, its details `mig.x`, and `mig.protocol`, the parameters that made it.
With parameters other than the defaults, the reference protocol, they stand under the words that asked for them
(`likelihood:k=100`). config.evaluation.metrics has them computed after the last step.

A metric of your own is a module that defines `METRIC`, beside the config file or on the path, and is asked for by its
dotted name: `--metrics=my_lab.scores.mine:bins=30`. As a dot begins a detail, its results are `my_lab/scores/mine`.

This page is written by `python -m experiments.document` from the docstrings; a test holds the two together.

"""

VARIANTS_HEAD = """# Variants

Each is one file in vae_jax/variants, one scalar loss in nats per image, chosen by `--config.variant.name`.
This page is written by `python -m experiments.document` from the docstrings of the variants and of the configs
that train them; a test holds the two together.

"""

DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither way is better"}


class Page(NamedTuple):
    """A file of docs/.

    Attributes:
        file: where it is.
        generate: what stands before the heading: the part that follows from the code.
        measured: the heading from which on it is kept as it is.
    """

    file: Path
    generate: Callable[[], str]
    measured: str


def main(argv: list[str]) -> int:
    """Rewrites the generated part of each page; the exit status."""
    Parser("experiments.document", __doc__, launcher="python -m").parse(argv)
    for page in PAGES:
        kept = page.file.read_text().partition(page.measured)[2] if page.file.exists() else "\n"
        page.file.write_text(page.generate() + page.measured + kept)
        print(page.file.relative_to(ROOT))
    return 0


def metrics_page() -> str:
    """The part of docs/metrics.md that follows from the code."""
    return METRICS_HEAD + "".join(_metric_section(name) for name in metrics.names())


def _metric_section(name: str) -> str:
    metric = metrics.get(name)
    needs = "; ".join(metrics.REQUIREMENTS[requirement] for requirement in metric.requires) or "nothing but the run"
    parameters = registry.keyword_fields(metric.compute)
    shown = ", ".join(f"`{parameter}={value}`" for parameter, value in parameters.items()) or "none"
    direction = DIRECTIONS[metric.higher_is_better]
    reading = f"In {metric.unit}; {direction}" if metric.unit else direction.capitalize()
    facts = f"Needs {needs}. Parameters: {shown}. {reading}."
    return f"## {name}\n\n```\n{metrics.description(metric)}\n```\n\n{facts}\n\n"


def variants_page() -> str:
    """The part of docs/variants.md that follows from the code."""
    notes = _lab_notes()
    names = registry.file_names(variants.__name__)
    return VARIANTS_HEAD + "".join(_variant_section(name) + "".join(notes.get(name, [])) for name in names)


def _variant_section(name: str) -> str:
    doc = inspect.getdoc(importlib.import_module(f"{variants.__name__}.{name}"))
    fields = {field: value for field, value in variants.defaults(name).items() if field != "name"}
    swept = variants.traced(name)
    rows = [f"| `{field}` | {value!r} | {'swept' if field in swept else 'static'} |" for field, value in fields.items()]
    table = "\n".join(["| field | default | |", "|---|---|---|", *rows]) + "\n\n" if rows else ""
    return f"## {name}\n\n```\n{doc}\n```\n\n{table}"


def _lab_notes() -> dict[str, list[str]]:
    """Lab notes of the configs, by the variant that each trains."""
    notes: dict[str, list[str]] = {}
    for path in sorted((ROOT / "configs").rglob("*.py")):
        if path.stem not in ("__init__", "default"):
            doc = ast.get_docstring(ast.parse(path.read_text()))
            name = load_config(str(path)).variant.name
            notes.setdefault(name, []).append(f"{path.relative_to(ROOT)}:\n\n```\n{doc}\n```\n\n")
    return notes


PAGES = (
    Page(ROOT / "docs/variants.md", variants_page, "## Step times"),
    Page(ROOT / "docs/metrics.md", metrics_page, "## Measured"),
)


if __name__ == "__main__":
    run_program(main)
