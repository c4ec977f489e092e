"""The live table in a terminal that is narrow, or is resized; in a log, which has dated lines."""

import io
import json
import re

import pytest
from helpers.terminal import Terminal, patch_size
from rich.cells import cell_len

from vae_jax import screen
from vae_jax.launch import live_table
from vae_jax.launch.live_table import Table, log_lines
from vae_jax.launch.progress import GroupProgress
from vae_jax.sweeps.study import PlanEntry

NASTY = "evil\033[2J\n[red]\u4e16\u754c"


@pytest.fixture
def terminal(monkeypatch):
    patch_size(monkeypatch)
    return Terminal(120)


def progress(name, **others):
    runs = [PlanEntry(f"{name}{i}", name, 100, (), []) for i in range(3)]
    return GroupProgress(name, runs, {}, {run.id: 40 for run in runs}, steps_per_second=2.0, **others)


def words(lines):
    return " ".join(lines).split()


@pytest.mark.parametrize("columns", [60, 100, 120, 200])
def test_every_line_fits_and_says_all(terminal, columns):
    group, terminal.columns = progress("beta_digits_59af5bd52a", elbos={"a": -30.5, "b": -25.25}), columns
    table = Table(terminal)
    table.draw([group], [group], 1)
    shown = terminal.shown()
    assert max(map(cell_len, shown)) <= columns
    for part in ("beta_digits_59af5bd52a", "40%", "steps/s", "1.5 min", "-30.50 to -25.25", "3 running"):
        assert part in "\n".join(shown)
    assert "nats per image" in " ".join(words(shown))
    table.print("a line that stays and is longer than the terminal is wide, /a/path/that/is/longer/than/any/terminal")
    stays = terminal.shown()[: -len(shown)]
    assert "/a/path/that/is/longer/than/any/terminal" in words(stays)
    assert all(cell_len(line) <= columns for line in stays)
    assert terminal.cursor_visible
    table.close()
    assert terminal.shown() == stays


def test_a_low_terminal_shows_the_end(terminal):
    groups, terminal.columns, terminal.height = [progress(f"beta{i}") for i in range(5)], 60, 4
    table = Table(terminal)
    table.draw(groups, groups, 1)
    assert len(terminal.shown()) == 3
    assert "to come" in terminal.shown()[-1] or "left" in terminal.shown()[-1]
    table.close()


def test_after_a_resize_nothing_of_the_old_table_stays(terminal):
    groups = [progress("beta_digits_59af5bd52a")]
    table = Table(terminal)
    table.print("before")
    table.draw(groups, groups, 1)
    for columns in (45, 150, 27):
        terminal.resize(columns)
        table.draw(groups, groups, 1)
        first, *rest = terminal.shown()
        assert first == "before"
        assert words(rest).count("40%") == 1
        assert max(map(cell_len, rest)) <= columns
    terminal.resize(20)
    table.print("said meanwhile")
    assert terminal.shown()[:2] == ["before", "said meanwhile"]
    assert words(terminal.shown()).count("programs") == 1
    terminal.resize(15)
    table.close()
    assert terminal.shown() == ["before", "said meanwhile"]


def test_what_others_wrote_cannot_act_on_the_terminal_and_is_no_markup(terminal):
    groups = [progress(NASTY)]
    table = Table(terminal)
    table.draw(groups, groups, 1)
    assert "evil\\x1b[2J\\n[red]\u4e16\u754c" in "\n".join(terminal.shown())
    table.print(f"[bold]{NASTY}[/bold] :smile:")
    assert terminal.shown()[:2] == ["[bold]evil\\x1b[2J", "[red]\u4e16\u754c[/bold] :smile:"]
    assert "\033[2J" not in terminal.text
    table.close()


def test_colours_are_left_out_where_a_person_asks_for_none(terminal, monkeypatch):
    groups = [progress("beta")]

    def colours():
        terminal.text = ""
        table = Table(terminal)
        table.draw(groups, groups, 1)
        table.close()
        return re.findall(r"\033\[[\d;]*3[\d;]*m", terminal.text)

    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()


def test_a_log_has_dated_lines_now_and_then(monkeypatch):
    group, stream = progress("beta", elbos={"a": -30.5}), io.StringIO()
    table = Table(stream)
    table.draw([group], [group], 1)
    assert stream.getvalue() == ""  # not yet
    monkeypatch.setattr(live_table, "LINE_SECONDS", 0.0)
    table.draw([group], [group], 1)
    table.close()
    line, summary = stream.getvalue().splitlines()
    terms = "3 runs  2 steps/s  1.5 min left  validation elbo -30.50 nats per image"
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d   40%  beta  {terms}", line)
    assert re.fullmatch(r"\S+ \S+   40%  programs 0/1   runs 0/3 done, 3 running, .* to come   1.5 min left", summary)


def test_a_dumb_terminal_is_a_log(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(live_table, "LINE_SECONDS", 0.0)
    groups, table = [progress("beta")], Table(terminal)
    table.draw(groups, groups, 1)
    table.close()
    assert "\033" not in terminal.text
    assert "40%  beta" in terminal.text


def test_a_plan_is_wrapped_for_a_terminal_and_whole_elsewhere(monkeypatch):
    text = "program  runs  what is swept\nbeta  3  latent_dim (3), variant.beta (5), variant.lambda_reg (3), seed (5)"
    monkeypatch.setattr(screen.sys, "stdout", Terminal(40))
    monkeypatch.setattr(screen, "terminal_size", lambda stream: screen.os.terminal_size((stream.columns, 24)))
    lines = screen.wrap_text(text, "    ").split("\n")
    assert max(map(len, lines)) <= 40
    assert words(lines) == text.split()
    assert [line.startswith("    ") for line in lines] == [False, False, True, True]
    monkeypatch.setattr(screen.sys, "stdout", io.StringIO())
    assert screen.wrap_text(text) == text


def test_lines_of_terms_break_between_terms():
    text = "  12 runs  1,234 steps/s  validation elbo -26.13 to -25.01 nats per image, 1 to come"
    assert screen.wrap_line(text, 30, "  ", screen.TERM) == [
        "  12 runs  1,234 steps/s",
        "  validation elbo -26.13 to -25.01 nats per image,",
        "  1 to come",
    ]


def test_a_row_says_the_range_of_the_validation_elbo(tmp_path):
    group = progress("beta")
    for run, elbo in zip(group.runs, (-30.5, -25.25, None), strict=True):
        (tmp_path / run.id).mkdir()
        records = [{"step": 20, "split": "validation", "elbo": elbo}, {"step": 40, "split": "train", "elbo": -1.0}]
        lines = [json.dumps(record) for record in records]
        (tmp_path / run.id / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 50, "split": "validation"']))
    assert "elbo" not in log_lines([group], [group], 1)[0]
    group.update(tmp_path)
    assert "validation elbo -30.50 to -25.25 nats per image" in log_lines([group], [group], 1)[0]
