"""Objectives, networks, likelihoods and data that a program hands over as objects: the names that a config has.

What an import finds is recorded by its dotted name. What none finds, a function of a notebook or two linen modules, is
registered in this program under a made-up name, "object.make_0f3a91c2", and never pickled: to open its run elsewhere it
is given again. The digits are of its source, so that the same cell run twice gives the same name, and an edited one
another.
"""

import contextlib
import hashlib
import importlib.util
import inspect
import re
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from vae_jax import data, registry
from vae_jax.config.parse import MODULE_FOLDERS
from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.model import SHARED
from vae_jax.models import networks
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.networks import Nets
from vae_jax.registry import OBJECT, OBJECTS, is_object
from vae_jax.variants import Variant


class Kind(NamedTuple):
    """What a section of a config may be made by.

    Attributes:
        package: where plain names are files.
        attribute: what such a file defines.
        made: what that gives.
        expected: what a person may give, in words.
    """

    package: str
    attribute: str
    made: type
    expected: str


KINDS = {
    "net": Kind("vae_jax.models.networks", "make", Nets, "a name, a make(image_shape, latent_dim, channels, shared), a "
                "Nets, or a pair of linen modules"),
    "variant": Kind("vae_jax.variants", "make", Variant, "a name, a make(likelihood), its module, or a Variant"),
    "likelihood": Kind("vae_jax.models.likelihoods", "make", Likelihood, "a name, a make(), its module, or a "
                       "Likelihood"),
    "data": Kind("vae_jax.data", "load", Dataset, "an array, a Dataset, a load(), its module, or a config"),
}  # fmt: skip
"""By the section of the config."""


def name_of(section: str, value: Any) -> str:
    """The name that a config has for `value`, which this program finds by it from now on.

    Args:
        section: net, variant, likelihood or data; any other has names alone.
        value: a name, which is returned as it is; a function or a module of the section's kind; what such a function
            makes; for net also a pair of linen modules, the encoder and the decoder.

    Raises:
        UserError: for anything else.
    """
    if isinstance(value, str) or section not in KINDS:
        return str(value)
    kind = KINDS[section]
    imported = _import_name(kind, value)
    if imported:
        return imported
    make = _maker(section, value)
    label = re.sub(r"\W", "_", getattr(value, "__name__", section))
    name = f"{OBJECT}{label}_{_digest(value, make)}"
    OBJECTS[name] = make
    return name


def supply(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Registers the objects that a run's config names, as they are given by section; None for those that are not.

    Data that are not given are missed only where they are read.

    Raises UserError for an object of a section whose name an import finds.
    """
    for section in KINDS:
        value, recorded = given.get(section), config.get(section)
        name = str(recorded.get("name", "")) if isinstance(recorded, Mapping) else ""
        if value is not None:
            _supply_one(section, name, value)
        elif section == "data" and isinstance(recorded, Mapping) and is_object(name):
            OBJECTS.setdefault(name, _absent_loader(name, recorded))


def _supply_one(section: str, name: str, value: Any) -> None:
    if not is_object(name):
        raise UserError(f"{section}: this run's is {name!r}, which needs no object; leave it out")
    if isinstance(value, str):
        value = registry.find(section, value, KINDS[section].package, KINDS[section].attribute)
    OBJECTS[name] = _maker(section, value)


def _absent_loader(name: str, section: Mapping[str, Any]) -> Callable[..., NoReturn]:
    """Has the fields of the loader that is not there, and raises UserError when it is called."""

    def load(**fields: Any) -> NoReturn:
        raise UserError(f"name: {name!r} is an object that is not here; give it to vae_jax.open_run(folder, data=...)")

    fields = {field: value for field, value in section.items() if field not in ("name", *SHARED)}
    parameters = [inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=fields[field]) for field in fields]
    load.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return load


def _import_name(kind: Kind, value: Any) -> str:
    """The name by which any Python finds a module or a function; empty where none does."""
    if isinstance(value, ModuleType):
        module, attribute = value.__name__, kind.attribute
        if not hasattr(value, attribute):
            raise UserError(f"{module}: is a module without {attribute}; give one that has it, as ours do")
        name = module
    else:
        module, attribute = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", "")
        name = f"{module}.{attribute}"
    found = sys.modules.get(module)
    if isinstance(value, type) or not attribute.isidentifier() or not _has_file(module):
        return ""
    if not isinstance(value, ModuleType) and getattr(found, attribute, None) is not value:
        return ""
    short = module.removeprefix(f"{kind.package}.")
    if attribute == kind.attribute and short in registry.file_names(kind.package):
        return short
    _record_folder(module)
    return name


def _has_file(module: str) -> bool:
    """Whether any Python with this one's path imports the module from a file."""
    if module in ("", "__main__"):
        return False
    with contextlib.suppress(ImportError, ValueError):  # of a module that was made by hand
        spec = importlib.util.find_spec(module)
        return spec is not None and spec.has_location
    return False


def _record_folder(module: str) -> None:
    """Lets the command line find the module too: its folder is in the environment.json of runs from now on."""
    file = Path(str(sys.modules[module].__file__)).resolve()
    depth = module.count(".") + (file.name == "__init__.py")
    folder = str(file.parents[depth])
    if folder not in MODULE_FOLDERS and folder not in sysconfig.get_paths().values():
        MODULE_FOLDERS.append(folder)


def _maker(section: str, value: Any) -> Callable[..., Any]:
    """The function of a config's section that stands for `value`."""
    kind = KINDS[section]
    if isinstance(value, ModuleType):
        value = getattr(value, kind.attribute)
    if isinstance(value, kind.made):
        made = data.check_dataset(value) if section == "data" else value
        return lambda *_: made
    if section == "net" and isinstance(value, (tuple, list)) and len(value) == 2:
        encoder, decoder = value
        return lambda *numbers: networks.from_linen(encoder, decoder, *numbers)
    if callable(value) and not isinstance(value, type):
        return value
    raise UserError(f"{section}: {type(value).__name__} is not allowed; give {kind.expected}")


def _digest(value: Any, make: Callable[..., Any]) -> str:
    """Eight hexadecimal digits of what an object is, as far as its source, its fields and its data tell."""
    if isinstance(value, Dataset):
        return data.fingerprint(data.check_dataset(value))[:8]
    text = f"{_text_of(value)} {registry.keyword_fields(make)}"
    return hashlib.sha256(_without_addresses(text).encode()).hexdigest()[:8]


def _text_of(value: Any) -> str:
    """The source of functions, and of the classes of objects with what these hold."""
    if isinstance(value, (tuple, list)):
        return "\n".join(map(_text_of, value))
    source = value if inspect.isroutine(value) or inspect.ismodule(value) else type(value)
    try:
        text = inspect.getsource(source)
    except (OSError, TypeError):  # typed into an interpreter that keeps no source, or built in
        code = getattr(value, "__code__", None)
        text = "" if code is None else f"{code.co_code.hex()} {code.co_consts} {code.co_names}"
    return f"{text} {value!r}"


def _without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "", text)
