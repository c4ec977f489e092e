"""The live table in a terminal that is narrow, or is resized."""

import io
import json
import math
import os
import re
import signal

import pytest

from vae_jax import screen
from vae_jax.launch import live_table
from vae_jax.launch.live_table import CLEAR, Table, table_rows
from vae_jax.launch.progress import GroupProgress
from vae_jax.screen import cells
from vae_jax.sweeps.study import PlanEntry


class Terminal(io.StringIO):
    """A terminal of a width that may change, whose lines are wrapped anew when it does."""

    def __init__(self, columns):
        super().__init__()
        self.columns, self.lines, self.line = columns, [], ""

    def isatty(self):
        return True

    def write(self, text):
        for part in re.split(rf"(\033\[\d+F{re.escape(CLEAR)})", text):
            if up := re.match(r"\033\[(\d+)F", part):
                self.remove(int(up[1]))
            else:
                *lines, self.line = (self.line + part).split("\n")
                self.lines += lines
        return len(text)

    def shown(self):
        """The lines that it shows by now."""
        assert self.line == ""
        return list(self.lines)

    def remove(self, rows):
        while rows > 0:
            rows -= max(1, math.ceil(cells(self.lines.pop()) / self.columns))
        assert rows == 0, "a line was taken away in part"


@pytest.fixture
def terminal(monkeypatch):
    stand_in = Terminal(120)
    monkeypatch.setattr(live_table, "terminal_size", lambda stream: os.terminal_size((stream.columns, 24)))
    return stand_in


def progress(name):
    runs = [PlanEntry(f"{name}{i}", name, 100, (), []) for i in range(3)]
    return GroupProgress(name, runs, {}, {run.id: 40 for run in runs}, steps_per_second=2.0)


def words(lines):
    return " ".join(lines).split()


@pytest.mark.parametrize("columns", [30, 60, 100])
def test_every_line_fits_and_breaks_between_words(terminal, columns):
    groups, terminal.columns = [progress("beta_digits_59af5bd52a")], columns
    table = Table(terminal)
    table.draw(groups, groups, 1)
    shown = terminal.shown()
    assert max(map(cells, shown)) < columns
    assert words(shown) == words(table_rows(groups, groups, 1))
    table.print("a line that stays and is longer than the terminal is wide, /a/path/that/is/longer/than/any/terminal")
    stays = terminal.shown()[: -len(shown)]
    assert "/a/path/that/is/longer/than/any/terminal" in words(stays)
    assert all(cells(line) <= columns or len(line.split()) == 1 for line in stays)
    table.close()
    assert terminal.shown() == stays


def test_a_resize_draws_the_table_anew_at_once(terminal):
    groups = [progress("beta_digits_59af5bd52a")]
    earlier = signal.getsignal(signal.SIGWINCH)
    table = Table(terminal)
    table.print("before")
    table.draw(groups, groups, 1)
    for columns in (45, 150, 27):
        terminal.columns = columns
        signal.raise_signal(signal.SIGWINCH)
        first, *rest = terminal.shown()
        assert first == "before"
        assert words(rest) == words(table_rows(groups, groups, 1))
        assert max(map(cells, rest)) < columns
    table.close()
    assert terminal.shown() == ["before"]
    assert signal.getsignal(signal.SIGWINCH) == earlier


def test_a_resize_between_two_writes_waits_for_the_second(terminal, monkeypatch):
    groups = [progress("beta")]
    table, write = Table(terminal), terminal.write

    def resize_once(text):
        monkeypatch.setattr(terminal, "write", write)
        count, terminal.columns = write(text), 40
        signal.raise_signal(signal.SIGWINCH)
        return count

    table.draw(groups, groups, 1)
    monkeypatch.setattr(terminal, "write", resize_once)
    table.print("said meanwhile")
    shown = terminal.shown()
    assert words(shown) == ["said", "meanwhile", *words(table_rows(groups, groups, 1))]
    table.close()


def test_a_name_cannot_act_on_the_terminal(terminal):
    groups = [progress("evil\033[2J\n\u4e16\u754c")]
    assert cells("\u4e16\u754ce\u0301") == 5
    (row, _) = table_rows(groups, groups, 1)
    assert r"evil\x1b[2J\n" in row
    assert "\033" not in row


def test_a_plan_is_wrapped_for_a_terminal_and_whole_elsewhere(monkeypatch):
    text = "program  runs  what is swept\nbeta  3  latent_dim (3), variant.beta (5), variant.lambda_reg (3), seed (5)"
    monkeypatch.setattr(screen.sys, "stdout", Terminal(40))
    monkeypatch.setattr(screen, "terminal_size", lambda stream: os.terminal_size((stream.columns, 24)))
    lines = screen.wrap_text(text, "    ").split("\n")
    assert max(map(len, lines)) <= 40
    assert words(lines) == text.split()
    assert [line.startswith("    ") for line in lines] == [False, False, True, True]
    monkeypatch.setattr(screen.sys, "stdout", io.StringIO())
    assert screen.wrap_text(text) == text


def test_a_row_says_the_range_of_the_validation_elbo(tmp_path):
    group = progress("beta")
    for run, elbo in zip(group.runs, (-30.5, -25.25, None), strict=True):
        (tmp_path / run.id).mkdir()
        records = [{"step": 20, "split": "validation", "elbo": elbo}, {"step": 40, "split": "train", "elbo": -1.0}]
        lines = [json.dumps(record) for record in records]
        (tmp_path / run.id / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 50, "split": "validation"']))
    assert "elbo" not in table_rows([group], [group], 1)[0]
    group.update(tmp_path)
    assert "elbo -30.50 to -25.25" in table_rows([group], [group], 1)[0]
