"""Many steps of one member in one program, and what a member of a population adds to it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.typing import AXIS

MakeStep = Callable[[Any], Callable]
"""make_step(split) -> the step of step.py on that split."""


def scan_programs(make_step: MakeStep, steps_per_call: int) -> tuple[Callable, Callable]:
    """Many steps of one member: a scan of all rows of indices, and a loop of the first so many of them.

    Only these two are ever compiled; the loop costs a GPU a synchronisation a step, so it is for the rest.
    """

    def scan(split, state, indices, key, hyper):
        step = make_step(split)
        return jax.lax.scan(lambda state, shard: step(state, shard, key, hyper), state, indices)

    def loop(split, state, indices, key, hyper, steps):
        step = make_step(split)

        def body(i, carry):
            state, written = carry
            state, metrics = step(state, indices[i], key, hyper)
            return state, jax.tree.map(lambda rows, row: rows.at[i].set(row), written, metrics)

        shapes = jax.eval_shape(step, state, indices[0], key, hyper)[1]
        empty = jax.tree.map(lambda row: jnp.zeros((steps_per_call, *row.shape), row.dtype), shapes)
        return jax.lax.fori_loop(0, steps, body, (state, empty))

    return scan, loop


def with_singleton_axis(step: Callable) -> Callable:
    """The step of a member that has its whole batch: the axis it averages over has size one.

    Nothing is mapped over it, or all arrays would gain an axis and XLA's CPU compiler take other, slower layouts. So a
    step asks `collectives.batch_positions` where its examples lie, never `axis_index`.
    """
    return jax.vmap(step, in_axes=None, out_axes=None, axis_name=AXIS, axis_size=1)


def select(predicate: Any, run: Callable, keep: Callable, operand: Any) -> Any:
    """`jax.lax.cond` with both branches computed: mapped over predicates, that would copy all that a branch reads."""
    return jax.tree.map(partial(jnp.where, predicate), run(operand), keep(operand))


def while_alive(program: Callable, cond: Callable = jax.lax.cond) -> Callable:
    """`program` of one member with `alive` after its numbers: a member that is not keeps its state.

    `cond` is jax.lax.cond, by which that is no work, or `select`.
    """

    def call(split, state, indices, key, hyper, alive, *steps):
        def run(state):
            return program(split, state, indices, key, hyper, *steps)

        metrics = jax.tree.map(lambda row: jnp.zeros(row.shape, row.dtype), jax.eval_shape(run, state)[1])
        return cond(alive, run, lambda state: (state, metrics), state)

    return call


def map_members(function: Callable) -> Callable:
    """`function` of each member, one after another."""
    return lambda *arguments: jax.lax.map(lambda member: function(*member), arguments)


class MemberMap(NamedTuple):
    """How a device goes through its members.

    Attributes:
        lift: function of one member -> function of all.
        cond: leaves out the members that are not alive, as jax.lax.cond does.
    """

    lift: Callable[[Callable], Callable]
    cond: Callable


IN_TURN, AT_ONCE = MemberMap(map_members, jax.lax.cond), MemberMap(jax.vmap, select)


def member_map(platform: str, convolves: bool) -> MemberMap:
    """How a device of `platform` goes through members, whose networks have convolutions or not.

    An accelerator needs the work of many small networks at once. A CPU's core is full with one, whose weights stay in
    its cache through a call: one by one on each of two cores is 1.3 times as fast as vmap there (docs/benchmarks.md).
    One batch through a convolution is work enough for an accelerator, and convolutions of many networks at once are
    grouped ones, to which a v5e's compiler gives more bytes, operations and memory (docs/accelerators.md).
    """
    return IN_TURN if convolves or platform == "cpu" else AT_ONCE
