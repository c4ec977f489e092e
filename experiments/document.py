"""Writes docs/variants.md and docs/metrics.md from the code: docstrings, fields and lab notes.

    python -m experiments.document

What stands in those files from "## Step times" and "## Measured" on is measured, and kept as it is.
"""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vae_jax import metrics, registry, variants
from vae_jax.config.command_line import run_program
from vae_jax.config.parse import load_config

ROOT = Path(__file__).parents[1]


class Page(NamedTuple):
    """A file of docs/: the part that follows from the code, and the heading from which on it is kept as it is."""

    file: Path
    generated: Callable[[], str]
    measured: str


def main(argv: list[str]) -> int:
    """Rewrites the generated part of each page; the exit status."""
    for page in PAGES:
        kept = page.file.read_text().partition(page.measured)[2] if page.file.exists() else "\n"
        page.file.write_text(page.generated() + page.measured + kept)
        print(page.file.relative_to(ROOT))
    return 0


def of_metrics() -> str:
    """The part of docs/metrics.md that follows from the code."""
    head = (
        "# Metrics\n\nEach is one file in vae_jax/metrics, computed from a trained run and its data:\n\n"
        "    python -m experiments.evaluate --workdir=runs/sprites --metrics=mig,dci,likelihood:k=5000\n\n"
        "Results join the run's evaluation.json: `mig`, its details `mig.x`, and `mig.protocol`, the parameters that "
        "made it. With\nparameters other than the defaults, the reference protocol, they stand under the words "
        "that asked for them\n(`likelihood:k=100`). config.evaluation.metrics has them computed after the last step. "
        "This page is written by\n`python -m experiments.document` from the docstrings; a test holds the two "
        "together.\n\n"
    )
    return head + "".join(_metric(name) for name in metrics.names())


def _metric(name: str) -> str:
    module = metrics.get(name)
    needs = "; ".join(metrics.NEEDS[need] for need in module.NEEDS) or "nothing but the run"
    fields = (
        ", ".join(f"`{field}={value}`" for field, value in registry.keyword_fields(module.compute).items()) or "none"
    )
    return f"## {name}\n\n```\n{module.__doc__.strip()}\n```\n\nNeeds {needs}. Parameters: {fields}.\n\n"


def of_variants() -> str:
    """The part of docs/variants.md that follows from the code."""
    names = sorted(info.name for info in pkgutil.iter_modules(variants.__path__))
    head = (
        "# Variants\n\nEach is one file in vae_jax/variants, one scalar loss in nats per image, chosen by "
        "`--config.variant.name`.\nThis page is written by `python -m experiments.document` from the docstrings of "
        "the variants and of the configs\nthat train them; a test holds the two together.\n\n"
    )
    notes = _notes()
    return head + "".join(_section(name, notes) for name in names)


def _section(name: str, notes: dict[str, list[str]]) -> str:
    doc = importlib.import_module(f"vae_jax.variants.{name}").__doc__.strip()
    fields = {field: value for field, value in variants.defaults(name).items() if field != "name"}
    floats = variants.traced(name)
    rows = [
        f"| `{field}` | {value!r} | {'swept' if field in floats else 'static'} |" for field, value in fields.items()
    ]
    table = "\n".join(["| field | default | |", "|---|---|---|", *rows]) + "\n\n" if rows else ""
    return f"## {name}\n\n```\n{doc}\n```\n\n{table}" + "".join(notes.get(name, []))


def _notes() -> dict[str, list[str]]:
    """Lab notes of the configs, by the variant that each trains."""
    notes: dict[str, list[str]] = {}
    for path in sorted((ROOT / "configs").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text()))
        if path.stem not in ("__init__", "default"):
            name = load_config(str(path)).variant.name
            notes.setdefault(name, []).append(f"configs/{path.name}:\n\n```\n{doc}\n```\n\n")
    return notes


PAGES = (
    Page(ROOT / "docs/variants.md", of_variants, "## Step times"),
    Page(ROOT / "docs/metrics.md", of_metrics, "## Measured"),
)


if __name__ == "__main__":
    run_program(main, __doc__)
