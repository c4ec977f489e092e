import sys

import jax
import pytest

from experiments.benchmark import compiled, pytorch
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.training.setup import prepare

ENDS_IN_THE_SECOND_ROUND = """
import sys
print(128, flush=True)
sys.stdin.readline()
print("done", flush=True)
sys.stdin.readline()
sys.exit("no memory is left")
"""


def test_a_process_makes_rounds_on_demand_and_its_end_is_told():
    with pytorch.torch_workload([sys.executable, "-c", ENDS_IN_THE_SECOND_ROUND], {}) as workload:
        assert workload.amount == 128
        workload.run()
        for _ in range(2):
            with pytest.raises(UserError, match=r"--torch: .* ended with 1: no memory is left"):
                workload.run()


def test_a_process_that_does_not_start_is_told():
    command = [sys.executable, "-c", "import sys; sys.exit('error: no such file')"]
    with pytest.raises(UserError, match="ended with 1: error: no such file"), pytorch.torch_workload(command, {}):
        pass


@pytest.mark.parametrize("members", [0, 2])
def test_a_step_is_lowered_for_a_device_from_shapes_alone(members):
    setup = prepare(load_config("digits", **{"net.hidden": (8,), "train.dispatch": 2}))
    program = compiled.lower(setup, jax.devices()[0], members)
    assert "stablehlo.while" in program.as_text()
    assert program.compile().cost_analysis()["flops"] > 0


def test_where_no_tpu_compiler_is_a_line_says_so(monkeypatch):
    def missing(*arguments):
        raise RuntimeError("no libtpu\nat all")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", missing)
    with pytest.raises(UserError, match=r"^--chip: 'v5e:2x2' cannot be compiled for \(no libtpu\); is jax\[tpu\]"):
        compiled.main(["--config=digits"])
    with pytest.raises(UserError, match=r"^--members: '-1' is not allowed; give a whole number of at least 0"):
        compiled.main(["--config=digits", "--members=-1"])
