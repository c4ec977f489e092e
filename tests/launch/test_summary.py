"""The groups of a study as a launch shows them at its end, and its state while it runs."""

import json

import pytest
from helpers.made_up_studies import config, write_run
from helpers.terminal import Terminal

from vae_jax import screen
from vae_jax.comparison.grouping import group_runs
from vae_jax.comparison.load_runs import load_runs
from vae_jax.launch import summary
from vae_jax.launch.progress import read_progress
from vae_jax.launch.stopping import StopSignals
from vae_jax.launch.summary import best_group, group_lines, print_summary, read_groups
from vae_jax.sweeps.group_names import select_fields
from vae_jax.sweeps.study import PlanEntry

DONE = {"loss": 1.0, "elbo": -99.0, "step": 500}
"""An evaluation, whose ELBO is of the test split: no group is chosen by it."""


def add_run(root, tree, elbo, evaluation=DONE, **files):
    """A run of a study whose last evaluation of the validation split found this ELBO."""
    folder = write_run(root, tree, evaluation, **files)
    records = [{"step": step, "split": "validation", "elbo": elbo - 500 + step} for step in (250, 500)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder.name


def programs(root, names, missing=()):
    (root / "programs").mkdir(exist_ok=True)
    return read_progress({"program": [PlanEntry(name, "program", 500, (), []) for name in (*names, *missing)]}, root)


def add_betas(root, **variant):
    elbos = {1.0: (-24.0, -25.0, -26.0), 4.0: (-28.0, -28.0, -28.0), 0.25: (-26.0, -27.0, -28.0)}
    return [
        add_run(root, config(seed, beta=beta, **variant), elbo)
        for beta, values in elbos.items()
        for seed, elbo in enumerate(values)
    ]


def test_groups_have_the_names_of_a_comparison(tmp_path):
    names = add_betas(tmp_path)
    tree = config(0, noise=0.0)
    tree["variant"]["name"] = "autoencoder"
    names.append(add_run(tmp_path, tree, -20.0))
    groups, missing = read_groups(programs(tmp_path, names), tmp_path)
    runs, _ = load_runs([tmp_path])
    assert [group.name for group in groups] == list(group_runs(runs, select_fields((), [r.config for r in runs]))[1])
    assert missing == 0


def test_the_best_comes_first_with_its_mean_and_standard_error(tmp_path):
    lines = group_lines(programs(tmp_path, add_betas(tmp_path)), tmp_path)
    assert lines == [
        "validation ELBO by group, nats per image, higher is better: mean ± standard error over seeds "
        "(compare has the test split)",
        "  group      done    ELBO",
        "  beta=1      3/3  -25.00  ± 0.58  best",
        "  beta=0.25   3/3  -27.00  ± 0.58",
        "  beta=4      3/3  -28.00  ± 0.00",
    ]


def test_what_has_failed_or_was_dropped_is_no_part_of_a_mean(tmp_path):
    names = [add_run(tmp_path, config(0, beta=1.0), -24.0)]
    names.append(add_run(tmp_path, config(1, beta=1.0), -90.0, None, failed={"step": 3, "error": "not finite"}))
    names.append(add_run(tmp_path, config(2, beta=1.0), -90.0, None, dropped={"step": 3}))
    assert group_lines(programs(tmp_path, names), tmp_path)[2] == "  all runs   1/3  -24.00"


def test_before_all_have_ended_there_is_no_best_and_groups_keep_their_order(tmp_path):
    names = add_betas(tmp_path)
    names.append(add_run(tmp_path, config(3, beta=4.0), -10.0, None))
    group = programs(tmp_path, names, ["later_s0"])
    (tmp_path / "programs/program.speed.json").write_text('{"member_steps": 10, "seconds": 30}')
    assert group_lines(group, tmp_path)[1:] == [
        "  group      done    ELBO          time left",
        "  beta=0.25   3/3  -27.00  ± 0.58  25.0 min",
        "  beta=1      3/3  -25.00  ± 0.58  25.0 min",
        "  beta=4      3/4  -23.50  ± 4.50  25.0 min",
        "  and 1 run not begun",
    ]


@pytest.mark.parametrize(
    ("section", "field", "value"), [("likelihood", "name", "gaussian"), ("data", "name", "mnist"), ("data", "n", 3)]
)
def test_elbos_of_several_quantities_have_no_best(tmp_path, section, field, value):
    names = add_betas(tmp_path)
    assert best_group(read_groups(programs(tmp_path, names), tmp_path)[0]).name == "beta=1"
    tree = config(0, beta=1.0)
    tree[section][field] = value
    names.append(add_run(tmp_path, tree, -1.0))
    assert best_group(read_groups(programs(tmp_path, names), tmp_path)[0]) is None


def test_of_many_groups_the_first_are_shown_and_the_rest_counted(tmp_path, monkeypatch):
    names = [add_run(tmp_path, config(0, beta=float(i)), -20.0 - i) for i in range(20)]
    lines = group_lines(programs(tmp_path, names), tmp_path)
    assert len(lines) == 2 + 12 + 1
    assert lines[2].endswith("best")
    assert lines[-1] == "  and 8 groups more"


@pytest.mark.parametrize("columns", [60, 200])
def test_names_fit_a_terminal_and_are_no_markup(tmp_path, monkeypatch, columns):
    names = []
    for number, value in enumerate((0.5, 1.0, "\033[2J[/red]")):
        fields = {"[red]a_field_of_a_long_name": value, "another_field_of_a_long_name": f"{number}:smile:"}
        names.append(add_run(tmp_path, config(0, beta=1.0, **fields), -20.0 - number, name=f"run{number}"))
    monkeypatch.setattr(summary.sys, "stdout", Terminal(columns))
    monkeypatch.setattr(screen, "terminal_size", lambda stream: screen.os.terminal_size((columns, 24)))
    monkeypatch.setenv("NO_COLOR", "1")
    text = "\n".join(group_lines(programs(tmp_path, names), tmp_path))
    plain = text.replace("\033[1m", "").replace("\033[0m", "").replace("\033[2m", "")
    assert max(map(len, plain.split("\n"))) <= columns
    assert "\033" not in plain
    assert columns == 60 or "[red]" in plain  # where there is less room, names of fields are cut
    assert ":smile:" in plain


def test_a_launch_ends_with_its_groups_and_the_next_command(tmp_path, capsys):
    assert print_summary(programs(tmp_path, add_betas(tmp_path)), StopSignals(), tmp_path, "again") == 0
    first, *table, after = capsys.readouterr().out.strip().split("\n")
    assert first == f"9 done, 0 failed, 0 dropped, 0 remaining; in {tmp_path}"
    assert "  beta=1      3/3  -25.00  ± 0.58  best" in table
    assert "vae-jax compare --runs=" in after or "-m vae_jax compare --runs=" in after
    assert after.startswith("next: ")


@pytest.mark.parametrize("content", ["{", "[]", '{"config": 3}', '{"config": {"variant": {"beta": 1}}}'])
def test_a_damaged_config_is_in_no_group(tmp_path, content):
    names = add_betas(tmp_path)
    (tmp_path / names[0] / "config.json").write_text(content)
    groups, missing = read_groups(programs(tmp_path, names), tmp_path)
    assert [group.runs for group in groups] == [3, 2, 3]
    assert missing == 1


def test_without_an_elbo_there_is_no_table(tmp_path):
    names = [write_run(tmp_path, config(seed, beta=1.0), DONE).name for seed in range(2)]
    assert group_lines(programs(tmp_path, names), tmp_path) == []
