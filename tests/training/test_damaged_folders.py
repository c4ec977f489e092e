"""Every file of a run's folder, emptied, junk, cut or missing: each program ends well or says why in one line."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from helpers.run_folder import newest, results
from helpers.small_run import train_small

from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.training.open_run import open_run

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")

DAMAGES = {
    "emptied": lambda file: file.write_bytes(b""),
    "junk": lambda file: file.write_bytes(b"\xff\x00{]" * 40),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "missing": lambda file: file.unlink(),
}
FIELDS = {"train.steps": 40, "evaluation.every": 20}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of one finished run."""
    study = tmp_path_factory.mktemp("damaged") / "study"
    assert train_small(study / "run", **FIELDS) == 0
    return study


def kinds(folder):
    """One file of each kind, of the newest checkpoint: of arrays that lie beside one another the largest."""
    files = [file for file in [*folder.iterdir(), *newest(folder).rglob("*")] if file.is_file()]
    arrays = [file for file in files if file.parent.name == "d"]
    kept = [file for file in files if file not in arrays]
    return [file.relative_to(folder) for file in [*kept, max(arrays, key=lambda file: file.stat().st_size)]]


def ends_well(program, *words):
    """Whether the program ended with status 0 or 1; False where it said in one line why it cannot."""
    try:
        status = program(*words)
    except UserError as error:
        status, message = 2, str(error)
    assert status in (0, 1) or ("\n" not in message and len(message) < 600)
    return status != 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore's threads, now and then
@pytest.mark.full
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_program_ends_well_or_says_why_whatever_is_damaged(finished, tmp_path, damage, monkeypatch):
    monkeypatch.setattr("vae_jax.report.comparison_files.write_files", lambda out, comparison: [])
    for file in kinds(finished / "run"):
        study = tmp_path / "study"
        shutil.copytree(finished, study)
        folder = study / "run"
        DAMAGES[damage](folder / file)
        fatal = file.name == "config.json"
        if file.parent != Path():  # that training takes the one before it too is shown where checkpoints are tested
            assert open_run(folder).step in (20, 40)
        else:
            ends_well(cli.compare, [f"--runs={study}"])
            assert ends_well(cli.explore, [f"--workdir={folder}"]) or fatal, file
            assert ends_well(cli.evaluate, [f"--workdir={folder}", "--metrics=active_units"]) or fatal, file
            (folder / "evaluation.json").unlink(missing_ok=True)  # so that it goes on from what is whole
            assert ends_well(partial(train_small, folder, **FIELDS)) or fatal, file
            if not fatal and file.name != "metrics.jsonl":
                assert results(folder) == results(finished / "run"), file
        shutil.rmtree(study)
