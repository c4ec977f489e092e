import sys

import pytest

from experiments.benchmark import compiled, pytorch
from vae_jax.errors import UserError

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


def test_where_no_tpu_compiler_is_a_line_says_so(monkeypatch):
    monkeypatch.setattr("vae_jax.sweeps.chips.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^--chip: no compiler for 'tpu:v5e' is here; make .venv/libtpu installs"):
        compiled.main(["--config=digits"])
    with pytest.raises(UserError, match=r"^--chip: 'tpu:v9' is unknown; known: .*; did you mean 'tpu:v4'"):
        compiled.main(["--config=digits", "--chip=tpu:v9"])
    with pytest.raises(UserError, match=r"^--members: '-1' is not allowed; give a whole number of at least 0"):
        compiled.main(["--config=digits", "--members=-1"])
