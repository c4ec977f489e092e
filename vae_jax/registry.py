"""Names in a config to code: a file name is the registry, a function's keywords are its fields."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any


class UserError(ValueError):
    """Something the user gave is wrong; the message is one line that says what and what is allowed."""


def unknown(field: str, value: Any, allowed: Collection[str]) -> UserError:
    """The error for a name that is not among `allowed`, with the nearest one that is."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"{field}: {value!r} is unknown; known: {', '.join(names) or 'nothing'}{hint}")


def choose(field: str, value: str, table: dict[str, Any]) -> Any:
    """The entry of `table` called `value`; UserError naming `field` and the nearest name otherwise."""
    if value not in table:
        raise unknown(field, value, table)
    return table[value]


def module(field: str, name: str, package: ModuleType) -> ModuleType:
    """The module `name` of `package`; UserError naming `field` and the nearest name otherwise."""
    names = {info.name for info in pkgutil.iter_modules(package.__path__)}
    if name not in names:
        raise unknown(field, name, names)
    return importlib.import_module(f"{package.__name__}.{name}")


def fields(function: Callable) -> dict[str, Any]:
    """The keyword-only parameters of `function` with their defaults: what a config section may set."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
