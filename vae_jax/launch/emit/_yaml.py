"""Manifests as YAML."""

from typing import Any

import yaml

LINE_WIDTH = 10_000
"""Characters before a line is broken: never."""


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def dump(*documents: dict[str, Any]) -> str:
    """The documents in one file, fields in their order."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=LINE_WIDTH)
