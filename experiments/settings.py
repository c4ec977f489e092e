"""The command line to a checked config: what is allowed, and one line for what is not."""

import functools
import importlib.util
import inspect
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import default
from vae_jax import data, model, registry
from vae_jax.registry import UserError

DEFAULT = "configs/digits.py"


class Rule(NamedTuple):
    """What a number may be, in code and in words."""

    holds: Callable[[Any], bool]
    words: str


AT_LEAST_0 = Rule(lambda v: v >= 0, "a whole number of at least 0")
AT_LEAST_1 = Rule(lambda v: v >= 1, "a whole number of at least 1")
POSITIVE = Rule(lambda v: v > 0 and math.isfinite(v), "a positive number")
NOT_NEGATIVE = Rule(lambda v: v >= 0 and math.isfinite(v), "a number of at least 0")
FRACTION = Rule(lambda v: 0 <= v < 1, "a number from 0 to below 1")

RULES = {
    "seed": Rule(lambda v: 0 <= v < 2**32, "a whole number from 0 to 2^32 - 1"),
    "latent_dim": AT_LEAST_1,
    "train.steps": AT_LEAST_1,
    "train.batch_size": AT_LEAST_1,
    "train.learning_rate": POSITIVE,
    "train.warmup_steps": AT_LEAST_0,
    "train.clip": NOT_NEGATIVE,
    "train.ema": FRACTION,
    "train.dispatch": AT_LEAST_1,
    "log.every": AT_LEAST_1,
    "evaluation.every": AT_LEAST_1,
    "evaluation.batch_size": AT_LEAST_1,
    "checkpoint.every": AT_LEAST_1,
    "checkpoint.keep": AT_LEAST_1,
    "parallel.devices": AT_LEAST_0,
    "parallel.heartbeat": AT_LEAST_1,
    "sweep.members_per_device": AT_LEAST_0,
    "sweep.halving": Rule(
        lambda v: all(type(s) is int and s > 0 for s in v) and list(v) == sorted(set(v)),
        "steps that rise, as in (500, 2000)",
    ),
}
CHOICES = {
    "wandb.mode": ("disabled", "offline", "online"),
    "parallel.mode": ("auto", "data", "members"),
    "data.binarize": tuple(data.BINARIZE),
}
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a tuple, as in (512, 256)",
}


class Arguments:
    """Splits argv into the program's own flags and the overrides of the config."""

    def __init__(self, known: Sequence[str], switches: Sequence[str] = ()):
        self.known, self.switches = (*known, *switches), switches

    def parse(self, argv: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """(the program's flags, the overrides as (field, value) in order). Raises UserError for an unknown flag."""
        own, overrides, rest = {}, [], list(argv)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.lstrip("-").partition("=")
            field = name.removeprefix("config.")
            if not word.startswith("--") or (name not in self.known and field == name):
                raise registry.unknown(word.partition("=")[0], name, [*self.known, "config.<field>"])
            if not equals and rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            elif not equals and (field != name or name in self.switches):
                value = "true"  # as absl reads a flag of a boolean field
            if not value and field == name:
                raise UserError(f"--{name}: has no value; give one, as in --{name}=VALUE")
            if field == name:
                own[name] = value
            else:
                overrides.append((field, value))
        return own, overrides


def parse(
    argv: Sequence[str], known: Sequence[str] = ("config", "workdir"), switches: Sequence[str] = ()
) -> tuple[ConfigDict, dict[str, str]]:
    """(config, other flags) of a command line. Raises UserError naming the field that is wrong.

    --config=FILE[:ARGUMENT] names a Python file with get_config([argument]); --config.a.b=value sets
    a field of it. Names come first: --config.variant.name=x brings x's own fields.
    """
    own, overrides = Arguments(known, switches).parse(argv)
    config = load(own.get("config", DEFAULT))
    override(config, overrides)
    check(config)
    return config, own


def override(config: ConfigDict, overrides: Sequence[tuple[str, str]]) -> None:
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


def load(argument: str) -> ConfigDict:
    """The config of FILE[:ARGUMENT]. Raises UserError where there is no such file or get_config."""
    file, _, variant = argument.partition(":")

    def call(get_config):
        if variant and not inspect.signature(get_config).parameters:
            raise UserError(f"--config: {file!r} takes no argument, and {variant!r} was given")
        return get_config(variant) if variant else get_config()

    return _from_file(file, "get_config", call)


def load_sweep(argument: str) -> list[dict[str, Any]]:
    """The points of sweep() in FILE[:ARGUMENT]. Raises UserError where there is no such file or sweep."""
    return _from_file(argument.partition(":")[0], "sweep", lambda sweep: sweep())


def _from_file(file: str, name: str, call: Callable) -> Any:
    """What `call` makes of the function `name` in the user's `file`."""
    path = Path(file)
    if not path.is_file():
        near = [str(found) for found in path.parent.glob("*.py") if found.name != "__init__.py"]
        raise registry.unknown("--config", file, near) if near else UserError(f"--config: {file!r} is not a file")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, name):
            raise UserError(f"--config: {file!r} has no {name}()")
        return call(getattr(module, name))
    except UserError:
        raise
    except Exception as error:  # it is the user's code: what it raises is said in a line
        place = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (place[-1] if place else "?")
        raise UserError(f"--config: {file}:{line}: {type(error).__name__}: {error}") from None


def _override(config: ConfigDict, field: str, value: str) -> None:
    *parents, leaf = field.split(".")
    node, path = config, "config"
    for name in (*parents, leaf):
        if not isinstance(node, ConfigDict):
            raise UserError(f"{path}: {node!r} is a value and has no field {name!r}")
        if name not in node:
            raise registry.unknown(f"{path}.{name}", name, node.keys())
        parent, node, path = node, node[name], f"{path}.{name}"
    if isinstance(node, ConfigDict):
        raise registry.unknown(path, value, [f"{path}.{name}" for name in node])
    try:
        parent[leaf] = _read(type(node), value)
    except (flags.Error, ValueError, TypeError, SyntaxError):
        raise UserError(f"{path}: {value!r} is not allowed; give {KINDS[type(node)]}") from None


@functools.lru_cache(maxsize=4096)
def _read(kind: type, text: str) -> Any:
    """`text` as a flag of a field of type `kind` reads it; a sweep gives the same few thousands of times."""
    holder, values = ConfigDict({"field": kind()}), flags.FlagValues()
    words = [sys.argv[0], f"--config.field={text}"]
    config_flags.DEFINE_config_dict("config", holder, flag_values=values, lock_config=False, sys_argv=words)
    values(words)
    return holder.field


def leaves(tree: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Every value of the tree by its dotted name."""
    found = {}
    for name, value in tree.items():
        inside = isinstance(value, ConfigDict)
        found.update(leaves(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value})
    return found


def expected(config: ConfigDict) -> ConfigDict:
    """The whole tree with every default, for the names that `config` chooses."""
    tree = default.get_config()
    for kind, name in _names(config):
        tree[kind] = default.section(kind, name)
    return tree


def _names(config: ConfigDict) -> tuple[tuple[str, str], ...]:
    return tuple((kind, config[kind].name) for kind in model.SECTIONS if kind in config and "name" in config[kind])


@functools.lru_cache(maxsize=256)
def _known(names: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Every field with its default, where sections have these names."""
    return leaves(expected(ConfigDict({kind: {"name": name} for kind, name in names})))


UNREAD = ("wandb.",)
"""Fields that no compiled program reads."""


def static(config: ConfigDict) -> dict[str, Any]:
    """The fields that decide the compiled program: runs that share them can train as one population."""
    traced = _traced(config.variant.name)
    return {f: value for f, value in leaves(config).items() if f not in traced and not f.startswith(UNREAD)}


@functools.lru_cache(maxsize=256)
def _traced(variant: str) -> frozenset[str]:
    return frozenset(model.traced({"variant": {"name": variant}}))


def check(config: ConfigDict) -> None:
    """Raises UserError for a field that is unknown, missing, of the wrong type or out of range."""
    known, given = _known(_names(config)), leaves(config)
    for field, value in given.items():
        if field not in known:
            parent = field.rpartition(".")[0]
            raise registry.unknown(
                f"config.{field}",
                field.rpartition(".")[2],
                [n.rpartition(".")[2] for n in known if n.rpartition(".")[0] == parent],
            )
        kind = type(known[field])
        if not (type(value) is kind or (kind is float and type(value) is int)):
            raise UserError(f"config.{field}: {value!r} is not allowed; give {KINDS[kind]}")
    for field in known:
        if field not in given:
            raise UserError(f"config.{field}: missing; the default is {known[field]!r}")
    for field, rule in RULES.items():
        if not rule.holds(given[field]):
            raise UserError(f"config.{field}: {given[field]!r} is not allowed; give {rule.words}")
    for field, allowed in CHOICES.items():
        if given[field] not in allowed:
            raise registry.unknown(f"config.{field}", given[field], allowed)
    for name, value in config.variant.items():
        if type(value) in (int, float) and not NOT_NEGATIVE.holds(value):
            raise UserError(f"config.variant.{name}: {value!r} is not allowed; give {NOT_NEGATIVE.words}")


def other_conventions(config: ConfigDict, image_shape: tuple[int, int, int]) -> str:
    """How this run's beta (nats per image) reads in the two other conventions in use."""
    pixels, beta = math.prod(image_shape), config.variant.beta
    return (
        f"beta {beta:g} weighs nats per image; the same loss as a mean over pixels has beta {beta / pixels:.3g}; "
        f"normalised by latents/pixels (Higgins et al. 2017) it is {beta * config.latent_dim / pixels:.3g}"
    )


def start(main: Callable[[list[str]], int], manual: str) -> NoReturn:
    """Runs a program and leaves with its status; a UserError is one line and status 2."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(manual.strip())
        sys.exit(0)
    use_compilation_cache()
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def interpreter() -> str:
    """This Python as a person here would type it."""
    inside = Path(sys.executable).is_relative_to(Path.cwd())
    return str(Path(sys.executable).relative_to(Path.cwd())) if inside else "python"


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, in JAX_COMPILATION_CACHE_DIR or the user's cache folder."""
    import jax

    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(home / "vae_jax" / "xla"))
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
