"""Writes docs/variants.md from the code: each variant's docstring, fields and lab notes.

    python -m experiments.document

What stands in that file from "## Step times" on is measured, and kept as it is.
"""

import ast
import importlib
import pkgutil
from pathlib import Path

from experiments import settings
from vae_jax import likelihoods, variants

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs/variants.md"
MEASURED = "## Step times"


def main(argv: list[str]) -> int:
    """Rewrites the generated part of docs/variants.md; the exit status."""
    kept = FILE.read_text().partition(MEASURED)[2] if FILE.exists() else "\n"
    FILE.write_text(generated() + MEASURED + kept)
    print(FILE.relative_to(ROOT))
    return 0


def generated() -> str:
    """The part of docs/variants.md that follows from the code."""
    names = sorted(info.name for info in pkgutil.iter_modules(variants.__path__))
    head = (
        "# Variants\n\nEach is one file in vae_jax/variants, one scalar loss in nats per image, chosen by "
        "`--config.variant.name`.\nThis page is written by `python -m experiments.document` from the docstrings of "
        "the variants and of the configs\nthat train them; a test holds the two together.\n\n"
    )
    return head + "".join(_section(name, _notes()) for name in names)


def _section(name: str, notes: dict[str, list[str]]) -> str:
    doc = importlib.import_module(f"vae_jax.variants.{name}").__doc__.strip()
    fields = {field: value for field, value in variants.defaults(name).items() if field != "name"}
    floats = variants.floats(variants.get(name)(likelihoods.bernoulli()))
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
            name = settings.load(str(path)).variant.name
            notes.setdefault(name, []).append(f"configs/{path.name}:\n\n```\n{doc}\n```\n\n")
    return notes


if __name__ == "__main__":
    settings.start(main, __doc__)
