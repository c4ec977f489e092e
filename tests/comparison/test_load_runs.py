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
from helpers.made_up_studies import LOG, STEPS, compare_study, config, elbo_parts, printed, write_run

from vae_jax.comparison import families, load_runs, reproduce, tables
from vae_jax.errors import UserError
from vae_jax.sweeps import study


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
        "loop": "is not a folder",
        "lost": "is not a folder",
        "no_variant": "config.json is of no run of vae_jax",
        "notes": "has no config.json",
        "results.txt": "is not a folder",
        "text_seed": "config.json is of no run of vae_jax",
        "twice": f"is the same run as {good.name}",
    }
    text = printed(compare_study(tmp_path))
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
    text = printed(comparison)
    assert "1 done, 2 failed, 1 dropped, 1 running, 2 unfinished" in text
    assert "mig is not a finite number in 1 (left out: done)" in text
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
    with pytest.raises(UserError, match="is not a folder"):
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
    assert len(printed(comparison).splitlines()) < 700


def test_a_finished_run_takes_the_place_of_an_unfinished_one_of_the_same_config(tmp_path):
    write_run(tmp_path, config(0, beta=1.0), name="a")
    write_run(tmp_path, config(0, beta=1.0), elbo_parts(5, 10), name="b")
    runs, skipped = load_runs.load_runs([tmp_path])
    assert [(run.name, run.status) for run in runs] == [("b", "done")]
    assert skipped == [("a", "is the same run as b, which has finished")]


# --- junk -----------------------------------------------------------------------------------------

DEEP = b"[" * 100_000
NESTED = b'{"a":' * 900 + b"1" + b"}" * 900
JUNK = {"deep": DEEP, "empty": b"", "bytes": b"\xff\xfe\x00\x80", "list": b"[1]", "text": b'"x"', "nested": NESTED}


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize(
    "file", ["config.json", "evaluation.json", "environment.json", "failed.json", "metrics.jsonl", "plan.json"]
)
def test_a_study_is_compared_whatever_a_file_of_one_run_holds(tmp_path, file, junk):
    for seed in range(2):
        write_run(tmp_path, config(seed, beta=1.0), elbo_parts(1, 2), name=f"good{seed}")
    bad = write_run(tmp_path, config(2, beta=1.0), elbo_parts(1, 2), name="bad")
    if file == "plan.json":
        bad = tmp_path
    (bad / file).write_bytes(JUNK[junk])
    runs, skipped = load_runs.load_runs([tmp_path])
    states = {run.name: run.status for run in runs} | dict(skipped)
    assert (states.pop("good0"), states.pop("good1")) == ("done", "done")
    state = states["bad"]
    if file in ("config.json", "evaluation.json"):  # well-formed JSON that holds no result is no result yet
        assert state in (f"{file} is damaged", "config.json is of no run of vae_jax", "missing")
        assert state != "missing" or junk == "nested"
    else:
        assert state == ("failed" if file == "failed.json" else "done")
    printed(compare_study(tmp_path))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"seed": True}, "config.json is of no run of vae_jax"),
        ({"seed": 10**400}, "config.json has a number in seed that is too large"),
        ({"latent_dim": 10**400}, "config.json has a number in latent_dim that is too large"),
        ({"net": {"hidden": [[10**400]]}}, "config.json has a number in net.hidden that is too large"),
        ({"train": {"steps": True}}, "config.json is of no run of vae_jax"),
        ({"variant": {"name": ["beta"]}}, "config.json is of no run of vae_jax"),
        ({"data": {"name": 3}}, "config.json is of no run of vae_jax"),
        ({"net": {"name": [[1]]}}, "config.json is of no run of vae_jax"),
        ({"data": 3}, ""),
        ({"variant": {"name": "os.path"}}, ""),
        ({"likelihood": {"name": "collections.OrderedDict"}}, ""),
    ],
)
def test_a_config_that_cannot_be_is_skipped_with_why(tmp_path, fields, reason):
    write_run(tmp_path, config(0, beta=1.0), elbo_parts(1, 2), name="good")
    write_run(tmp_path, config(1, beta=1.0) | fields, elbo_parts(1, 2), name="bad")
    comparison = compare_study(tmp_path)
    assert dict(comparison.skipped).get("bad", "") == reason
    assert len(comparison.runs) == (1 if reason else 2)
    assert len(reproduce.training_commands(comparison.runs)) == len(comparison.runs)


def test_a_config_that_is_nested_too_deep_is_skipped(tmp_path, monkeypatch):
    """What Python can still read it may not be able to walk through."""
    digest = study.digest

    def refuse(value):
        if "net.deep" in value:
            raise RecursionError
        return digest(value)

    monkeypatch.setattr(study, "digest", refuse)
    write_run(tmp_path, config(0), elbo_parts(1, 2), name="good")
    write_run(tmp_path, config(1) | {"net": {"deep": [[1]]}}, elbo_parts(1, 2), name="bad")
    runs, skipped = load_runs.load_runs([tmp_path])
    assert ([run.name for run in runs], skipped) == (["good"], [("bad", "config.json is nested too deep")])


def test_values_of_any_kind_make_groups(tmp_path):
    values = [4, 4.0, "4", True, None, [1, [2]], [{"deep": [1]}], {"leaf": 1}, {}, math.nan, math.inf, -0.0, "", 10**20]
    for seed in range(2):
        for i, value in enumerate(values):
            tree = config(seed, beta=1.0)
            tree["net"]["own"] = value
            folder = write_run(tmp_path, tree, elbo_parts(1, 2 + i + seed), name=f"{i}_{seed}")
            (folder / "config.json").write_text(json.dumps({"config": tree}))  # NaN and Infinity as Python has them
    comparison = compare_study(tmp_path, by=("net.own",))
    assert sum(len(group.runs) for group in comparison.groups) == len(comparison.runs)
    # 4 and 4.0 are one, and so are null, an empty section, and one that has fields inside.
    assert len(comparison.groups) == len({group.name for group in comparison.groups}) == len(values) - 3
    printed(comparison)
    families.families(comparison)
    tables.write_csv(tmp_path / "runs.csv", comparison.runs)


def test_numbers_of_any_kind_are_read_as_floats_or_not_at_all():
    values = {"huge": 10**400, "low": -(10**400), "zero": -0.0, "null": None, "step": 3}
    ignored = {"text": "1.0", "truth": True, "list": [[1.0]], "dict": {"a": 1}}
    numbers = load_runs.numeric_metrics(values | ignored)
    assert numbers.pop("null") != numbers.get("null")
    assert numbers == {"huge": math.inf, "low": -math.inf, "zero": 0.0}
    assert math.copysign(1, numbers["zero"]) == 1


def test_what_a_run_says_of_itself_is_text_or_a_number(tmp_path):
    files = {"environment": {"git": {"a": 1}, "jax": "0.10", "devices": 8, "x": [1]}, "failed": {"error": ["x"]}}
    (folder,) = [write_run(tmp_path, config(0), data="d1", **files)]
    (folder / "metrics.jsonl").write_text('{"steps_per_second": 1e999}\n')
    (run,), _ = load_runs.load_runs([tmp_path])
    assert run.environment == {"jax": "0.10", "devices": 8}
    assert (run.error, run.steps_per_second, run.data) == ("failed.json is damaged", None, "d1")


@pytest.mark.parametrize("data", [None, 3, "d", {"digest": 3}, {}, {"digest": None}])
def test_a_digest_that_is_none_is_not_known(tmp_path, data):
    folder = write_run(tmp_path, config(0))
    content = json.loads((folder / "config.json").read_text()) | {"data": data}
    (folder / "config.json").write_text(json.dumps(content))
    assert [run.data for run in load_runs.load_runs([tmp_path])[0]] == [""]


def test_runs_of_one_config_on_other_data_are_two(tmp_path):
    for name, data in (("a", "x"), ("b", "y"), ("c", "y")):
        write_run(tmp_path, config(0), elbo_parts(1, 2), name=name, data=data)
    runs, skipped = load_runs.load_runs([tmp_path])
    assert ([run.name for run in runs], skipped) == (["a", "b"], [("c", "is the same run as b")])


def test_a_folder_that_may_not_be_read_is_skipped(tmp_path, monkeypatch):
    write_run(tmp_path, config(0), elbo_parts(1, 2), name="good")
    write_run(tmp_path, config(1), elbo_parts(1, 2), name="closed")
    exists, listdir = Path.exists, os.listdir

    def refuse(path, call, *args):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied")
        return call(path, *args)

    monkeypatch.setattr(Path, "exists", lambda path: refuse(path, exists))
    monkeypatch.setattr(os, "listdir", lambda path=".": refuse(path, listdir))
    runs, skipped = load_runs.load_runs([tmp_path])
    assert ([run.name for run in runs], skipped) == (["good"], [("closed", "cannot be read (Permission denied)")])
    with pytest.raises(UserError, match=r"--runs: '.*closed' cannot be read \(Permission denied\)"):
        load_runs.load_runs([tmp_path / "closed"])


@pytest.mark.parametrize("id_", [5, None, ["x"], "a\0b"])
def test_a_plan_of_odd_names_is_no_obstacle(tmp_path, id_):
    write_run(tmp_path, config(0), elbo_parts(1, 2), name="good")
    run = {"id": id_, "program": "p", "steps": STEPS, "halving": [], "words": []}
    (tmp_path / "plan.json").write_text(json.dumps({"runs": [run]}))
    assert [run.name for run in load_runs.load_runs([tmp_path])[0]] == ["good"]
