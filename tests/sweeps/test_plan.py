"""What a sweep would take."""

import pytest

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
