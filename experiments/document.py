"""Writes docs/variants.md and docs/metrics.md from the code: docstrings, fields and lab notes.

    python -m experiments.document

A docstring is a title, then lines of the form "Purpose    samples", then its equations and what there is to say. What
stands in those files from "## Step times" and "## Measured" on is measured, and kept as it is.
"""

import ast
import html
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from experiments.docstring_markdown import Guide, markdown, read_guide
from vae_jax import metrics, registry, variants
from vae_jax.config.command_line import Parser, run_program
from vae_jax.config.parse import load_config

ROOT = Path(__file__).parents[1]

METRICS_HEAD = """# Metrics

    vae-jax evaluate --workdir=runs/sprites --metrics=mig,dci,likelihood:k=5000

computes metrics of a trained run and adds them to its evaluation.json: `mig`, its details `mig.x`, and `mig.protocol`,
the parameters used. The defaults are the reference protocol. With other parameters, results are named as they were
requested (`likelihood:k=100`). A run whose config.evaluation.metrics names metrics computes them after its last step.

A metric of your own is a module that defines `METRIC` ([your own code](extending.md#a-metric)).

This page is written by `python -m experiments.document` from the docstrings in vae_jax/metrics.

"""

VARIANTS_HEAD = """# Variants

A variant is one scalar loss in nats per image, in one file of vae_jax/variants, chosen by `--config.variant.name`. This
page lists all of them by purpose; [which variant do I want?](choosing.md) is the short version.

`python -m experiments.document` writes it from the docstrings of the variants and of the configs that train them.
"Swept" fields may differ within one compiled program.

"""

METRIC_PURPOSES = (
    "fit to unseen images",
    "quality of samples",
    "quality of reconstructions",
    "use of the latents",
    "disentanglement, where factors are known",
    "disentanglement, without factors",
)

VARIANT_PURPOSES = (
    "a first model",
    "better samples",
    "sharp reconstructions",
    "disentangled factors",
    "a tight bound",
    "discrete codes",
    "labels",
)

NOTE = """<details markdown="1">
<summary>{summary}</summary>

```
{doc}
```

</details>

"""
"""The lab notes of a config, folded."""

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
    guides = {name: read_guide(metrics.description(metrics.get(name))) for name in metrics.names()}
    return METRICS_HEAD + _grouped(guides, METRIC_PURPOSES, "Shows", _metric_section)


def variants_page() -> str:
    """The part of docs/variants.md that follows from the code."""
    modules = [
        importlib.import_module(f"{variants.__name__}.{name}") for name in registry.file_names(variants.__name__)
    ]
    guides = {module.__name__.rpartition(".")[2]: read_guide(inspect.getdoc(module) or "") for module in modules}
    notes = _lab_notes()

    def section(name: str, guide: Guide) -> str:
        return _variant_section(name, guide) + "".join(notes.get(name, []))

    return VARIANTS_HEAD + _grouped(guides, VARIANT_PURPOSES, "Take it", section)


def _grouped(
    guides: dict[str, Guide], purposes: tuple[str, ...], short: str, section: Callable[[str, Guide], str]
) -> str:
    """A table of all by purpose, then their sections; an unknown purpose is a KeyError."""
    groups: dict[str, list[str]] = {purpose: [] for purpose in purposes}
    for name, guide in guides.items():
        groups[guide.labels["Purpose"]].append(name)
    cells = {name: _first_sentence(guide.labels[short]) for name, guide in guides.items()}
    rows = [
        f"| {purpose if name == names[0] else ''} | [{name}](#{name}) | {cells[name]} |\n"
        for purpose, names in groups.items()
        for name in names
    ]
    text = f"| purpose | name | {short.lower()} |\n|---|---|---|\n" + "".join(rows) + "\n"
    for purpose, names in groups.items():
        text += f"## {purpose.capitalize()}\n\n" + "".join(section(name, guides[name]) for name in names)
    return text


def _first_sentence(text: str) -> str:
    """The first sentence, for a cell of a table."""
    return markdown(text.partition(". ")[0].removesuffix(".")).replace("|", "\\|")


def _metric_section(name: str, guide: Guide) -> str:
    metric = metrics.get(name)
    needs = "; ".join(metrics.REQUIREMENTS[requirement] for requirement in metric.requires) or "nothing but the run"
    parameters = registry.keyword_fields(metric.compute)
    shown = ", ".join(f"`{parameter}={value}`" for parameter, value in parameters.items()) or "none"
    direction = DIRECTIONS[metric.higher_is_better]
    reading = f"In {metric.unit}; {direction}" if metric.unit else direction.capitalize()
    facts = f"{reading}. Needs {needs}. Parameters: {shown}."
    labels = {label: markdown(text) for label, text in guide.labels.items()}
    return (
        f"### {name}\n\n{markdown(guide.title)}\n\n**It shows** {labels['Shows']}\n\n"
        f"**It misleads** {labels['Misleads']}\n\n{facts}\n\n{markdown(guide.body)}\n\n"
    )


def _variant_section(name: str, guide: Guide) -> str:
    fields = {field: value for field, value in variants.defaults(name).items() if field != "name"}
    swept = variants.traced(name)
    rows = [f"| `{field}` | {value!r} | {'swept' if field in swept else 'static'} |" for field, value in fields.items()]
    table = "\n".join(["| field | default | |", "|---|---|---|", *rows]) + "\n\n" if rows else ""
    return (
        f"### {name}\n\n{markdown(guide.title)}\n\n**Take it** {markdown(guide.labels['Take it'])}\n\n"
        f"    {guide.labels['Command']}\n\n{markdown(guide.body)}\n\n{table}"
        f"Code: [vae_jax/variants/{name}.py](../vae_jax/variants/{name}.py).\n\n"
    )


def _lab_notes() -> dict[str, list[str]]:
    """Lab notes of the configs, by the variant that each trains."""
    notes: dict[str, list[str]] = {}
    for path in sorted((ROOT / "configs").rglob("*.py")):
        if path.stem not in ("__init__", "default"):
            doc = ast.get_docstring(ast.parse(path.read_text()))
            name = load_config(str(path)).variant.name
            summary = f"{path.relative_to(ROOT)}: {doc.partition(chr(10))[0]}"
            notes.setdefault(name, []).append(
                NOTE.format(summary=html.escape(summary.replace("`", ""), quote=False), doc=doc)
            )
    return notes


PAGES = (
    Page(ROOT / "docs/variants.md", variants_page, "## Step times"),
    Page(ROOT / "docs/metrics.md", metrics_page, "## Measured"),
)


if __name__ == "__main__":
    run_program(main)
