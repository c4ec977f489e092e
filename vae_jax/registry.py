"""Names in a config to code: a file's name in one of our folders, a dotted name of the user's own, or an object's."""

import contextlib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from vae_jax.errors import UserError, unknown_name
from vae_jax.files import reason

OBJECT = "object."
"""How the name begins of what no import finds: a function of a notebook, say, which a program hands over itself."""

OBJECTS: dict[str, Any] = {}
"""What this program has handed over, by those names."""


def choose(field: str, value: str, table: dict[str, Any]) -> Any:
    """The entry of `table` called `value`. Raises UserError naming `field` and the nearest name where there is none."""
    if value not in table:
        raise unknown_name(field, value, table)
    return table[value]


@functools.cache  # a comparison reads the configs of a thousand runs, each with ten names
def file_names(package: str) -> tuple[str, ...]:
    """The names of the files of `package` that a config may choose: all that do not begin with _, in order."""
    modules = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(sorted(module.name for module in modules if not module.name.startswith("_")))


def find(field: str, name: str, package: str, attribute: str) -> Any:
    """What `name` stands for: `attribute` of that file of `package`, or of the module with that dotted name.

    A dotted name may also end in what it means: "my_lab.objectives.mine" is `attribute` of the module mine, or mine of
    the module objectives. Modules are found as imports are, on sys.path, where the folder of the config file is too.

    Args:
        field: what the name was given as, for the message ("name").
        package: where plain names are files ("vae_jax.variants").
        attribute: what such a file defines ("make").

    Raises:
        UserError: for an unknown name, with the nearest one, for a dotted name that cannot be imported, and for the
            name of an object that this program has not been given.
    """
    if is_object(name):
        return _find_object(field, name)
    if "." in name:
        return _import_attribute(field, name, attribute)
    if name not in file_names(package):
        file_names.cache_clear()  # the file may be new
    if name not in file_names(package):
        raise unknown_name(field, name, file_names(package))
    return getattr(importlib.import_module(f"{package}.{name}"), attribute)


def is_object(name: str) -> bool:
    """Whether a name is of an object that no import finds."""
    return name.startswith(OBJECT)


def _find_object(field: str, name: str) -> Any:
    if name not in OBJECTS:
        raise UserError(
            f"{field}: {name!r} is an object that cannot be imported; in Python, vae_jax.open_run(folder, ...) takes "
            "it again: net=, variant=, likelihood= or data="
        )
    return OBJECTS[name]


def _import_attribute(field: str, name: str, attribute: str) -> Any:
    parent, _, last = name.rpartition(".")
    for module_name, member in ((name, attribute), (parent, last)):
        module = _import_module(field, name, module_name)
        if module is not None and hasattr(module, member):
            return getattr(module, member)
    raise UserError(
        f"{field}: {name!r} cannot be imported; give a module on the path, here or beside the config file that has "
        f"{attribute}, or a name in such a module"
    )


def _import_module(field: str, name: str, module_name: str) -> ModuleType | None:
    """The module called `module_name`, None where there is none. Raises UserError for what its code raises."""
    if not all(module_name.split(".")):  # "a..b", ".a"
        return None
    with users_code(field, name, "cannot be imported"):
        importlib.invalidate_caches()  # a file that was written a moment ago is there too
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            _check_is_itself(field, name, module_name, error.name or "")
            return None


def _check_is_itself(field: str, name: str, module_name: str, missing: str) -> None:
    """Raises UserError unless the missing module is the one that was asked for, or a package that it would be in."""
    if not missing or not f"{module_name}.".startswith(f"{missing}."):
        raise UserError(f"{field}: {name!r} needs the module {missing!r}, which is not installed") from None


@contextlib.contextmanager
def users_code(field: str, name: str, what: str = "fails") -> Iterator[None]:
    """Says in a line what the user's own code raises, that of a dotted `name`; what ours raises is a fault of ours.

    Args:
        field: what the name was given as, for the message ("name").
        name: of what is called.
        what: happens to it, for the message ("cannot be loaded").

    Raises:
        UserError: that of the code as it is; in place of any other, and of an exit.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if "." not in name:
            raise
        raise UserError(f"{field}: {name!r} {what} ({type(error).__name__}: {reason(error)})") from None


def keyword_fields(function: Callable) -> dict[str, Any]:
    """The keyword-only parameters of `function` with their defaults: what a config section may set."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
