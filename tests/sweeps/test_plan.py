"""What a sweep would take."""

from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import jax
import pytest
from helpers.strict_promotion import strict_promotion

from vae_jax import phrases
from vae_jax.config.parse import load_sweep
from vae_jax.sweeps import plan
from vae_jax.sweeps.groups import group_runs, plan_runs


def test_a_plan_says_what_it_does_not_know(tmp_path):
    groups = group_runs(plan_runs("digits", [("data.name", "dsprites")], [{"seed": 0}, {"seed": 1}]))
    text = plan.describe(groups, tmp_path / "study", 1, 1, {})
    assert "2 runs in 1 program, at most 2 in one; 0 ended before" in text
    assert "no times: config.data.path is empty" in text
    assert not (tmp_path / "study").exists()


def test_the_calibration_counts_a_steps_operations_and_a_states_bytes():
    (run,) = plan_runs("digits", [("net.hidden", "(32,)"), ("latent_dim", "4")], [{}])
    weights = 64 * 32 + 32 * 8 + 4 * 32 + 32 * 64
    biases = 32 + 8 + 32 + 64
    # Parameters, two moments of each, and three counters of four bytes.
    assert plan.state_bytes(run.config, (8, 8, 1)) == 4 * 3 * (weights + biases) + 4 * 3
    # Forward, and backward to weights and to inputs but the first layer's; what is not a product comes on top.
    products = 2 * 128 * (3 * weights - 64 * 32)
    assert products < plan.step_flops(run.config, (8, 8, 1)) < 1.6 * products
    assert phrases.format_duration(59) == "59 s"
    assert phrases.format_duration(3 * 86400) == "3.0 days"
    assert phrases.format_bytes(1.5e9) == "1.5 GB"
    # 10,000 steps: the two newest checkpoints and the best; a record every 100 steps and an evaluation every 1000.
    assert plan.run_bytes(run.config, 1000) == 3 * 1000 + (100 + 10) * plan.RECORD_BYTES + plan.PICTURE_BYTES


@pytest.mark.parametrize(
    ("members", "devices", "expected"),
    [
        (3, 2, "6 rounds of at most 3 members on each of 2 devices"),
        (32, 1, "1 round of at most 32 members on each of 1 devices"),
        (3, None, "rounds of at most 3 members on each of its devices"),
        (0, 2, "rounds: set by the memory"),
    ],
)
def test_the_plan_says_how_many_rounds_a_set_number_of_members_makes(members, devices, expected):
    runs = plan_runs("digits", [("sweep.members_per_device", str(members))], load_sweep("digits"))
    assert expected in plan._rounds(group_runs(runs)[0], devices)


def test_times_come_from_the_record_then_from_a_steps_operations_then_from_the_others(tmp_path, monkeypatch):
    runs = plan_runs("digits", [("train.steps", "100")], [{"net.hidden": (width,)} for width in (4, 5, 6)])
    groups = group_runs(runs)
    (tmp_path / "programs").mkdir()
    (tmp_path / f"programs/{groups[0].id}.speed.json").write_text('{"member_steps": 10, "seconds": 20}')
    (tmp_path / runs[0].id).mkdir()
    (tmp_path / runs[0].id / "config.json").write_text('{"image_shape": [8, 8, 1]}')
    flops = {groups[1].id: 5e3}
    monkeypatch.setattr(plan, "matmul_rate", lambda: 1e3)
    monkeypatch.setattr(plan, "step_flops", lambda config, shape: flops[group_runs([run_of(config, runs)])[0].id])
    estimates, remarks = plan.estimate_groups(groups, tmp_path, {})
    assert [estimate.source for estimate in estimates] == [plan.RECORDED, plan.LOWER_BOUND, plan.MEAN]
    assert [estimate.step_seconds for estimate in estimates] == [2.0, 5.0, 5.0]
    assert [estimate.member_steps for estimate in estimates] == [100.0] * 3
    assert any(f"{groups[2].id}: not told (KeyError" in remark for remark in remarks)


def run_of(config, runs):
    return next(run for run in runs if run.config is config)


class SlowAnswer(Connection):
    """A connection on which the image shape comes after so many seconds."""

    def __init__(self, seconds):
        self.seconds, self._handle = seconds, None

    def poll(self, timeout):
        return self.seconds < timeout

    def recv(self):
        return (8, 8, 1)


class NoProcess(BaseProcess):
    def __init__(self):
        pass

    def kill(self):
        pass

    def join(self):
        pass


def test_data_whose_reader_is_imported_for_the_first_time_have_a_shape_all_the_same(tmp_path):
    groups = group_runs(plan_runs("digits", [], [{}]))
    digest = plan._section_digest(groups[0])
    shapes, remarks = plan.image_shapes(groups, tmp_path, {digest: plan.ShapeRequest(NoProcess(), SlowAnswer(9))})
    assert (shapes, remarks) == ({digest: (8, 8, 1)}, [])
    shapes, remarks = plan.image_shapes(groups, tmp_path, {digest: plan.ShapeRequest(NoProcess(), SlowAnswer(99))})
    assert shapes == {}
    assert remarks == ["no times: the data were not loaded within 15 s"]


def test_the_first_program_has_a_time_however_cold_the_start(tmp_path, monkeypatch):
    runs = plan_runs("digits", [], [{"net.hidden": (width,)} for width in (4, 5)])
    groups, clock = group_runs(runs), [0.0]

    def slow(result):
        def measure(*arguments):
            clock[0] += 30
            return result

        return measure

    monkeypatch.setattr(plan.time, "perf_counter", lambda: clock[0])
    for name, result in (("state_bytes", 10), ("step_flops", 5e3), ("matmul_rate", 1e3)):
        monkeypatch.setattr(plan, name, slow(result))
    shapes = {plan._section_digest(group): (8, 8, 1) for group in groups}
    calibration, remarks = plan.calibrate(groups, shapes, [])
    assert calibration == plan.Calibration({groups[0].id: 10}, {groups[0].id: 5e3}, 1e3)
    assert remarks == []


def test_jaxs_flags_take_no_time_from_a_plan():
    (run,) = plan_runs("digits", [("net.hidden", "(4,)")], [{}])
    with strict_promotion():
        assert plan.step_flops(run.config, (8, 8, 1)) > 0
        assert jax.config.jax_numpy_dtype_promotion == "strict"


@pytest.mark.parametrize("content", ["", "[]", '{"image_shape": "abc"}', '{"image_shape": [8, 8]}', "\x00"])
def test_damaged_records_are_no_records(tmp_path, content):
    groups = group_runs(plan_runs("digits", [], [{}]))
    (tmp_path / groups[0].runs[0].id).mkdir(parents=True)
    (tmp_path / groups[0].runs[0].id / "config.json").write_text(content)
    assert plan._recorded_shapes(groups, tmp_path) == {}
