"""The metrics of a run from the command line: what joins what, what is refused, what goes on."""

import dataclasses
import fcntl
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from vae_jax import cli, metrics, registry
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError
from vae_jax.metrics import sap
from vae_jax.metrics._requests import parse_requests
from vae_jax.training import evaluate_run, writers
from vae_jax.training.bars import Progress
from vae_jax.training.metric_runner import merge_evaluation, read_evaluation
from vae_jax.training.recorder import Recorder, report_population
from vae_jax.training.run_results import numbers_table
from vae_jax.training.train_run import finished

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A short run on small sprites, measured at its end."""
    folder = tmp_path_factory.mktemp("run")
    words = [
        f"--config={ROOT / 'configs/sprites.py'}",
        "--config.data.sizes=(3, 2, 5, 4, 4)",
        "--config.train.steps=30",
    ]
    words += ["--config.data.resolution=16", "--config.net.hidden=(32,)", "--config.parallel.devices=1"]
    words += ["--config.evaluation.metrics=mig:points=500,likelihood:k=20:images=30"]
    assert cli.train([*words, f"--workdir={folder}"]) == 0
    return folder


def results(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_a_run_is_measured_at_its_end(run_folder):
    found = results(run_folder)
    assert {"elbo", "step", "mig:points=500", "mig:points=500.shape", "likelihood:k=20:images=30"} <= found.keys()
    assert found["mig:points=500.protocol"] == "points=500 bins=20"
    assert found["likelihood:k=20:images=30.images"] == 30
    assert found["likelihood:k=20:images=30"] > found["elbo"] - 3
    assert not (run_folder / "evaluation.unfinished.json").exists()


def test_what_is_asked_for_joins_what_is_there(run_folder, capsys):
    before = results(run_folder)
    assert cli.evaluate([f"--workdir={run_folder}", "--metrics=mig:points=400,mig:points=500"]) == 0
    after = results(run_folder)
    assert "[2/2] mig:points=500 =" in capsys.readouterr().out
    assert after.keys() - before.keys() == {name.replace("500", "400") for name in before if name.startswith("mig")}
    assert {name: after[name] for name in before} == before  # the same key: the same numbers


def test_results_of_another_checkpoint_are_not_kept(tmp_path):
    file = tmp_path / "evaluation_best.json"
    merge_evaluation(file, "mig", {"mig": 0.1, "mig.protocol": "points=10"}, step=10)
    merge_evaluation(file, "sap", {"sap": 0.2}, step=10)
    assert read_evaluation(file, 10) == {"mig": 0.1, "mig.protocol": "points=10", "sap": 0.2, "step": 10}
    merge_evaluation(file, "sap", {"sap": 0.3}, step=20)
    assert json.loads(file.read_text()) == {"sap": 0.3, "step": 20}


def test_metrics_alone_do_not_finish_a_run(tmp_path):
    merge_evaluation(tmp_path / "evaluation.json", "mig", {"mig": 0.1}, step=10)
    assert not finished(tmp_path, 10)


REFUSED = {
    "migg": r"--metrics: 'migg' is unknown; .* did you mean 'mig'\?",
    "mig,likelihood:kk=3": r"--metrics=likelihood:kk=3: 'kk' is unknown; known: images, k; did you mean 'k'\?",
    "likelihood:k=many": "--metrics=likelihood:k=many: 'many' is not allowed",
    "mig,likelihood:k=0": "--metrics=likelihood:k=0: k = 0 is not allowed; give at least 1",
    "mig,irs:quantile=nan": "--metrics=irs:quantile=nan: quantile = nan is not allowed; give at least 0.01",
    "mig,irs:quantile=2": "--metrics=irs:quantile=2: quantile = 2.0 is not allowed; give at most 1.0",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_measured_is_refused_before_anything_is(words, run_folder):
    before = results(run_folder)
    with pytest.raises(UserError, match=REFUSED[words]):
        cli.evaluate([f"--workdir={run_folder}", f"--metrics={words}"])
    assert results(run_folder) == before


def test_metrics_that_the_data_or_the_variant_cannot_have_are_refused_before_training(tmp_path):
    words = [f"--config={ROOT / 'configs/digits.py'}:autoencoder", f"--workdir={tmp_path / 'run'}"]
    words += ["--config.parallel.devices=1", "--config.train.steps=2"]
    for metric, needs in {"mig": "a dataset with factors", "likelihood": "codes have a density"}.items():
        with pytest.raises(UserError, match=f"--metrics={metric}: is not for this run; it needs .*{needs}"):
            cli.train([*words, f"--config.evaluation.metrics={metric}"])
    assert not (tmp_path / "run").exists()


def test_all_is_every_metric_that_the_run_can_have(run_folder, monkeypatch, capsys):
    made = metrics.names()
    asked = []

    def measured(words, run, dataset, file, say):
        asked.append(words)
        return {}, []

    monkeypatch.setattr(evaluate_run, "run_metrics", measured)
    assert cli.evaluate([f"--workdir={run_folder}", "--metrics=mig:points=7,all"]) == 0
    words = asked[0].split(",")
    assert words[0] == "mig:points=7"
    assert set(made) - set(words) == {"udr", "ais", "likelihood", "codebook_use"}
    shown = capsys.readouterr().out
    assert "udr is left out: it needs several models" in shown
    assert "ais is left out unless it is named: it takes" in shown


def test_a_metric_that_cannot_be_computed_does_not_stop_the_others(run_folder, monkeypatch, capsys):
    def compute(context, key, *, train: int = 10, test: int = 10):
        raise UserError("codes: 3 of 10 are not finite")

    monkeypatch.setattr(sap, "METRIC", dataclasses.replace(sap.METRIC, compute=compute))
    assert cli.evaluate([f"--workdir={run_folder}", "--metrics=sap,mig:points=300"]) == 1
    shown = capsys.readouterr()
    assert "sap: error: codes: 3 of 10 are not finite" in shown.out
    assert "could not be computed: sap" in shown.err
    assert "mig:points=300" in results(run_folder)
    assert "sap" not in results(run_folder)


def test_numbers_that_round_to_zero_have_no_sign(run_folder, tmp_path, monkeypatch, capsys):
    def compute(context, key, *, train: int = 10, test: int = 10):
        return {"sap": -1e-9}

    monkeypatch.setattr(sap, "METRIC", dataclasses.replace(sap.METRIC, compute=compute))
    assert cli.evaluate([f"--workdir={run_folder}", "--metrics=sap"]) == 0
    recorder = Recorder(load_config("digits"), tmp_path, 0, Spoken(), print)
    recorder.evaluation(5, "validation", {"loss": -1e-9, "elbo": -0.001, "rate": -0.0})
    recorder.close(0)
    report_population(Spoken(), 5, [{"elbo": -1e-9}] * 2)
    print(numbers_table({"step 5": {"elbo": -1e-9, "rate": -0.0, "active_units": 0}}))
    shown = capsys.readouterr().out
    assert re.search(r"^  elbo +0\.000  nats per image, higher is better$", shown, re.M)
    assert re.search(r"^  rate +0\.000  nats per image$", shown, re.M)
    assert re.search(r"^  active_units +0  latents$", shown, re.M)
    assert shown.count("  nats per image\n") == 3  # of a run's records, a population's, and the rate
    assert "sap = 0.0000, higher is better " in shown
    assert "loss 0.00  elbo 0.00  rate 0.00" in shown
    assert "elbo 0.00 (0.00 to 0.00)" in shown
    assert not re.search(r"-0\.0+\b(?![1-9])", shown)


class Spoken(Progress):
    """Progress that prints every line."""

    def __init__(self):
        pass

    def report(self, step, text, lasting=True):
        print(text)


OWN_METRIC = """
from vae_jax.metrics import Metric


def compute(context, key, *, bins: int = 20):
    codes = context.codes(0)
    return {"mine": float(codes.std() * bins), "mine.x": float(len(codes))}


METRIC = Metric(compute, unit="metres", higher_is_better=True, minimum={"bins": 1})
"""


def test_a_metric_of_the_users_own_joins_the_others_by_its_dotted_name(run_folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "lab_of_a_run").mkdir()
    (tmp_path / "lab_of_a_run/mine.py").write_text(OWN_METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    before = results(run_folder)
    word = "lab_of_a_run.mine:bins=30"
    assert cli.evaluate([f"--workdir={run_folder}", f"--metrics={word},mig:points=350"]) == 0
    label, found = "lab_of_a_run/mine:bins=30", results(run_folder)
    assert f"[1/2] {label} = " in capsys.readouterr().out
    added = {name for name in found.keys() - before.keys() if not name.startswith("mig")}
    assert added == {label, f"{label}.x", f"{label}.protocol"}
    assert (found[f"{label}.x"], found[f"{label}.protocol"]) == (51, "bins=30")
    assert metrics.higher_is_better(f"{label}") is True
    # Done anew it takes the place of itself, and of nothing else.
    assert cli.evaluate([f"--workdir={run_folder}", f"--metrics={label}"]) == 0
    assert results(run_folder) == found
    with pytest.raises(UserError, match=r"--metrics=lab_of_a_run.mine:bins=0: bins = 0 is not allowed"):
        cli.evaluate([f"--workdir={run_folder}", "--metrics=lab_of_a_run.mine:bins=0"])


class Mirror:
    """Keeps what would go to W&B."""

    sent: list

    def __init__(self, workdir, settings, config, say=print):
        self.sent.append((workdir, settings["mode"]))

    def summary(self, values, prefix="final"):
        self.sent.append((prefix, values))

    def close(self, exit_code=0):
        self.sent.append("closed")


def test_what_is_found_of_a_finished_run_goes_to_its_mirror(run_folder, monkeypatch):
    monkeypatch.setattr(writers, "WandbMirror", Mirror)
    Mirror.sent = []
    assert cli.evaluate([f"--workdir={run_folder}", "--metrics=mig:points=200"]) == 0
    started, (prefix, values), closed = Mirror.sent
    assert started == (run_folder, "disabled")
    assert (prefix, closed) == ("final", "closed")
    assert {"mig:points=200", "elbo"} <= values.keys()


def test_a_run_that_is_still_training_is_measured_at_its_last_checkpoint(run_folder, monkeypatch, tmp_path):
    """Its folder is held by the process that trains, whose W&B run is left to it."""

    running = tmp_path / "running"
    shutil.copytree(run_folder, running)
    for file in running.glob("evaluation*.json"):
        file.unlink()
    config = json.loads((running / "config.json").read_text())
    config["config"]["train"]["steps"] = 60
    (running / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(writers, "WandbMirror", Mirror)
    Mirror.sent = []
    handle = os.open(running, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert cli.evaluate([f"--workdir={running}", "--metrics=mig:points=200"]) == 0
    os.close(handle)
    assert json.loads((running / "evaluation_30.json").read_text())["step"] == 30
    assert not (running / "evaluation.json").exists()
    assert Mirror.sent == []


def test_what_limits_a_parameter_names_one():
    for name in metrics.names():
        metric = metrics.get(name)
        assert {*metric.minimum, *metric.maximum} <= registry.keyword_fields(metric.compute).keys()
        for field, least in metric.minimum.items():
            with pytest.raises(UserError, match=rf"--metrics={name}:{field}=-1: {field} = -1.* give at least {least}"):
                parse_requests(f"{name}:{field}=-1")
            parse_requests(f"{name}:{field}={least}")
