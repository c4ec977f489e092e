"""Manifests as YAML."""

from typing import Any

import yaml

LINE_WIDTH = 10_000
"""Characters before a line is broken: never."""


class _Dumper(yaml.SafeDumper):
    """Writes values that are text in quotes, and text of several lines as such."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else '"')


def _represent_mapping(dumper: yaml.SafeDumper, mapping: dict[str, Any]) -> yaml.MappingNode:
    """The fields' names stand without quotes, but where YAML asks for them."""
    node = dumper.represent_dict(mapping)
    for name, _ in node.value:
        name.style = None
    return node


# In quotes whatever it says: what one reader of YAML takes for text is a number or a truth value to another.
_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(dict, _represent_mapping)


def dump(*documents: dict[str, Any]) -> str:
    """The documents in one file, fields in their order."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=LINE_WIDTH)
