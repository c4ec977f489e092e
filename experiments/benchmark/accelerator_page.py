"""The measured section of docs/accelerators.md: the tables of an accelerator, from the JSON of its parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark.accelerator_parts import PARTS, Part
from vae_jax.errors import UserError
from vae_jax.files import write_text

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
TITLE = "# Accelerators\n\n## Measured\n\n"
COMMANDS = """    experiments/benchmark/accelerator.sh accelerator.json
    python -m experiments.benchmark.accelerator --page --json=accelerator.json
"""
NOT_RUN = f"Not yet run on an accelerator. Two commands measure, and write this section:\n\n{COMMANDS}"
TRIAL = "A trial of the program in tiny sizes: none of these numbers says anything of an accelerator.\n\n"


def render_section(parts: Mapping[str, Mapping[str, Any]] | None, tiny: bool) -> str:
    """The section's text; that nothing was run, for None.

    Raises UserError where a part was measured on a CPU or in tiny sizes, and `tiny` does not say that this is meant.
    """
    if not parts:
        return NOT_RUN
    for name, record in parts.items():
        if not tiny and (record.get("tiny") or record.get("platform") == "cpu"):
            raise UserError(
                f"--json: {name!r} was measured on {record.get('device')!r} in a trial; give the file of an "
                "accelerator, or --tiny to see the trial's page"
            )
    measured = [name for name, record in parts.items() if record["rows"]]
    tables = [render_part(part, parts[name]) for name, part in PARTS.items() if name in parts]
    heading = (TRIAL if tiny else "") + render_origins({name: parts[name] for name in measured})
    return f"{heading}\n{COMMANDS}\n" + "\n".join(tables)


def render_origins(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """On what the parts were measured: a line for each device, version, commit and day, with its parts if not all."""
    by_origin: dict[str, list[str]] = {}
    for name, record in parts.items():
        origin = f"{record['device']}, jax {record['jax']}, commit {record['commit']}, {record['date']}"
        by_origin.setdefault(origin, []).append(name)
    if len(by_origin) == 1:
        return f"{next(iter(by_origin))}.\n"
    return "".join(f"- {origin}: {', '.join(names)}\n" for origin, names in by_origin.items())


def render_part(part: Part, record: Mapping[str, Any]) -> str:
    """The heading, the table and the note of a part; why it failed, where it has."""
    lines = [f"### {part.title}", "", part.note, ""]
    if record["rows"]:
        lines += [f"| {part.first} | {' | '.join(part.columns.values())} |", "|---|" + "---|" * len(part.columns)]
        lines += [f"| {name} | {' | '.join(cells(part, row))} |" for name, row in record["rows"].items()]
        lines += [""]
    if "failed" in record:
        lines += [f"Not measured to its end: {record['failed']}.", ""]
    return "\n".join(lines)


def cells(part: Part, row: Mapping[str, Any]) -> list[str]:
    """The numbers of a row, or why there are none."""
    if reason := row.get("reason") or row.get("failed"):
        return [reason.replace("|", "\\|"), *["—"] * (len(part.columns) - 1)]
    return [show(row.get(column)) for column in part.columns]


def show(value: Any) -> str:
    """A number in three digits or more, yes or no, a dash for nothing."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}"
    if abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def replace_section(file: Path, section: str) -> None:
    """Puts the section between its two comments in the page, which is made where it is not there.

    Raises UserError where the page has not both comments, once each and in their order.
    """
    page = file.read_text() if file.exists() else f"{TITLE}{BEGIN}\n{END}\n"
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or page.count(BEGIN) + page.count(END) > 2:
        raise UserError(f"--document: {str(file)!r} is to have one {BEGIN} and then one {END}; add the two comments")
    write_text(file, f"{before}{BEGIN}\n{section}{END}{after}")
