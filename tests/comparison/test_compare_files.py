"""What the command leaves: a table in the terminal, tables of runs, figures, W&B."""

import csv
import io
import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import matplotlib.text
import numpy as np
import pytest
from helpers.made_up_studies import compare_study, config, elbo_parts, write_run, write_study
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from vae_jax import cli
from vae_jax.comparison import families, figures, intervals, tables
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.terminal import comparison_lines
from vae_jax.plots import comparison_plots, style
from vae_jax.report import comparison_files
from vae_jax.training import writers

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "study")


@pytest.fixture(scope="module")
def comparison(root):
    return compare_study(root)


@pytest.fixture(scope="module")
def out(root, tmp_path_factory):
    """The command itself, in a process of its own, without the report."""
    folder = tmp_path_factory.mktemp("out") / "deep" / "comparison"
    code = (
        "import sys; from vae_jax import cli; from vae_jax.report import comparison_files; "
        "comparison_files.FILES.pop('report.html'); sys.exit(cli.compare(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, f"--runs={root}", f"--out={folder}", "--metrics=mig,elbo,rate,distortion"]
    environment = {**os.environ, "COLUMNS": "100"}
    process = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    (folder / "printed.txt").write_text(process.stdout)
    return folder


def test_the_terminal_has_the_table(out, comparison):
    lines = (out / "printed.txt").read_text().splitlines()
    assert all(len(line) <= 100 or str(out) in line for line in lines)
    assert not any("\033" in line for line in lines)
    assert "40 done" in lines[0]
    table = lines[lines.index("mig   higher is better") :]
    (row,) = [line.split() for line in table[: table.index("")] if "beta=2" in line]
    summary = comparison.groups[3].summaries["mig"]
    assert row[:3] == ["beta", "beta=2", "8"]
    assert [float(row[3]), float(row[4]), float(row[6])] == pytest.approx([*summary[1:4]], abs=5e-4)
    text = "\n".join(lines)
    assert "elbo   nats per image, higher is better" in text
    assert "rate   nats per image, neither way is better" in text
    assert "against beta beta=1" in text
    assert "cannot tell" in text
    assert "13 comparisons" in text


def test_a_terminal_gets_colours(comparison):
    text = "\n".join(comparison_lines(comparison, colour=True))
    assert "\033[32mbetter\033[0m" in text
    assert "\033[31mworse\033[0m" in text


def test_every_run_is_in_the_tables(out, comparison):
    with (out / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    by_name = {row["name"]: row for row in rows}
    for run in comparison.runs:
        row = by_name[run.name]
        assert (row["group"], int(row["seed"]), row["status"]) == (run.group, run.seed, "done")
        assert row["config.variant.beta"] == ("" if run.group == "autoencoder" else str(run.config["variant.beta"]))
        assert float(row["metrics.distortion"]) == run.metrics["distortion"]
        assert (row["metrics.elbo"] == "") == (run.group == "autoencoder")
        assert float(row["steps_per_second"]) == 150.5
        assert (row["environment.git"], row["config.net.hidden"]) == ("abc", "[400, 200]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    table = parquet.read_table(out / "runs.parquet").to_pydict()
    assert list(table) == list(rows[0])
    assert table["metrics.distortion"] == [float(row["metrics.distortion"]) for row in rows]
    assert table["config.latent_dim"] == [4] * 40
    assert [str(value or "") for value in table["config.variant.beta"]] == [row["config.variant.beta"] for row in rows]


def test_tables_of_runs_that_hold_different_things(tmp_path):
    write_run(tmp_path, config(0, beta=1.0), elbo_parts(1, 2, mig=None))
    tree = config(1, beta=1)
    tree["net"]["hidden"], tree["latent_dim"] = "none, but \u00e9", 2**70
    write_run(tmp_path, tree, failed={"error": 'line 1\nline 2, "quoted"'})
    runs, _ = load_runs([tmp_path])
    tables.write_csv(tmp_path / "runs.csv", runs)
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    failed = next(row for row in rows if row["status"] == "failed")
    done = next(row for row in rows if row["status"] == "done")
    assert failed["error"] == 'line 1\nline 2, "quoted"'
    assert (failed["config.net.hidden"], done["config.net.hidden"]) == ("none, but \u00e9", "[400, 200]")
    assert (done["metrics.mig"], failed["metrics.mig"]) == ("nan", "")
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    tables.write_parquet(tmp_path / "runs.parquet", runs)


def test_no_text_in_runs_csv_is_a_formula_to_a_spreadsheet(tmp_path):
    for seed, name in enumerate(("=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "plain", "-4", "a=b")):
        tree = config(seed, beta=-1.5 + seed)
        tree["net"]["own"] = name
        write_run(tmp_path, tree, failed={"error": name}, name=f"run{seed}")
    runs, _ = load_runs([tmp_path])
    tables.write_csv(tmp_path / "runs.csv", runs)
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = ["'=1+1", "'+cmd", "'-2+3", "'@SUM(A1)", "'\tx", "plain", "-4", "a=b"]
    assert [row["error"] for row in rows] == [row["config.net.own"] for row in rows] == cells
    assert [float(row["config.variant.beta"]) for row in rows] == [-1.5 + i for i in range(8)]
    assert tables.columns(runs)["error"][0] == "=1+1"  # Parquet has types, and keeps the text


def test_what_is_no_character_is_written_as_its_escape(tmp_path):
    """In the name of a folder that another system made, say."""
    folder = write_run(tmp_path, config(0, beta=1.0), elbo_parts(1, 2), name="run")
    (run,), _ = load_runs([tmp_path])
    tables.write_csv(tmp_path / "runs.csv", [run._replace(name="run\udcff", config={**run.config, "net.\udcff": -0.0})])
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], row["config.net.\\udcff"], row["folder"]) == ("run\\udcff", "0.0", str(folder))


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "study", config(0, beta=1.0), elbo_parts(1, 2))
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it could not be imported
    monkeypatch.delitem(comparison_files.FILES, "report.html")
    assert cli.compare([f"--runs={tmp_path / 'study'}"]) == 0
    printed = capsys.readouterr().out
    assert "left out: runs.parquet needs pyarrow" in printed
    assert "pip install -c constraints.txt -e '.[compare]'" in printed
    assert printed.splitlines()[-1].endswith("comparison: rate_distortion.png, rate_distortion.svg, runs.csv")
    assert not (tmp_path / "study" / "comparison" / "runs.parquet").exists()
    assert load_runs([tmp_path / "study"])[1] == []  # what it leaves in a study is none of its runs


@pytest.mark.parametrize("name", ["rate_distortion", "score"])
def test_figures_open(out, name):
    with Image.open(out / f"{name}.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 800
    assert pixels.std() > 5
    tree = xml.etree.ElementTree.fromstring((out / f"{name}.svg").read_text())
    assert tree.tag.endswith("svg")


def test_figures_hold_the_numbers(comparison, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(comparison_plots, "rate_distortion", lambda files, *what: seen.update(plane=what))
    monkeypatch.setattr(comparison_plots, "score_by_strength", lambda files, *what: seen.update(score=what))
    figures.draw(comparison, tmp_path)
    (curve,), ends, title = seen["plane"]
    assert "40 runs" in title
    assert curve.points.shape == (32, 2)
    assert curve.pale.tolist() == intervals.is_dominated(*curve.points.T).tolist()
    assert curve.labels == ["beta=0.5", "1", "2", "4"]
    assert np.all(np.diff(curve.means[:, 0]) < 0)  # joined in the order of the strength
    mean = comparison.groups[0].summaries["distortion"].mean
    assert [(text, len(end.distortions)) for text, end in ends.items()] == [(f"autoencoder: {mean:.2f}, no rate", 8)]
    (line,), levels, x_name, y_name, _ = seen["score"]
    assert (line.name, line.strength.tolist(), x_name) == ("beta", [0.5, 1, 2, 4], "beta")
    assert y_name == "elbo, nats per image, higher is better"
    assert line.band.tolist() == [list(group.summaries["elbo"][1:4]) for group in comparison.groups[1:]]
    assert len(line.runs) == 32
    assert levels == []


def test_a_rate_far_out_is_at_the_end_of_the_picture(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(comparison_plots, "rate_distortion", lambda files, *what: seen.extend(what))
    for beta, rate in ((0.0, 400), (1.0, 6), (2.0, 3), (4.0, 0.01)):
        write_run(tmp_path, config(0, beta=beta), elbo_parts(rate, 10 + beta))
    figures.draw(compare_study(tmp_path), tmp_path)
    (curve,), ends, title = seen
    assert curve.labels == ["beta=1", "2", "4"]  # and not the smallest, however small
    assert ends == {"beta=0: 10.00, rate 400": (0, (10.0,))}  # in the colour of its family
    assert "4 runs" in title


def test_families_follow_each_variants_own_strength(tmp_path):
    trees = []
    for seed in range(2):
        trees += [config(seed, beta=beta) | {"latent_dim": latents} for beta in (4.0, 1.0) for latents in (2, 8)]
        for gamma in (10.0, 30.0):
            trees.append(config(seed, gamma=gamma) | {"latent_dim": 2})
            trees[-1]["variant"]["name"] = "factor"
        trees.append(config(seed) | {"latent_dim": 2})
        trees[-1]["variant"]["name"] = "autoencoder"
    for i, tree in enumerate(trees):
        write_run(tmp_path, tree, elbo_parts(1 + i, 2 + i))
    drawn = families.families(compare_study(tmp_path))
    assert {family.name: (family.field, family.strengths) for family in drawn if family.field} == {
        "beta": ("variant.beta", (1, 4)),  # the latent_dim of most is not said
        "beta latent_dim=8": ("variant.beta", (1, 4)),
        "factor": ("variant.gamma", (10, 30)),
    }
    assert [family.groups[0].name for family in drawn if not family.field] == ["autoencoder"]


def test_figures_take_any_name_and_many_strengths(tmp_path):
    root = tmp_path / "a $x_{ study $"
    for seed in range(2):
        for beta in range(15):
            tree = config(seed, beta=float(beta))
            tree["variant"]["name"] = "$beta_$ {0} <b>"
            write_run(root, tree, elbo_parts(10 / (1 + beta), 20 + beta + seed), name=f"{seed} {beta}")
    write_run(root, config(0), {"distortion": 3.0})
    comparison = compare_study(root)
    assert [file.name for file in figures.draw(comparison, tmp_path)] == [
        "rate_distortion.png", "rate_distortion.svg", "score.png", "score.svg",
    ]  # fmt: skip
    first = [file.read_bytes() for file in sorted(tmp_path.glob("*.svg"))]
    figures.draw(comparison, tmp_path)
    assert [file.read_bytes() for file in sorted(tmp_path.glob("*.svg"))] == first


def test_figures_are_left_out_where_there_is_nothing_to_draw(tmp_path):
    write_run(tmp_path, config(0), {"distortion": 2.0})
    assert figures.draw(compare_study(tmp_path), tmp_path) == []


def test_wandb_gets_the_table_and_the_report(root, tmp_path, monkeypatch):
    """Kept offline, in the group of the study, and readable again."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    started, logged = {}, []

    class Run:
        id = "x"

        def log(self, values):
            logged.append(values)

        def finish(self, exit_code):
            pass

    def start(self):
        started.update(self._settings)
        return Run()

    monkeypatch.setattr(writers.WandbMirror, "_start", start)
    monkeypatch.setattr(figures, "draw", lambda comparison, out: [])
    monkeypatch.setitem(comparison_files.FILES, "report.html", lambda file, comparison: file.write_text("<p>hello</p>"))
    assert cli.compare([f"--runs={root}", f"--out={tmp_path}", "--wandb"]) == 0
    assert (started["project"], started["group"], started["mode"]) == ("lab", "study", "online")
    table, page = logged[0]["comparison"], logged[1]["report"]
    assert table.columns[:5] == ["group", "metric", "failed", "n", "mean"]
    assert len(table.data) == 4 * 4 + 1
    assert "hello" in io.StringIO(page.html).read()


@pytest.mark.parametrize("count", [3, 8, 20])
@pytest.mark.parametrize("alone", [False, True], ids=["one family", "families of one"])
def test_names_in_a_crowded_picture_stand_apart(tmp_path, monkeypatch, count, alone):
    rng, drawn = np.random.default_rng(count), []
    for seed in range(2):
        for i in range(count):
            tree = config(seed, beta=1.0 if alone else float(round(0.25 * 1.35**i, 3)))
            tree["net"]["name"] = f"net{i}" if alone else "mlp"
            rate = 14 / (1 + 0.3 * i) + 0.1 * rng.normal()
            write_run(tmp_path, tree, elbo_parts(rate, 28 - 1.3 * rate + 0.2 * rng.normal()))
        for noise in range(3):
            tree = config(seed, noise=float(noise))
            tree["variant"]["name"] = "autoencoder"
            write_run(tmp_path, tree, {"distortion": 3 + 0.2 * noise})
    monkeypatch.setattr(style, "save", lambda figure, files: drawn.append(figure))
    figures.rate_distortion(compare_study(tmp_path), tmp_path)
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (axes,) = figure.axes
    # Of a name with a line to it the box of the text alone.
    names = [matplotlib.text.Text.get_window_extent(text, renderer) for text in axes.texts if not is_diagonal(text)]
    assert len(names) == 3 + (0 if alone else sum(text.get_fontweight() == "bold" for text in axes.texts))
    assert not any(first.overlaps(second) for i, first in enumerate(names) for second in names[:i])
    if alone:
        keys = axes.get_legend().get_lines()
        assert len({(line.get_color(), line.get_marker()) for line in keys}) == count


def is_diagonal(text):
    return text.get_text().startswith("ELBO")


def test_the_score_leaves_out_what_is_in_other_nats(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(comparison_plots, "score_by_strength", lambda files, *what: seen.extend(what))
    for beta in (1.0, 2.0):
        for name in ("bernoulli", "gaussian"):
            tree = config(0, beta=beta)
            tree["likelihood"]["name"] = name
            write_run(tmp_path, tree, elbo_parts(5, 10 if name == "bernoulli" else -90))
    comparison = compare_study(tmp_path)
    figures.score(comparison, tmp_path)
    (line,), levels, *_ = seen
    assert levels == []
    baseline = next(run for run in comparison.runs if run.group == comparison.baseline)
    assert set(line.band[:, 0]) == {baseline.metrics["elbo"]}
