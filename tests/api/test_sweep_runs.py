"""Many runs on images of one's own as one population, from Python; the folder of the study, and its comparison."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import run_folder, small_fit
from helpers.small_fit import SMALL, blobs

import vae_jax
from vae_jax import cli
from vae_jax.api import sweep_runs
from vae_jax.comparison.wording import format_p, verdict
from vae_jax.errors import UserError
from vae_jax.sweeps import study

pytestmark = pytest.mark.usefixtures("undrawn")

IMAGES = blobs()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A study of two betas and two seeds."""
    return small_fit.sweep(IMAGES, tmp_path_factory.mktemp("sweep") / "study", beta=[1, 4], seeds=2)


def test_lists_are_axes_and_seeds_come_last(runs):
    assert [(run.config["variant"]["beta"], run.config["seed"]) for run in runs] == [(1, 0), (1, 1), (4, 0), (4, 1)]
    assert [run.folder for run in runs] == runs.folders
    assert runs.states() == ["done"] * 4


def test_the_folder_is_a_study_of_one_program_that_the_command_line_understands(runs, capsys):
    entries = study.read_plan(runs.folder)
    assert [entry.id for entry in entries] == [folder.name for folder in runs.folders]
    assert len({entry.program for entry in entries}) == 1
    assert [study.problem(folder) for folder in runs.folders] == [None] * 4
    assert study.foreign_names(runs.folder, entries) == []
    (file,) = (runs.folder / "programs").glob("study_*.py")
    assert cli.sweep([f"--config={file}", f"--workdir={runs.folder}"]) == 0
    assert "4 runs in 1 program, 4 ended before" in capsys.readouterr().out


def test_the_data_are_written_once(runs):
    assert [file.relative_to(runs.folder) for file in runs.folder.rglob("*.npz")] == [Path("programs/data.npz")]


def test_a_run_is_called_as_the_command_line_calls_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_runs, "train_members", lambda file: 0)
    runs = vae_jax.sweep("digits", beta=[1.0, 2.0, 4.0, 8.0], seeds=8, workdir=tmp_path)
    points = [{"variant.beta": beta, "seed": seed} for beta in (1.0, 2.0, 4.0, 8.0) for seed in range(8)]
    configs = [vae_jax.load_config("digits", **point).to_dict() for point in points]
    names = [study.run_id(config, point) for config, point in zip(configs, points, strict=True)]
    assert [folder.name for folder in runs.folders] == names


@pytest.mark.full
def test_a_member_is_what_the_run_alone_would_be(runs, tmp_path):
    file = runs.folders[2] / "config.json"
    assert cli.train([f"--config={file}", f"--workdir={tmp_path}/alone"]) == 0
    alone, member = run_folder.records(tmp_path / "alone"), run_folder.records(runs.folders[2])
    assert [record["step"] for record in alone] == [record["step"] for record in member]
    np.testing.assert_allclose([r["loss"] for r in alone], [r["loss"] for r in member], rtol=1e-5)


@pytest.mark.full
def test_the_same_call_trains_what_has_been_added(runs, capsys):
    more = small_fit.sweep(IMAGES, runs.folder, beta=[1, 4], seeds=3)
    assert len(more) == 6
    assert "6 runs in 1 program, 4 ended before" in capsys.readouterr().out
    assert more[5].config["seed"] == 2


def test_a_table_in_a_terminal_and_in_a_notebook(runs):
    head, columns, *rows = repr(runs).splitlines()
    assert head == f"4 runs in {runs.folder}"
    assert columns.split() == ["beta", "seed", "elbo", "distortion", "rate", "state"]
    assert [row.split()[:2] for row in rows] == [["1", "0"], ["1", "1"], ["4", "0"], ["4", "1"]]
    assert "<td>4</td><td>1</td>" in runs._repr_html_()
    assert len(runs[1:]) == 3


def test_runs_are_compared(runs):
    comparison = vae_jax.compare(runs)
    assert (comparison.by, comparison.baseline) == (("variant.beta",), "beta=1")
    assert comparison.folder == str(runs.folder)
    (difference,) = [change for change in comparison.differences if change.metric == "elbo"]
    assert (difference.group, difference.pairs) == ("beta=4", 2)
    assert "against beta=1" in repr(comparison)
    page = comparison._repr_html_()
    assert "<td>beta=4</td><td>2</td>" in page
    assert f"<td>{format_p(difference.p)}</td><td>{verdict(difference)}</td></tr>" in page


def test_models_and_folders_are_compared(runs):
    comparison = vae_jax.compare([runs[0], str(runs.folders[2])])
    assert [group.name for group in comparison.groups] == ["beta=1", "beta=4"]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"bta": [1]}, r"bta: 'bta' is unknown; .*did you mean 'beta'"),
        ({"beta": []}, "beta: a list of no values is not allowed"),
        ({"seed": 1}, "seed: give seeds=4"),
        ({"beta": [1, "x"]}, r"1 of 2 points of the sweep are wrong; nothing is launched\s+beta: 'x' is not"),
        ({"variant": ["beta", "betta"]}, r"variant: 'betta' is unknown; .*did you mean 'beta'"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(tmp_path, keywords, message):
    with pytest.raises(UserError, match=f"^{message}"):
        vae_jax.sweep(IMAGES, workdir=tmp_path / "study", **SMALL | keywords)
    assert not (tmp_path / "study").exists()


def test_names_are_axes_too_and_fields_may_be_of_some_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_runs, "train_members", lambda file: 0)
    runs = vae_jax.sweep(IMAGES, variant=["beta", "tcvae"], hidden=[(8,), (4, 4)], workdir=tmp_path, seeds=[3])
    assert [point["net.hidden"] for point in runs.points] == [(8,), (4, 4)] * 2
    assert repr(runs).splitlines()[1].split()[:3] == ["variant", "hidden", "seed"]
    assert {entry.program.split("_")[0] for entry in study.read_plan(tmp_path)} == {"beta", "tcvae"}


def test_a_value_holds_for_every_variant_that_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_runs, "train_members", lambda file: 0)
    runs = vae_jax.sweep(IMAGES, variant=["beta", "tcvae"], beta=3.0, workdir=tmp_path)
    assert [(point["variant.name"], point["variant.beta"]) for point in runs.points] == [("beta", 3), ("tcvae", 3)]


def test_a_stopped_study_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_runs, "train_members", lambda file: 130)
    with pytest.raises(
        KeyboardInterrupt, match=r"all is saved; to go on: the same call with workdir=.* sweep --config="
    ):
        vae_jax.sweep(IMAGES, beta=[1, 2], workdir=tmp_path)
    (record,) = (tmp_path / "programs").glob("study_*.json")
    assert [point["variant.beta"] for point in json.loads(record.read_text())["points"]] == [1, 2]
