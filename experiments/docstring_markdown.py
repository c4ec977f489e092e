"""Docstrings of variants and metrics as Markdown: their labelled lines, prose and equations."""

import re
from typing import NamedTuple

LABEL = re.compile(r"^(Purpose|Take it|Command|Shows|Misleads) {2,}(.*(?:\n {11}.*)*)", re.MULTILINE)
"""A label, and its text, which goes on in lines that are indented by eleven."""

ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
"""A line of Args, which goes on in lines that are indented by eight."""

EQUATION = " " * 4
SPECIAL_OR_CODE = re.compile(r"(?P<code>`[^`]*`)|[*_<\[\]]")
LIST_START = re.compile(r"^(?=(?:[-+#>]|\d+[.)]) )", re.MULTILINE)


class Guide(NamedTuple):
    """The parts of a docstring.

    Attributes:
        title: its first sentence.
        labels: what it says of its purpose, each text on one line.
        body: equations and all else.
    """

    title: str
    labels: dict[str, str]
    body: str


def read_guide(docstring: str) -> Guide:
    """The parts of a docstring that is a title, labelled lines and a body."""
    title, _, rest = docstring.strip().partition("\n\n")
    labelled, _, body = rest.partition("\n\n")
    return Guide(title, {label: " ".join(text.split()) for label, text in LABEL.findall(labelled)}, body)


def read_arguments(section: str) -> dict[str, str]:
    """The texts of a docstring's Args by name, as Markdown for the cell of a table."""
    found = ARGUMENT.findall(section)
    return {name: markdown(" ".join(text.split())).replace("|", "\\|") for name, text in found}


def markdown(text: str) -> str:
    """Prose with what Markdown would read as marks escaped, and indented paragraphs as blocks of text."""
    paragraphs = [_block(part) if part.startswith(EQUATION) else _prose(part) for part in text.split("\n\n")]
    return "\n\n".join(paragraphs).replace("\n```\n\n```text\n", "\n\n")


def _block(lines: str) -> str:
    return "```text\n" + "\n".join(line.removeprefix(EQUATION) for line in lines.splitlines()) + "\n```"


def _prose(text: str) -> str:
    """Escapes marks outside of `code`, and what would begin a list or a heading."""
    outside = SPECIAL_OR_CODE.sub(lambda found: found[0] if found["code"] else f"\\{found[0]}", text)
    return LIST_START.sub(r"\\", outside)
