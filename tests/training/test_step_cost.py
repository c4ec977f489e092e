"""The steps of every variant and network lower for accelerators, and libtpu compiles a few of them without a TPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from helpers.shared_programs import UNTRACED
from helpers.tiny_setup import NETWORKS, network_setup, variant_setup
from helpers.variant_configs import NAMES

from vae_jax.config.parse import load_config
from vae_jax.training.executors import DataParallel, MemberParallel, local_devices
from vae_jax.training.scan import AT_ONCE, IN_TURN
from vae_jax.training.setup import Setup, prepare, tree_bytes
from vae_jax.training.step_cost import lower_steps, step_cost

LIBTPU = Path(__file__).parents[2] / ".venv/libtpu"
"""Where `make .venv/libtpu` puts it."""


def lowered(setup):
    """The programs of one run on two devices, and of a population, for accelerators, as text."""
    executors = DataParallel(local_devices(2)), setup.member_executor(local_devices(1), "tpu")
    return [lower_steps(setup, executor, 2, ("cuda", "tpu")).as_text() for executor in executors]


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES)
def test_steps_of_every_variant_lower_for_accelerators(name):
    for program in lowered(variant_setup(name)):
        assert "stablehlo.while" in program


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.full) for name in NETWORKS])
def test_steps_of_every_network_lower_for_accelerators(name):
    setup = network_setup(name)
    for program in lowered(setup):
        assert "stablehlo.while" in program
        assert ("stablehlo.convolution" in program) == setup.convolves


def test_what_cannot_lower_is_seen():
    setup = variant_setup("beta")
    loss = setup.model.variant.loss

    def with_eigenvalues(nets, params, batch, *arguments, **floats):
        value, terms = loss(nets, params, batch, *arguments, **floats)
        return value, terms | {"largest": jnp.abs(jnp.linalg.eigvals(jnp.eye(3) * batch["image"].mean())).max()}

    broken = setup.model._replace(variant=setup.model.variant._replace(loss=with_eigenvalues))
    with pytest.raises(NotImplementedError, match="eig"):
        lowered(Setup(setup.config, setup.dataset, broken, setup.optimizer))


@pytest.mark.parametrize(("name", "convolves"), [("mlp", False), ("conv", True), ("resnet", True), ("grid", True)])
def test_a_setup_knows_whether_its_networks_convolve(name, convolves):
    setup = network_setup(name)
    assert setup.convolves == convolves
    assert setup.member_executor(local_devices(1)).map == IN_TURN
    assert setup.member_executor(local_devices(1), "tpu").map == (IN_TURN if convolves else AT_ONCE)


def test_many_members_take_memory_and_operations_of_their_own():
    setup = variant_setup("beta")
    executor = MemberParallel(local_devices(1), map=AT_ONCE)
    one, four = (step_cost(lower_steps(setup, executor, count)) for count in (1, 4))
    assert four.operations == pytest.approx(4 * one.operations, rel=0.1)
    assert four.memory - one.memory >= 3 * tree_bytes(setup.state_shape)
    assert 0 < one.temporary < one.memory


COMPILE = """
import json

from helpers.tiny_setup import network_setup, variant_setup
from vae_jax.sweeps.chips import CHIPS, compile_devices
from vae_jax.training.executors import DataParallel
from vae_jax.training.step_cost import lower_steps, step_cost

chip = CHIPS["tpu:v5e"]
devices = compile_devices(chip)
costs = {}
mlp, conv, of_flax = variant_setup("beta"), network_setup("conv"), network_setup("helpers.flax_convolutions.make")
for name, (setup, executor) in {
    "members at once": (mlp, mlp.member_executor(devices[:1])),
    "members in turn": (conv, conv.member_executor(devices[:1])),
    "batches split over chips": (conv, DataParallel(devices)),
    "one run": (conv, DataParallel(devices[:1])),
    "one run with flax's convolutions": (of_flax, DataParallel(devices[:1])),
}.items():
    cost = step_cost(lower_steps(setup, executor, 4))
    costs[name] = {"memory": cost.memory, "bytes": cost.bytes, "most": chip.memory}
print(json.dumps(costs))
"""
"""Compiles populations of four members for one chip of a v5e, and a run for four chips."""


@pytest.mark.full
@pytest.mark.skipif(not LIBTPU.is_dir(), reason="libtpu, which compiles for TPUs, is not there: make .venv/libtpu")
def test_libtpu_compiles_steps_and_populations_that_fit_a_chip():
    root = LIBTPU.parents[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XLA", "JAX"))}
    path = os.pathsep.join(map(str, [root, root / "tests", LIBTPU]))
    run = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=environment | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    costs = json.loads(run.stdout.splitlines()[-1])
    assert len(costs) == 5
    assert costs["one run"]["bytes"] <= 1.2 * costs["one run with flax's convolutions"]["bytes"]
    for cost in costs.values():
        assert 0 < cost["memory"] < cost["most"]
        assert cost["bytes"] > 0


def test_a_step_reads_no_field_of_when_things_are_due_and_where_they_are_computed():
    """On which helpers.shared_programs rests."""
    changes = {
        "checkpoint.every": 7,
        "checkpoint.keep": 5,
        "evaluation.every": 9,
        "log.every": 11,
        "log.pictures": False,
        "parallel.images": "device",
        "parallel.mode": "members",
        "sweep.halving": (1, 2),
        "sweep.members_per_device": 2,
    }
    assert all(field.startswith(UNTRACED) for field in changes)
    small = {"net.hidden": "(4,)", "latent_dim": 2, "train.dispatch": 2}

    def program(**fields):
        setup = prepare(load_config("digits", **small, **fields))
        return lower_steps(setup, setup.member_executor(local_devices(1))).as_text()

    plain = program()
    assert program(**changes) == plain
    assert program(**{"train.batch_size": 16}) != plain
