"""Runs of one process that share what they compile: to trace and compile it again takes longer than they train."""

import contextlib
import dataclasses
import functools
import json
import types
from collections.abc import Iterator

import jax
import pytest

from vae_jax.config.parse import static_fields
from vae_jax.training import population, setup, train_run

UNTRACED = ("checkpoint.", "evaluation.every", "log.", "parallel.", "sweep.", "wandb.")
"""Fields of when things are due and of where they are computed, which a step does not know."""


SETUPS, PROGRAMS, KEPT = {}, {}, []
"""By the fields of their configs; by what is mapped; and what either is known by, which must not be made anew."""


def identity(value):
    """What tells a function from another: its code, and the same of what it holds; of other objects, which it is."""
    match value:
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return value.__code__, identity((value.__defaults__, value.__kwdefaults__)), identity(cells)
        case types.MethodType():
            return identity(value.__func__), identity(value.__self__)
        case functools.partial():
            return identity(value.func), identity(value.args), identity(tuple(value.keywords.items()))
        case tuple() | list():
            return tuple(map(identity, value))
        case None | bool() | int() | float() | str():
            return type(value), value
        case setup.Setup():
            fields = static_fields(value.config).items()
            return json.dumps([field for field in fields if not field[0].startswith(UNTRACED)])
        case _ if dataclasses.is_dataclass(value):
            return type(value), identity([getattr(value, field.name) for field in dataclasses.fields(value)])
    KEPT.append(value)
    return type(value), id(value)


@contextlib.contextmanager
def shared_programs() -> Iterator[None]:
    """Within it, runs whose configs differ in traced numbers alone share their setup and what is made by jax.pmap.

    Not for tests that change data beneath a config, or code that is traced.
    """
    prepare, pmap = setup.prepare, jax.pmap

    def prepare_once(config):
        fields = json.dumps(static_fields(config), sort_keys=True)
        if fields not in SETUPS:
            SETUPS[fields] = prepare(config)
        return SETUPS[fields]

    def pmap_once(function, *arguments, **named):
        name = identity((function, arguments, tuple(named.items())))
        if name not in PROGRAMS:
            PROGRAMS[name] = pmap(function, *arguments, **named)
        return PROGRAMS[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(population, "prepare", prepare_once)
        patch.setattr(train_run, "prepare", prepare_once)
        patch.setattr(jax, "pmap", pmap_once)
        yield
