"""Which programs of a study are in SLURM's queue, and that nobody else trains them."""

import pytest

from vae_jax.errors import UserError
from vae_jax.files import write_json
from vae_jax.launch import slurm_queue
from vae_jax.launch.slurm_queue import lock_unqueued, queued_jobs, submission_file
from vae_jax.sweeps import study
from vae_jax.sweeps.study import PlanEntry


def test_a_study_in_the_queue_of_slurm_is_left_to_it(tmp_path, monkeypatch):
    runs = [PlanEntry(f"run_{i}", "program", 40, (), []) for i in range(2)]
    with lock_unqueued(tmp_path):
        study.write_plan(tmp_path, runs)
    write_json(submission_file(tmp_path, "program"), {"job": "7_0", "runs": ["run_0", "run_1"]})

    def refused(message):
        with pytest.raises(UserError, match=message) as refusal, lock_unqueued(tmp_path):
            pass
        assert "\n" not in str(refusal.value)

    def no_answer():
        raise UserError("squeue failed: No such file or directory")

    queue = {}
    monkeypatch.setattr(slurm_queue, "ask_queue", lambda: queue)
    with lock_unqueued(tmp_path):
        pass  # it has left the queue
    for state in ("pending: Priority", "running", "completing"):
        queue["7_0"] = state
        refused("program as job 7_0 .*; scancel it, or use vae-jax slurm$")
    study.error_file(tmp_path, "program").write_text("crashed")
    with lock_unqueued(tmp_path):
        pass  # its job is ending
    study.error_file(tmp_path, "program").unlink()
    monkeypatch.setattr(slurm_queue, "ask_queue", no_answer)
    refused("program as job 7_0 .*, or remove that file if the job is gone$")
    for run in runs:
        (tmp_path / run.id).mkdir()
        write_json(tmp_path / run.id / "evaluation.json", {"loss": 1.0, "step": 40})
    with lock_unqueued(tmp_path):
        pass  # all has ended


def test_a_job_that_is_ending_trains_nothing_once_its_program_has_crashed(tmp_path):
    (tmp_path / "programs").mkdir()
    submission_file(tmp_path, "program").write_text('{"job": "7_0", "runs": []}')
    assert queued_jobs(tmp_path, {"7_0": "completing"}) == {"program": "7_0"}  # perhaps it is queued again
    study.error_file(tmp_path, "program").write_text("crashed")
    assert queued_jobs(tmp_path, {"7_0": "completing"}) == {}
    assert queued_jobs(tmp_path, {"7_0": "running"}) == {"program": "7_0"}
