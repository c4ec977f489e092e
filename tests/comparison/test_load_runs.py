"""What is read of folders of every kind, and what is skipped."""

import fcntl
import io
import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.made_up_studies import LOG, STEPS, compare_study, config, elbo_parts, write_run

from vae_jax.comparison import load_runs
from vae_jax.comparison.terminal import comparison_lines
from vae_jax.errors import UserError


def test_every_kind_of_broken_folder_is_skipped_by_name(tmp_path):
    good = write_run(tmp_path, config(0, beta=1.0), elbo_parts(1, 2))
    planned = {"program": "p", "steps": STEPS, "halving": [], "words": []}
    listed = [{"id": name} | planned for name in (good.name, "beta_later")]
    (tmp_path / "plan.json").write_text(json.dumps({"runs": listed}))
    for name in ("programs", "comparison", ".hidden", "empty", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("buy milk")
    (tmp_path / "results.txt").write_text("text")
    os.symlink(tmp_path / "nowhere", tmp_path / "lost")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    half = write_run(tmp_path, config(1, beta=1.0), name="half_config") / "config.json"
    half.write_text(half.read_text()[:100])
    write_run(tmp_path, config(2, beta=1.0), elbo_parts(1, 2), name="half_evaluation")
    (tmp_path / "half_evaluation" / "evaluation.json").write_text('{"loss": 1.0, "el')
    for name, text in (("foreign", '{"model": "resnet"}'), ("list", "[1, 2]"), ("binary", "\udcff"), ("blank", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    for name, field, value in (("text_seed", "seed", "zero"), ("no_variant", "variant", {"beta": 1.0})):
        write_run(tmp_path, config(3) | {field: value}, name=name)
    write_run(tmp_path / "inner", config(4, beta=1.0))
    (tmp_path / "inner" / "plan.json").write_text("{}")
    write_run(tmp_path, config(0, beta=1), elbo_parts(1, 2), name="twice")
    runs, skipped = load_runs.load_runs([tmp_path])
    assert [run.name for run in runs] == [good.name]
    assert dict(skipped) == {
        "beta_later": "is planned and not begun",
        "binary": "config.json is damaged",
        "blank": "config.json is damaged",
        "empty": "is empty",
        "foreign": "config.json is of no run of vae_jax",
        "half_config": "config.json is damaged",
        "half_evaluation": "evaluation.json is damaged",
        "inner": "is a study of its own; name it in --runs",
        "list": "config.json is damaged",
        "loop": "is no folder",
        "lost": "is no folder",
        "no_variant": "config.json is of no run of vae_jax",
        "notes": "has no config.json",
        "results.txt": "is no folder",
        "text_seed": "config.json is of no run of vae_jax",
        "twice": f"is the same run as {good.name}",
    }
    text = "\n".join(comparison_lines(compare_study(tmp_path)))
    assert "1 done, 16 skipped" in text
    assert "skipped 4: config.json is damaged (binary, blank, half_config and 1 more)" in text


def test_runs_that_did_not_end_well_are_kept_and_counted(tmp_path):
    write_run(tmp_path, config(0, beta=1.0), elbo_parts(1, 2, mig=None), name="done")
    write_run(tmp_path, config(1, beta=1.0), failed={"step": 3, "error": "step 4: rate not finite"}, name="failed")
    write_run(tmp_path, config(2, beta=1.0), name="failed_halfway")
    (tmp_path / "failed_halfway" / "failed.json").write_text('{"st')
    write_run(tmp_path, config(3, beta=1.0), dropped={"place": 3}, name="dropped")
    write_run(tmp_path, config(4, beta=1.0), name="unfinished")
    write_run(tmp_path, config(5, beta=1.0), elbo_parts(1, 2, step=STEPS - 1), name="earlier_step")
    write_run(tmp_path, config(6, beta=1.0), name="running")
    handle = os.open(tmp_path / "running", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    runs, skipped = load_runs.load_runs([tmp_path])
    comparison = compare_study(tmp_path, metrics=("elbo", "mig"))
    os.close(handle)
    assert skipped == []
    assert {run.name: run.status for run in runs} == {
        "done": "done",
        "failed": "failed",
        "failed_halfway": "failed",
        "dropped": "dropped",
        "unfinished": "missing",
        "earlier_step": "missing",
        "running": "running",
    }
    errors = {run.name: run.error for run in runs if run.error}
    assert errors == {"failed": "step 4: rate not finite", "failed_halfway": "failed.json is damaged"}
    assert all(run.metrics == {} for run in runs if run.status != "done")
    assert math.isnan(next(run for run in runs if run.name == "done").metrics["mig"])
    (group,) = comparison.groups
    assert (group.failed, group.summaries.keys(), group.summaries["elbo"].n) == (2, {"elbo"}, 1)
    text = "\n".join(comparison_lines(comparison))
    assert "1 done, 2 failed, 1 dropped, 1 running, 2 unfinished" in text
    assert "mig is no finite number in 1 (left out: done)" in text
    assert "step 4: rate not finite" in text


def test_what_is_read_of_a_run(tmp_path):
    write_run(tmp_path, config(3, beta=2.0), elbo_parts(1, 2, flag=True, words="x"), name="one")
    (run,), _ = load_runs.load_runs([tmp_path / "one"])  # a run's own folder will do
    assert (run.name, run.seed, run.config["variant.beta"], run.config["net.hidden"]) == ("one", 3, 2.0, (400, 200))
    assert run.metrics == {"loss": 1, "rate": 1, "distortion": 2, "elbo": -3}
    assert run.environment["git"] == "abc"
    assert run.steps_per_second == 150.5
    with (tmp_path / "one" / "metrics.jsonl").open("a") as file:
        file.write("x" * 40_000 + '"steps_per_second": 7.5, "steps_per_second": 9')  # only the end, and no half number
    assert load_runs.load_runs([tmp_path])[0][0].steps_per_second == 7.5
    for name in ("environment.json", "metrics.jsonl"):
        (tmp_path / "one" / name).unlink()
    (run,), _ = load_runs.load_runs([tmp_path])
    assert (run.environment, run.steps_per_second) == ({}, None)


def test_several_folders_of_runs(tmp_path):
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        write_run(tmp_path / name, config(seed, beta=1.0), elbo_parts(1, 2), name="run")
    runs, skipped = load_runs.load_runs([tmp_path / name for name in "abc"])
    assert [run.name for run in runs] == ["a/run", "b/run"]
    assert skipped == [("c/run", "is the same run as a/run")]
    with pytest.raises(UserError, match="is no folder"):
        load_runs.load_runs([tmp_path / "d"])


def test_names_that_meet_are_told_apart_by_their_paths(tmp_path):
    places = ("old/study", "new/study", "other")
    for seed, place in enumerate(places):
        write_run(tmp_path / place, config(seed, beta=1.0), elbo_parts(1, 2), name="run")
        (tmp_path / place / "empty").mkdir()
    plan = {"id": "later", "program": "p", "steps": STEPS, "halving": [], "words": []}
    for place in places[:2]:
        (tmp_path / place / "plan.json").write_text(json.dumps({"runs": [plan]}))
    runs, skipped = load_runs.load_runs([tmp_path / place for place in places])
    assert [run.name for run in runs] == ["old/study/run", "new/study/run", "other/run"]
    assert [run.folder for run in runs] == [str(tmp_path / place / "run") for place in places]
    assert dict(skipped) == {
        **dict.fromkeys(["old/study/empty", "new/study/empty", "other/empty"], "is empty"),
        **dict.fromkeys(["old/study/later", "new/study/later"], "is planned and not begun"),
    }
    alone, _ = load_runs.load_runs([tmp_path / place / "run" for place in places])
    assert [run.name for run in alone] == ["old/study/run", "new/study/run", "other/run"]
    twice, skipped = load_runs.load_runs([tmp_path / "other", tmp_path / "other" / "run", tmp_path / "other"])
    assert [run.name for run in twice] == ["other/run"]
    assert skipped == [("other/empty", "is empty")]


def test_an_evaluation_without_a_loss_is_damaged(tmp_path):
    write_run(tmp_path, config(0, beta=1.0), {"loss": "low"}, name="text")
    write_run(tmp_path, config(1, beta=1.0), {"loss": None}, name="nan")  # NaN is a number that is missing
    runs, skipped = load_runs.load_runs([tmp_path])
    assert [run.name for run in runs] == ["nan"]
    assert skipped == [("text", "evaluation.json is damaged")]


def test_of_a_run_few_small_files_and_the_end_of_its_log_are_read(tmp_path, monkeypatch):
    """So that a thousand runs take seconds: no file more than twice, and of 64 MB no more than of 64 kB."""
    count, files, lengths = 12, Counter(), []
    for seed in range(count):
        folder = write_run(tmp_path, config(seed, beta=1.0), elbo_parts(1, 2))
        with (folder / "metrics.jsonl").open("wb") as file:
            file.seek(64 * 2**20)
            file.write(LOG.encode())
    real_open, real_speeds = io.open, load_runs.SPEEDS

    def counted_open(file, *args, **options):
        files[Path(file).name] += 1
        return real_open(file, *args, **options)

    class Speeds:
        def findall(self, content):
            lengths.append(len(content))
            return real_speeds.findall(content)

    monkeypatch.setattr(io, "open", counted_open)
    monkeypatch.setattr(load_runs, "SPEEDS", Speeds())
    runs, skipped = load_runs.load_runs([tmp_path])
    monkeypatch.undo()
    assert (len(runs), skipped) == (count, [])
    assert {run.steps_per_second for run in runs} == {150.5}
    assert lengths == [load_runs.TAIL_BYTES] * count
    assert files.keys() <= {"config.json", "evaluation.json", "environment.json", "metrics.jsonl", "plan.json"}
    assert {"config.json", "metrics.jsonl"} <= files.keys()
    assert max(files.values()) <= 2 * count


def test_a_large_study_is_compared_in_a_few_hundred_lines(tmp_path):
    rng = np.random.default_rng(0)
    for seed in range(10):
        for beta in range(1, 21):
            others = {f"mig:bins={bins}": rng.normal() for bins in range(8)}
            write_run(tmp_path, config(seed, beta=float(beta)), elbo_parts(rng.normal(9), rng.normal(9), **others))
    comparison = compare_study(tmp_path)
    assert (len(comparison.runs), len(comparison.groups), len(comparison.metrics)) == (200, 20, 11)
    assert len(comparison_lines(comparison)) < 700


def test_a_finished_run_takes_the_place_of_an_unfinished_one_of_the_same_config(tmp_path):
    write_run(tmp_path, config(0, beta=1.0), name="a")
    write_run(tmp_path, config(0, beta=1.0), elbo_parts(5, 10), name="b")
    runs, skipped = load_runs.load_runs([tmp_path])
    assert [(run.name, run.status) for run in runs] == [("b", "done")]
    assert skipped == [("a", "is the same run as b, which has finished")]
