"""The numbers of papers: what a row gives, the page, and that both say what the JSON holds."""

import itertools
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from experiments.reproduce import page, program
from experiments.reproduce.measure import row_overrides, seconds_in_all, summarize
from experiments.reproduce.rows import ROWS, choose_rows
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.files import read_json
from vae_jax.metrics._requests import parse_requests

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reproductions.md"
RESULTS = read_json(PAGE.with_suffix(".json"))
BY_NAME = {row.name: row for row in ROWS}


def found(values, **fields):
    """What a row gave, as the JSON holds it."""
    made = {
        "steps": [600],
        "seconds": 90.0,
        "devices": "2 x cpu",
        "jax": "0.10.2",
        "commit": "abc",
        "date": "2026-01-01",
    }
    return summarize(values) | made | {"active_units": 19, "command": "python -m x", "error_over_images": 0.25} | fields


def test_the_page_is_of_the_numbers_beside_it():
    assert PAGE.read_text() == page.render(RESULTS)
    assert RESULTS.keys() <= BY_NAME.keys()


@pytest.mark.parametrize("name", RESULTS)
def test_what_was_measured_stands_in_the_docstring_of_its_config(name):
    file = ROOT / BY_NAME[name].config.partition(":")[0]
    assert page.row_line(BY_NAME[name], RESULTS[name]) in " ".join(file.read_text().split())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_a_config_and_a_metric_that_there_are(row):
    small = parse_config([f"--config={ROOT / row.config}", *(f"--config.{n}={v}" for n, v in row.smoke.items())])
    assert small.data.name in ("digits", "sprites")
    assert small.train.steps == 20
    parse_requests(row.metric)
    assert row.result in (row.metric, "elbo")
    paths = [("data.path", str(Path.cwd()))] if row.data else []
    assert row_overrides(row, {"mnist": Path(), "binarized_mnist": Path()}, smoke=False) == paths
    assert row_overrides(row, {"mnist": None, "binarized_mnist": None}, smoke=False) == []


def test_the_readme_quotes_the_page():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    text = (ROOT / "README.md").read_text()
    quoted = text.partition("## Published numbers, measured again")[2].partition("\n## ")[0]
    lines = [line for line in quoted.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == 5
    assert set(lines) <= set(rows)


def test_intervals_are_student_t():
    summary = summarize([86.0, 87.0, 88.0, 87.0])
    assert summary["mean"] == 87.0
    half = 3.182446 * np.std([86, 87, 88, 87], ddof=1) / 2  # the table's t of 3 degrees of freedom
    np.testing.assert_allclose([summary["low"], summary["high"]], [87 - half, 87 + half], rtol=1e-6)
    assert math.isnan(summarize([86.0])["low"])


@pytest.mark.parametrize(
    ("name", "values", "verdict"),
    [
        ("vae_k1", [86.30, 86.31, 86.32, 86.30], "reproduced"),  # within half a nat
        ("vae_k1", [86.0, 86.1, 86.05, 86.1], "better by 0.70 nats"),
        ("vae_k1", [88.0, 88.1, 88.05, 88.1], "worse by 1.30 nats"),
        ("vae_k1", [80.0, 95.0, 88.0, 90.0], "reproduced"),  # in the interval
        ("vq", [19.0, 19.1, 19.05], "better by 0.60 dB"),
        ("vq", [18.0, 18.1, 18.05], "worse by 0.40 dB"),
        ("vq", [18.0, 18.9], "reproduced"),  # within a tenth
        ("iwae_k5", [90.0, 80.0], "better by 0.54 nats"),  # two seeds have no interval to speak of
        ("vae_k1", [95.0], "worse by 8.24 nats"),
        ("realnvp", [82.0, 82.1], "better by 0.38 nats than the VampPrior's 82.43"),
        ("realnvp", [83.0, 83.0], "worse by 0.57 nats than the VampPrior's 82.43"),
        ("mig_tcvae", [0.1, 0.2], "no published number"),
    ],
)
def test_a_row_is_reproduced_better_or_worse(name, values, verdict):
    assert page.verdict(BY_NAME[name], found(values)) == verdict


def test_the_page_has_every_row_and_says_which_were_not_run():
    text = page.render({"vae_k1": found([87.0, 87.2, 87.1, 86.9], change_with_5000_draws=-0.04)})
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(lines) == len(ROWS)
    assert "| **87.05** | 86.84 to 87.26 | 4 | ± 0.25 | reproduced |" in lines[0]
    assert all("| not run: " in line for line in lines[1:])
    assert "5,000 draws in place of fewer change it by -0.04" in text


def test_rows_of_one_config_share_their_runs():
    for row, other in itertools.combinations(ROWS, 2):
        assert (row.folder == other.folder) == (row.config == other.config)
        if row.folder == other.folder:
            assert (row.data, row.smoke, row.seeds) == (other.data, other.smoke, other.seeds)


def test_rows_are_chosen_by_name_and_by_table():
    assert [row.name for row in choose_rows(("sigma", "vq"))] == ["sigma_shared", "sigma_fixed", "vq"]
    assert choose_rows(()) == list(ROWS)
    with pytest.raises(UserError, match=r"--only: 'vqq' is unknown; .*did you mean 'vq'\?"):
        choose_rows(("vqq",))


def test_what_is_found_joins_the_page(tmp_path, capsys):
    file = tmp_path / "made/page.md"
    program.check_page(file)
    program.report(BY_NAME["vq"], found([18.4, 18.5, 18.45]), file)
    program.report(BY_NAME["fsq"], found([18.4, 18.5, 18.45]), file)
    program.report(BY_NAME["vamp"], None, file)  # it was stopped
    assert capsys.readouterr().out.startswith("vq: 18.45 dB (3 seeds, 18.33 to 18.57): reproduced\nfsq: ")
    text = file.read_text()
    assert text.count("not run") == len(ROWS) - 2
    assert "by `psnr`" in text
    file.unlink()
    assert program.main(["--render", f"--page={file}"]) == 0
    assert file.read_text() == text


def test_a_page_that_cannot_be_is_refused_before_anything_runs(tmp_path):
    for name in ("page.json", "folder.md"):
        (tmp_path / "folder.md").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=r"--page: .* is not allowed; give a file that ends in \.md"):
            program.main([f"--page={tmp_path / name}"])
    (tmp_path / "page.json").write_text("{broken")
    with pytest.raises(UserError, match=r"page\.json: cannot be read"):
        program.main([f"--page={tmp_path / 'page.md'}"])
    assert (tmp_path / "page.json").read_text() == "{broken"


def test_the_seconds_of_all_starts_are_added():
    assert seconds_in_all([{"seconds": s} for s in (1.0, 4.0, 0.5, 2.0, 3.0)]) == 7.0
    assert seconds_in_all([{"seconds": 5.0}]) == 5.0


@pytest.mark.full
def test_rows_are_made_on_a_few_steps_and_found_when_asked_again(tmp_path, monkeypatch, capsys):
    def works(output):
        return [line for line in output.splitlines() if line.endswith(": it works")]

    words = ["--smoke", f"--workdir={tmp_path}"]
    command = [sys.executable, "-m", "experiments.reproduce", "--only=vae_k1,dreg_k5", *words]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    assert works(done.stdout) == ["vae_k1: it works", "dreg_k5: it works"]
    assert "2 ended before" not in done.stdout
    # Nothing is trained or computed again, which needs no process of its own.
    monkeypatch.setattr(program, "ProcessPoolExecutor", lambda count, context: ThreadPoolExecutor(count))
    assert program.main(["--only=vae_k1", *words]) == 0
    output = capsys.readouterr().out
    assert works(output) == ["vae_k1: it works"]
    assert "2 ended before" in output
    assert {path.name for path in (tmp_path / "smoke").iterdir()} == {
        BY_NAME["vae_k1"].folder,
        BY_NAME["dreg_k5"].folder,
    }
