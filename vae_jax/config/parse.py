"""The command line to a checked config: what is allowed, and one line for what is not."""

import ast
import functools
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from vae_jax import model
from vae_jax.config import defaults
from vae_jax.config.command_line import Overrides, split_overrides
from vae_jax.config.earlier import EARLIER
from vae_jax.config.rules import CHOICES, ITEM_KINDS, ITEMS, KINDS, NOT_NEGATIVE, RULES
from vae_jax.errors import UserError, errors_of, unknown_name
from vae_jax.files import read_json, reason, user_path
from vae_jax.phrases import printable, whole_number

FLOAT32_MAX = 3.4028234663852886e38

DEFAULT = "digits"
"""The config that is meant where none is named."""


def parse_config(words: Sequence[str]) -> ConfigDict:
    """The checked config of a command line. Raises UserError naming the field that is wrong.

    --config=NAME|FILE.py[:ARGUMENT] names a packaged config, or a Python file with get_config([argument]);
    --config.a.b=value sets a field of it. Names come first: --config.variant.name=x brings x's own fields.
    """
    overrides, others = split_overrides(words)
    for word in others:
        if not word.startswith("--config="):
            raise unknown_name(word.partition("=")[0], word, ["config", "config.<field>"])
    file = others[-1].removeprefix("--config=") if others else DEFAULT
    return checked_config(file, overrides)


def checked_config(file: str, overrides: Overrides) -> ConfigDict:
    """The config of NAME|FILE.py[:ARGUMENT] with these fields set. Raises UserError naming what is wrong."""
    config = read_config(file)
    apply_overrides(config, overrides)
    check_config(config)
    return config


def load_config(name_or_path: str = DEFAULT, **fields: Any) -> ConfigDict:
    """The config of NAME|FILE.py[:ARGUMENT] with `fields` set, checked.

    Args:
        name_or_path: a packaged config ("digits", "digits:factor") or a file ("my/file.py") with get_config().
        fields: values by dotted name, as in `load_config("digits", seed=1, **{"variant.beta": 4})`.

    Raises:
        UserError: naming the field, the file or the name that is wrong.
    """
    return checked_config(name_or_path, [(field, str(value)) for field, value in fields.items()])


def apply_overrides(config: ConfigDict, overrides: Overrides) -> None:
    """Sets fields of `config` to what these texts are of their types. Raises UserError naming the one that is wrong."""
    for field, value in overrides:
        kind, _, leaf = field.rpartition(".")
        if leaf == "name" and kind in model.SECTIONS and value != config[kind].name:
            config[kind] = ConfigDict(_defaults(kind, value))
    for field, value in overrides:
        _override(config, field, value)


@functools.lru_cache(maxsize=256)
def _defaults(kind: str, name: str) -> dict[str, Any]:
    return model.defaults(kind, name)


def read_config(argument: str) -> ConfigDict:
    """What NAME|FILE.py[:ARGUMENT] gives, not checked. Raises UserError where there is no such file or get_config."""
    file, _, variant = argument.partition(":")
    no_argument = UserError(f"--config: {file!r} takes no argument, and {variant!r} was given")
    if file.endswith(".json"):
        if variant:
            raise no_argument
        return _recorded_config(config_file(file))

    def call(get_config: Callable) -> ConfigDict:
        if variant and not inspect.signature(get_config).parameters:
            raise no_argument
        return _checked_tree(file, get_config(variant) if variant else get_config())

    return _from_file(file, "get_config", call)


def _checked_tree(file: str, config: Any) -> ConfigDict:
    """What get_config() gave, as a tree that can be changed. Raises UserError where it is none, or lacks a section."""
    if not isinstance(config, (ConfigDict, dict)):
        raise UserError(f"--config: get_config() of {file!r} gives {type(config).__name__}; return a ConfigDict")
    config = ConfigDict(config)
    for kind in model.SECTIONS:
        if kind not in config:
            raise UserError(f"config.{kind}: missing; let the config start from vae_jax.config.defaults.get_config()")
        if not isinstance(config[kind], ConfigDict) or not isinstance(config[kind].get("name"), str):
            raise UserError(f"config.{kind}: {_plain(config[kind])!r} is not allowed; give a section with a name")
    return config


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ConfigDict) else value


def _recorded_config(file: Path) -> ConfigDict:
    """The config of a run's config.json, as it was before JSON made lists of its tuples: to train the same again."""
    tree = read_json(file).get("config")
    if not isinstance(tree, dict):
        raise UserError(f"--config: {str(file)!r} is not a run's config.json; give a .py file with get_config()")
    add_module_folders(file.parent)
    try:
        return _completed(_checked_tree(str(file), tuples(tree)))
    except RecursionError:
        raise UserError(f"--config: {str(file)!r} is damaged (its values are nested too deep)") from None


def _completed(config: ConfigDict) -> ConfigDict:
    """The config of a run of any version, with what it did where there was no field yet."""
    known = _known(_names(config))
    for field, value in (known | {name: value for name, value in EARLIER.items() if name in known}).items():
        section, _, leaf = field.rpartition(".")
        node = config[section] if section else config
        if leaf not in node:
            node[leaf] = value
    return config


def tuples(tree: Any) -> Any:
    """A tree as it was before JSON made lists of its tuples."""
    if isinstance(tree, dict):
        return {name: tuples(value) for name, value in tree.items()}
    return tuple(map(tuples, tree)) if isinstance(tree, list) else tree


def add_module_folders(run: Path) -> None:
    """Lets the user's own modules be imported that the config of the run in a folder names."""
    folders = read_json(run / "environment.json").get("module_folders")
    for module_folder in folders if isinstance(folders, list) else ():
        add_module_folder(Path(str(module_folder)))


def load_sweep(argument: str, name: str = "sweep") -> Any:
    """What sweep() or search() in NAME|FILE.py[:ARGUMENT] gives. Raises UserError where there is no such file or it."""
    return _from_file(argument.partition(":")[0], name, lambda function: function())


def run_name(argument: str) -> str:
    """What a run of NAME|FILE.py[:ARGUMENT] is called where nobody names it."""
    file, _, variant = argument.partition(":")
    path = Path(file)
    stem = f"{path.absolute().parent.name}_again" if path.suffix == ".json" else path.stem
    return stem + (f"_{variant}" if variant else "")


def config_file(name: str) -> Path:
    """The file of a packaged config or of a path. Raises UserError with the nearest where there is neither."""
    packaged = Path(str(resources.files("vae_jax.configs")))
    files = [path.relative_to(packaged) for path in packaged.rglob("*.py") if path.name != "__init__.py"]
    names = sorted(file.with_suffix("").as_posix() for file in files)  # papers/burda_2016 among them
    if name in names:
        return packaged / f"{name}.py"
    with errors_of("--config: "):
        path = user_path(name)
    if path.is_file():
        return path
    if path.suffix != ".py" and path.parent == Path():
        raise unknown_name("--config", name, names)
    near = [str(found) for found in path.parent.glob("*.py") if found.name != "__init__.py"]
    raise unknown_name("--config", name, near) if near else UserError(f"--config: {name!r} is not a file")


def add_module_folder(folder: Path) -> None:
    """Lets modules in `folder` be imported, after all others: names in a config may be the user's own."""
    if (name := str(folder.resolve())) not in sys.path:
        sys.path.append(name)
    if name not in MODULE_FOLDERS:
        MODULE_FOLDERS.append(name)


MODULE_FOLDERS: list[str] = []
"""The folders of config files, and that in which the program runs, where the user's own modules are."""


def _from_file(file: str, name: str, call: Callable) -> Any:
    """What `call` makes of the function `name` in the user's `file`, beside which its modules are found."""
    path = config_file(file)
    if path.suffix != ".py":
        raise UserError(f"--config: {file!r} is not allowed; give a .py file that has {name}()")
    for folder in (path.parent, Path()):  # a console script does not have the latter on the path
        add_module_folder(folder)
    try:
        module = _execute(path)
        if not hasattr(module, name):
            raise UserError(f"--config: {file!r} has no {name}()")
        return call(getattr(module, name))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"--config: {error.filename or file}: cannot be read ({reason(error)})") from None
    except (Exception, SystemExit) as error:  # it is the user's code: what it raises is said in a line
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else "?")
        raise UserError(f"--config: {file}:{line}: {type(error).__name__}: {error}") from None


def _execute(path: Path) -> ModuleType:
    """The module in a file, compiled anew: what Python keeps of one goes by seconds, and fills folders of a study."""
    module = ModuleType(f"config_{path.stem}")
    module.__file__ = str(path)
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def _override(config: ConfigDict, field: str, value: str) -> None:
    *parents, leaf = field.split(".")
    node, path = config, "config"
    for name in (*parents, leaf):
        if not isinstance(node, ConfigDict):
            raise UserError(f"{path}: {node!r} is a value and has no field {name!r}")
        if name not in node:
            raise unknown_name(f"{path}.{printable(name)}", name, node.keys())
        parent, node, path = node, node[name], f"{path}.{name}"
    if isinstance(node, ConfigDict):
        raise unknown_name(path, value, [f"{path}.{name}" for name in node])
    try:
        kind: Any = type(node)
        parent[leaf] = _read_tuple(value, _item_kind(field, node)) if kind is tuple else _read_text(kind, value)
    except (flags.Error, ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise UserError(f"{path}: {value!r} is not allowed; give {KINDS[type(node)]}") from None


@functools.lru_cache(maxsize=4096)
def _read_text(kind: Any, text: str) -> Any:
    """`text` as a flag of a field of type `kind` reads it; a sweep gives the same few thousands of times.

    1e4 is a whole number too.
    """
    if kind is int:
        return whole_number(text)
    holder, values = ConfigDict({"field": kind()}), flags.FlagValues()
    words = [sys.argv[0], f"--config.field={text}"]
    config_flags.DEFINE_config_dict("config", holder, flag_values=values, lock_config=False, sys_argv=words)
    values(words)
    return holder.field


def _item_kind(field: str, default: tuple) -> type | None:
    """Of what the items of a tuple are; None where it may be anything."""
    return type(default[0]) if default else ITEM_KINDS.get(field)


@functools.lru_cache(maxsize=4096)
def _read_tuple(text: str, kind: type | None) -> tuple[Any, ...]:
    """`text` as a tuple of items of `kind`: "(8, 4)", and also with nothing but commas between: "8,4", "a,b".

    Of texts are the items as they are typed, and 2024 is one too.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if text.lstrip().startswith(("(", "[")):
            raise
        return tuple(words) if kind is str else tuple(_as_kind(_read_item(word), kind) for word in words)
    items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if kind is str and not text.lstrip().startswith(("(", "[")) and not all(isinstance(item, str) for item in items):
        return tuple(words)
    return tuple(_as_kind(item, kind) for item in items)


def _as_kind(item: Any, kind: type | None) -> Any:
    """The item, as a whole number where items are such and it is one: 1e4."""
    return int(item) if kind is int and isinstance(item, float) and item.is_integer() else item


def _read_item(word: str) -> Any:
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


def flatten(tree: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Every value of the tree by its dotted name."""
    found = {}
    for name, value in tree.items():
        inside = isinstance(value, ConfigDict)
        found.update(flatten(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value})
    return found


def full_tree(config: ConfigDict) -> ConfigDict:
    """The whole tree with every default, for the names that `config` chooses."""
    tree = defaults.get_config()
    for kind, name in _names(config):
        tree[kind] = defaults.section(kind, name)
    return tree


def _names(config: ConfigDict) -> tuple[tuple[str, str], ...]:
    return tuple((kind, config[kind].name) for kind in model.SECTIONS if kind in config and "name" in config[kind])


@functools.lru_cache(maxsize=256)
def _known(names: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Every field with its default, where sections have these names."""
    return flatten(full_tree(ConfigDict({kind: {"name": name} for kind, name in names})))


def default_values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every field with its default, by dotted name, where sections have the names that a config's have."""
    return _known(tuple((kind, config[kind]["name"]) for kind in model.SECTIONS))


UNREAD = ("wandb.",)
"""Fields that no compiled program reads."""


def static_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields that decide the compiled program: runs that share them can train as one population."""
    traced = _traced(config.variant.name)
    return {f: value for f, value in flatten(config).items() if f not in traced and not f.startswith(UNREAD)}


@functools.lru_cache(maxsize=256)
def _traced(variant: str) -> frozenset[str]:
    return frozenset(model.traced_fields({"variant": {"name": variant}}))


def _same_items(values: tuple, default: tuple) -> bool:
    """Whether the values are of the kind of those in the default, where that has some and they are of one kind."""
    kinds = {type(item) for item in default}
    if len(kinds) != 1:
        return True
    allowed = kinds | ({int} if float in kinds else set())
    return all(type(value) in allowed for value in values)


def check_config(config: ConfigDict) -> None:
    """Raises UserError for a field that is unknown, missing, of the wrong type or out of range."""
    known, given = _known(_names(config)), flatten(config)
    for field in given:
        if field not in known:
            parent, _, leaf = field.rpartition(".")
            names = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
            raise unknown_name(f"config.{field}", leaf, names)
    for field in known:
        if field not in given:
            raise UserError(f"config.{field}: missing; the default is {known[field]!r}")
    check_values(config)


def check_values(config: ConfigDict) -> None:
    """Raises UserError for a field of the wrong type or out of range; one that is missing or unknown is let be."""
    known, given = _known(_names(config)), flatten(config)
    for field, value in given.items():
        if field in known:
            _check_type(f"config.{field}", value, known[field])
    for field, rule in RULES.items():
        if field in given and not rule.holds(given[field]):
            raise UserError(f"config.{field}: {given[field]!r} is not allowed; give {rule.words}")
    for field, allowed in CHOICES.items():
        if field in given and given[field] not in allowed:
            raise unknown_name(f"config.{field}", given[field], allowed)
    for name, value in config.variant.items():
        if type(value) in (int, float) and not NOT_NEGATIVE.holds(value):
            raise UserError(f"config.variant.{name}: {value!r} is not allowed; give {NOT_NEGATIVE.words}")


def _check_type(field: str, value: Any, default: Any) -> None:
    """Raises UserError unless a value is of the type of its default, and one that a program can hold."""
    kind, words = type(default), ""
    if not (type(value) is kind or (kind is float and type(value) is int)):
        words = KINDS[kind]
    elif kind is tuple and not _same_items(value, default):
        words = f"a tuple of {ITEMS[type(default[0])]}, as in {default!r}"
    elif kind is tuple and any(isinstance(item, str) and printable(item) != item for item in value):
        words = "words without control characters"
    elif kind is str and printable(value) != value:
        words = "text without control characters"
    elif kind is float and abs(value) > FLOAT32_MAX and math.isfinite(value):
        words = "a number that float32 holds"
    elif kind is int and abs(value) >= 2**32:
        words = "a whole number below 2^32"
    if words:
        raise UserError(f"{field}: {value!r} is not allowed; give {words}")
