"""The script for an accelerator, in sizes of no meaning on a CPU, and the page that is made of what it writes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.benchmark import accelerator, accelerator_rows
from experiments.benchmark.accelerator_page import BEGIN, END
from experiments.benchmark.accelerator_parts import PARTS, Part
from experiments.benchmark.accelerator_scale import FULL, TINY, make_network, members, one_run, population
from experiments.benchmark.workloads import make_training
from vae_jax.errors import UserError
from vae_jax.models.networks import _convolution

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/benchmark/accelerator.sh"
ELSEWHERE = {
    *("matmul", "unroll_mlp", "mlp", "mlp_many", "conv", "conv_many"),
    *("convolutions", "exactness_conv", "unroll_conv"),
}
"""Parts that the script measures here, and those that are others with another network or another size."""


def check_rows(parts):
    for name, record in parts.items():
        assert "failed" not in record
        assert list(record["rows"]) == list(PARTS[name].rows(TINY))
        for row in record["rows"].values():
            assert row.keys() == {"reason"} or row.keys() <= PARTS[name].columns.keys()


def run_script(file, parts, **environment):
    own = {"PYTHON": sys.executable, "PARTS": parts, **environment}
    return subprocess.run(
        [SCRIPT, file, "--tiny"], env=os.environ | own, cwd=file.parent, capture_output=True, text=True
    )


@pytest.mark.full
def test_the_script_records_what_was_stopped_then_measures_it_and_then_skips_it(tmp_path):
    file = tmp_path / "accelerator.json"
    stopped = run_script(file, "matmul", LIMIT="0.2")
    assert stopped.returncode == 1
    assert stopped.stderr.endswith(
        f"{file}: without matmul (see {file}.log); the same command measures what is missing\n"
    )
    assert json.loads(file.read_text()) == {"parts": {"matmul": {"rows": {}, "failed": "stopped after 0.2 s"}}}
    measured = run_script(file, "matmul unroll_mlp")
    assert measured.returncode == 0, measured.stderr
    assert measured.stdout.endswith(f"{file}\n")
    parts = json.loads(file.read_text())["parts"]
    assert list(parts) == ["matmul", "unroll_mlp"]
    check_rows(parts)
    before = file.read_bytes()
    refused = run_script(file, "matmull matmul")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --part: 'matmull' is unknown")
    again = run_script(file, "matmul,unroll_mlp")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("measured already, skipped") == 2
    assert file.read_bytes() == before


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The file of the parts whose code differs, measured in this process."""
    file = tmp_path_factory.mktemp("accelerator") / "accelerator.json"
    names = ",".join(name for name in PARTS if name not in ELSEWHERE)
    with (
        pytest.MonkeyPatch.context() as patch,
        jax.debug_key_reuse(False),
    ):  # the check is of the steps, made elsewhere, and slow to compile
        patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # some parts add to them
        assert accelerator.main([f"--part={names}", f"--json={file}", "--tiny"]) == 0
        assert "command_buffer=+WHILE" in os.environ["XLA_FLAGS"]
    return file


@pytest.mark.full
def test_every_part_has_its_rows_and_columns(measured):
    parts = json.loads(measured.read_text())["parts"]
    check_rows(parts)
    assert all(row == {"reason": "of GPUs alone"} for row in parts["commands_loops"]["rows"].values())
    exact = parts["exactness_mlp"]["rows"].values()
    assert all(row == {"equal": True, "difference": 0, "steps": 2} for row in exact)
    assert parts["resumed"]["rows"].popitem()[1] == {"equal": True, "difference": 0, "steps": 4}
    rates = [row[column] for row in parts["over_members"]["rows"].values() for column in ("in_turn", "at_once")]
    assert len(rates) == 4
    assert min(rates) > 0


def fake_record(**fields):
    """The record of the matrix products on a made-up GPU."""
    rows = {
        "float32": {"teraflops": 51.23, "error": 0.0},
        "tf32": {"failed": "XlaRuntimeError: a | b"},
        "bfloat16": {"teraflops": 1234.5, "error": 0.00288},
    }
    origin = {"device": "Fake G1", "platform": "gpu", "jax": "0.0", "commit": "abc", "tiny": False, "date": "day"}
    return {**origin, "rows": rows, **fields}


def write_page(tmp_path, parts, *words):
    file, page = tmp_path / "measured.json", tmp_path / "page.md"
    file.write_text(json.dumps({"parts": parts}))
    accelerator.main(["--page", f"--json={file}", f"--document={page}", *words])
    return page.read_text()


def test_the_page_is_the_tables_of_the_file_between_its_comments(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nWritten by a person.\n")
    text = write_page(tmp_path, {"mlp": {"rows": {}, "failed": "stopped after 120 s"}, "matmul": fake_record()})
    assert text.startswith(f"# Title\n\n{BEGIN}\nFake G1, jax 0.0, commit abc, day.\n")
    assert text.endswith(f"{END}\n\nWritten by a person.\n")
    assert "old" not in text
    assert "| numbers | TFLOP/s | relative difference from float32 |\n|---|---|---|\n| float32 | 51.2 | 0 |\n" in text
    assert "| tf32 | XlaRuntimeError: a \\| b | — |\n| bfloat16 | 1,234 | 2.9e-03 |\n" in text
    assert text.index("### Matrix products") < text.index(PARTS["mlp"].title)
    assert "Not measured to its end: stopped after 120 s.\n" in text


def test_parts_of_two_devices_or_commits_are_told_apart(tmp_path):
    text = write_page(tmp_path, {"matmul": fake_record(), "iwae": fake_record(commit="def")})
    assert "- Fake G1, jax 0.0, commit abc, day: matmul\n- Fake G1, jax 0.0, commit def, day: iwae\n" in text


def test_where_nothing_was_run_the_page_has_no_figure(tmp_path):
    page = tmp_path / "page.md"
    accelerator.main(["--page", f"--document={page}"])
    text = page.read_text()
    assert "Not yet run on an accelerator." in text
    assert not re.search(r"\d", text)


@pytest.mark.parametrize("fields", [{"platform": "cpu", "device": "cpu"}, {"tiny": True}])
def test_numbers_of_a_trial_are_refused_unless_they_are_meant(tmp_path, fields):
    parts = {"matmul": fake_record(**fields)}
    with pytest.raises(UserError, match=r"^--json: 'matmul' was measured on '.*' in a trial; give the file of an"):
        write_page(tmp_path, parts)
    assert not (tmp_path / "page.md").exists()
    assert "A trial of the program in tiny sizes: none of these numbers" in write_page(tmp_path, parts, "--tiny")


def test_what_is_wrong_is_told_in_a_line(tmp_path):
    file = tmp_path / "other.json"
    with pytest.raises(UserError, match=r"^--part: JAX sees no accelerator here, only a CPU; give --tiny"):
        accelerator.main(["--part=matmul", f"--json={file}"])
    with pytest.raises(UserError, match=r"^--part: 'matmull' is unknown; .*; did you mean 'matmul'"):
        accelerator.main(["--part=matmull", f"--json={file}"])
    with pytest.raises(UserError, match=r"^--part: 'commands_off' begins with options of its own; give it alone"):
        accelerator.main(["--part=matmul,commands_off", f"--json={file}"])
    with pytest.raises(UserError, match=r"^--json: has no value"):
        accelerator.main(["--part=matmul", "--tiny"])
    with pytest.raises(UserError, match=r"other\.json: cannot be read"):
        accelerator.main(["--page", f"--json={file}"])
    file.write_text("[1]")
    with pytest.raises(UserError, match=r"^--json: '.*other\.json' is no file of this program"):
        accelerator.main(["--part=matmul", f"--json={file}", "--tiny"])
    assert file.read_text() == "[1]"
    page = tmp_path / "page.md"
    page.write_text(f"{END} {BEGIN}")
    with pytest.raises(UserError, match=r"^--document: '.*page\.md' is to have one"):
        accelerator.main(["--page", f"--document={page}"])
    assert page.read_text() == f"{END} {BEGIN}"


def test_a_row_that_fails_is_told_and_measured_again_alone(tmp_path, monkeypatch, capsys):
    calls = []

    def measure(name, error):
        calls.append(name)
        if error:
            raise RuntimeError(error)
        return {"teraflops": len(calls)}

    def use(errors):
        rows = {name: lambda name=name: measure(name, errors.get(name)) for name in ("one", "two", "three")}
        monkeypatch.setitem(PARTS, "matmul", Part("", "", {}, "", lambda scale: rows))

    file = tmp_path / "accelerator.json"
    words = ["--part=matmul", f"--json={file}", "--tiny"]
    use({"two": "no such kernel\nat all", "three": "RESOURCE_EXHAUSTED: no memory"})
    assert accelerator.main(words) == 1
    assert capsys.readouterr().err == "two: RuntimeError: no such kernel\n"
    accelerator.main([*words, "--failed=ended with status 1"])
    record = json.loads(file.read_text())["parts"]["matmul"]
    assert record["failed"] == "ended with status 1"
    assert record["rows"] == {
        "one": {"teraflops": 1},
        "two": {"failed": "RuntimeError: no such kernel"},
        "three": {"reason": "does not fit"},
    }
    use({})
    assert accelerator.main(words) == 0
    assert calls == ["one", "two", "three", "two"]
    record = json.loads(file.read_text())["parts"]["matmul"]
    assert "failed" not in record
    assert record["rows"]["two"] == {"teraflops": 4}
    monkeypatch.setattr(accelerator, "commit", lambda: "another")
    assert accelerator.main(words) == 0
    assert calls[4:] == ["one", "two", "three"]


def test_a_population_larger_than_the_memory_is_not_tried(monkeypatch):
    monkeypatch.setattr(accelerator_rows, "needed_bytes", lambda name, scale: 2**60)
    monkeypatch.setattr(accelerator_rows, "train_steps", None)
    assert accelerator_rows.population_row("mlp", TINY, 3) == {"reason": "does not fit"}


def test_each_kind_of_convolution_is_its_own_on_any_device(monkeypatch):
    lowered = {}
    for kind, replaced in accelerator_rows.CONVOLUTIONS.items():
        with monkeypatch.context() as patch:
            for name, function in replaced.items():
                patch.setattr(_convolution, name, function)
            training = make_training(make_network("conv", TINY), [make_network("conv", TINY).config], one_run())
            program = training.program
            lowered[kind] = program.steps.lower(program.split, training.state, *training.arguments).as_text()
    assert "stablehlo.convolution" in lowered["windows"]
    assert "stablehlo.convolution" not in lowered["blocks"]


def test_a_difference_is_seen_and_relative_to_the_largest_parameter():
    params = {"a": np.float32([1, 2]), "b": np.float32([-8])}
    assert accelerator_rows.difference(params, params) == {"equal": True, "difference": 0.0}
    other = {"a": np.float32([1, 3]), "b": np.float32([-8])}
    assert accelerator_rows.difference(other, params) == {"equal": False, "difference": 0.125}


def test_another_member_is_another_run():
    setup = make_network("mlp", TINY)
    configs = members(setup, 2)
    first, second = accelerator_rows.last_states(setup, configs, population(setup))
    assert not accelerator_rows.difference(first, second)["equal"]


def test_the_full_sizes_are_those_of_the_plan():
    assert list(PARTS["mlp"].rows(FULL)) == ["one run", "1", "8", "32"]
    assert list(PARTS["conv_many"].rows(FULL)) == ["one run", "128", "512"]
    assert list(PARTS["unroll_conv"].rows(FULL)) == ["1", "4", "16"]
    mlp = make_network("mlp", FULL)
    shapes = {leaf.shape for leaf in jax.tree.leaves(mlp.state_shape.params) if leaf.ndim == 2}
    assert {(784, 200), (200, 200), (200, 100), (50, 200), (200, 784)} == shapes
    assert make_network("conv", FULL).dataset.image_shape == (64, 64, 1)
    assert make_network("iwae", FULL).config.variant.samples == 50


def test_the_page_of_the_repository_has_its_section():
    text = accelerator.PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
