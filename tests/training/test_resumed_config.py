"""What may change when a run is resumed, what may not, and runs that begin with another's weights."""

import json
import shutil

import jax
import numpy as np
import pytest
from helpers.run_folder import newest, results
from helpers.small_run import small, train_small

import vae_jax
from vae_jax import cli
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.reproduce import training_words
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.training.setup import prepare
from vae_jax.training.start import begin_from, read_start, recorded_start

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 60 steps that has finished."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert train_small(folder) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it, to change."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_run_of_more_steps_ends_as_if_it_had_been_longer_from_the_start(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    assert train_small(folder, **{"train.steps": 50}) == 0
    capsys.readouterr()
    assert train_small(folder) == 0
    assert "resuming at step 40 of 60" in capsys.readouterr().out  # a longer run would not have saved at 50
    assert results(folder) == results(finished)
    assert json.loads((folder / "evaluation_50.json").read_text())["step"] == 50
    assert (folder / "pictures_50").is_dir()


@pytest.mark.full
@pytest.mark.parametrize(("variant", "resumed"), [("beta", 60), ("rae", 40)])
def test_it_goes_on_from_its_last_step_where_a_longer_run_would_have_saved_the_same(tmp_path, variant, resumed, capsys):
    fields = {"variant.name": variant, "evaluation.every": 20}
    assert train_small(tmp_path / "run", **fields) == 0
    capsys.readouterr()
    assert train_small(tmp_path / "run", **fields, **{"train.steps": 80}) == 0
    assert f"resuming at step {resumed} of 80" in capsys.readouterr().out
    assert train_small(tmp_path / "long", **fields, **{"train.steps": 80}) == 0
    assert results(tmp_path / "run") == results(tmp_path / "long")


def test_steps_do_not_fall_nor_rise_where_the_learning_rate_depends_on_them(copy, tmp_path):
    with pytest.raises(UserError, match=r"config.train.steps \(there 60, here 50\)"):
        train_small(copy, **{"train.steps": 50})
    record = json.loads((copy / "config.json").read_text())
    record["config"]["train"]["cosine"] = True
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"config.train.steps \(there 60, here 80\)"):
        train_small(copy, **{"train.steps": 80, "train.cosine": True})


def test_what_changes_no_number_may_change_and_a_new_metric_is_computed(copy, capsys):
    fields = {"wandb.name": "x", "wandb.tags": "a,b", "log.every": 7, "checkpoint.keep": 5}
    before = json.loads((copy / "evaluation.json").read_text())
    assert train_small(copy, **fields, **{"evaluation.metrics": "active_units:images=50"}) == 0
    assert "has finished" in capsys.readouterr().out
    config = json.loads((copy / "config.json").read_text())["config"]
    assert config["wandb"]["tags"] == ["a", "b"]
    assert config["log"]["every"] == 7
    after = json.loads((copy / "evaluation.json").read_text())
    assert after.keys() - before.keys() >= {"active_units:images=50"}
    assert before.items() <= after.items()


def test_all_metrics_may_be_asked_of_a_finished_run(copy, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "vae_jax.training.evaluate_run.run_metrics", lambda words, *rest: (asked.append(words), ({}, []))[1]
    )
    assert train_small(copy, **{"evaluation.metrics": "all"}) == 0
    assert "gaussian_tc" in asked[0].split(",")


def test_checkpoints_without_a_config_are_not_taken_for_another_runs(copy):
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds checkpoints and no config\.json"):
        train_small(copy, **{"variant.beta": 4})


def test_other_data_under_the_same_name_are_refused(copy):
    record = json.loads((copy / "config.json").read_text())
    record["data"]["digest"] = "0" * 16
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"data\.digest"):
        train_small(copy)


def test_a_run_without_a_data_digest_is_resumed(copy):
    record = json.loads((copy / "config.json").read_text())
    del record["data"]
    (copy / "config.json").write_text(json.dumps(record))
    assert train_small(copy) == 0
    assert "digest" in json.loads((copy / "config.json").read_text())["data"]


def test_a_run_of_a_version_without_a_field_is_resumed_where_that_has_its_default(copy):
    record = json.loads((copy / "config.json").read_text())
    del record["config"]["train"]["ema"], record["config"]["variant"]["free_bits"]
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"train.ema \(there 'absent', here 0.5\)"):
        train_small(copy, **{"train.ema": 0.5})
    assert train_small(copy) == 0
    assert json.loads((copy / "config.json").read_text())["config"]["train"]["ema"] == 0.0


def test_a_run_of_a_version_without_a_choice_of_mean_goes_on_with_a_linear_one(tmp_path):
    grey = {"data.binarize": "none", "likelihood.name": "gaussian", "train.steps": 40}
    folder = tmp_path / "run"
    assert train_small(folder, **grey, **{"likelihood.mean": "linear"}) == 0
    before, drawn = results(folder), vae_jax.open_run(folder).sample(0, 3)
    record = json.loads((folder / "config.json").read_text())
    del record["config"]["likelihood"]["mean"]
    (folder / "config.json").write_text(json.dumps(record))
    np.testing.assert_array_equal(vae_jax.open_run(folder).sample(0, 3), drawn)
    unfinish(folder)
    with pytest.raises(UserError, match=r"likelihood.mean \(there 'absent', here 'sigmoid'\)"):
        train_small(folder, **grey)
    assert train_small(folder, **grey, **{"likelihood.mean": "linear"}) == 0
    assert results(folder) == before


@pytest.mark.parametrize("schedule", [{"train.schedule": "cosine"}, {"train.schedule": "warmup_cosine"}])
def test_steps_do_not_rise_under_a_schedule_that_falls_over_all_of_them(copy, schedule):
    record = json.loads((copy / "config.json").read_text())
    record["config"]["train"] |= {"schedule": schedule["train.schedule"], "warmup_steps": 5}
    (copy / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"config.train.steps \(there 60, here 80\)"):
        train_small(copy, **{"train.steps": 80, "train.warmup_steps": 5}, **schedule)


def unfinish(folder):
    """Takes back the end of a run, which then goes on from the checkpoint before it."""
    (folder / "evaluation.json").unlink()
    shutil.rmtree(newest(folder))


def test_a_run_does_not_go_on_under_flags_that_change_its_digits(copy):
    unfinish(copy)
    environment = json.loads((copy / "environment.json").read_text())
    environment["flags"]["jax_default_matmul_precision"] = "bfloat16"
    (copy / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(UserError, match="jax_default_matmul_precision: 'unset' here, and 'bfloat16' where"):
        train_small(copy)


HOSTILE_FLAGS = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
}


@pytest.fixture
def hostile_flags():
    """JAX as a shell may set it up for other work."""
    before = {name: getattr(jax.config, name) for name in HOSTILE_FLAGS}
    for name, value in HOSTILE_FLAGS.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_flags_of_jax_change_no_run(finished, copy, hostile_flags):
    unfinish(copy)
    assert train_small(copy) == 0
    assert jax.config.jax_enable_x64
    assert results(copy) == results(finished)


@pytest.fixture(scope="module")
def drawn(finished):
    """What a run draws under JAX's own flags."""
    return vae_jax.open_run(finished).sample(0, 3)


def test_flags_of_jax_change_nothing_that_a_run_is_used_for(finished, drawn, hostile_flags):
    run = vae_jax.open_run(finished)
    assert (run.sample(0, 3) == drawn).all()
    assert run.encode(drawn).dtype == drawn.dtype == "float32"


def test_the_config_json_of_a_run_trains_the_same_again(finished, tmp_path):
    config = load_config(str(finished / "config.json"))
    assert config.to_dict() == vae_jax.load_config("digits", **small()).to_dict()
    assert config.net.hidden == (8,)
    assert cli.train([f"--config={finished / 'config.json'}", f"--workdir={tmp_path / 'again'}"]) == 0
    assert results(tmp_path / "again") == results(finished)


def test_a_run_begins_with_the_weights_of_another(finished, tmp_path):
    folder = tmp_path / "run"
    words = {**small(), "train.steps": 10, "train.learning_rate": 1e-4}
    flags = [f"--config.{name}={value}" for name, value in words.items()]
    assert cli.train([*flags, f"--workdir={folder}", f"--from={finished}:best"]) == 0
    assert json.loads((folder / "config.json").read_text())["from"]["run"] == str(finished)
    setup = prepare(load_config("digits", **words))
    state = begin_from(read_start(f"{finished}:best", tmp_path / "new"), setup.config, setup)
    source = vae_jax.open_run(finished, "best")
    jax.tree.map(np.testing.assert_array_equal, state.params, source.params)
    assert int(state.step) == 0
    (run,), _ = load_runs([folder])
    assert run.config["from"].startswith(f"{finished}:best ")
    assert f"--from={finished}:best" in training_words(run)
    assert recorded_start(str(folder / "config.json")) == f"{finished}:best"
    with pytest.raises(UserError, match="is the run itself"):
        read_start(f"{folder}/.", folder)
    shutil.move(finished, tmp_path / "moved")
    try:
        train_small(folder, **{"train.steps": 10, "train.learning_rate": 1e-4})  # which needs it no longer
    finally:
        shutil.move(tmp_path / "moved", finished)


def test_weights_that_do_not_fit_are_refused_and_nothing_is_written(finished, tmp_path):
    words = [f"--config.{name}={value}" for name, value in {**small(), "latent_dim": 5}.items()]
    with pytest.raises(UserError, match=r"--from: the networks of '.*' do not fit this config: decoder"):
        cli.train([*words, f"--workdir={tmp_path / 'run'}", f"--from={finished}"])
    with pytest.raises(UserError, match="no run here"):
        cli.train([*words, f"--workdir={tmp_path / 'run'}", f"--from={tmp_path / 'nothing'}"])
    assert not (tmp_path / "run").exists()


def test_home_is_expanded_wherever_a_folder_is_named(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(finished.parent))
    monkeypatch.chdir(tmp_path)
    assert train_small("~/run") == 0
    assert cli.evaluate(["--workdir=~/run", "--metrics=active_units"]) == 0
    assert vae_jax.open_run("~/run").step == 60
    assert cli.compare(["--runs=~/run", f"--out={tmp_path / 'out'}"]) == 0
    assert load_config("~/run/config.json").seed == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(UserError, match="--workdir: '~nobody_here/x' is not allowed; this machine knows no user"):
        cli.train(["--workdir=~nobody_here/x"])


CHANGES = [
    ("image_shape", ["a", 1, 2]),
    ("image_shape", [8, 8]),
    ("image_shape", "881"),
    ("image_shape", [8, 8, -1]),
    ("image_shape", None),
    ("config.seed", "0"),
    ("config.latent_dim", "3"),
    ("config.latent_dim", -1),
    ("config.net.hidden", ["a"]),
    ("config.net.hidden", 8),
    ("config.net", 3),
    ("config.variant", []),
    ("config.variant.beta", "x"),
    ("config.data.name", None),
    ("config.train", {}),
    ("config", []),
]


@pytest.mark.parametrize(("field", "value"), CHANGES)
def test_a_record_that_no_run_has_is_one_line(copy, field, value):
    record = json.loads((copy / "config.json").read_text())
    *parents, leaf = field.split(".")
    section = record
    for name in parents:
        section = section[name]
    section[leaf] = value
    (copy / "config.json").write_text(json.dumps(record))
    for program in (vae_jax.open_run, train_small):
        with pytest.raises(UserError) as refused:
            program(copy)
        assert "\n" not in str(refused.value)
        assert "config" in str(refused.value)
