"""How far a run is: a bar over its numbers in a terminal, a line in a notebook, dated lines elsewhere."""

import re
import subprocess
import sys
import types

import pytest
from helpers.terminal import Terminal, patch_size

from vae_jax.training.bars import Progress, progress_bar

DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def words(lines):
    return " ".join(lines).split()


def show_progress():
    progress = Progress(10, 200, "beta_s0")
    progress.advance(50)
    progress.advance(100)
    progress.report(100, "train  loss 1.00  nats per image", lasting=False)
    progress.advance(200)
    progress.report(200, "test  loss 0.50  nats per image", lasting=True)
    progress.say("done")
    return progress


@pytest.fixture
def terminal(monkeypatch):
    patch_size(monkeypatch)
    return Terminal(80)


def test_a_log_has_dated_lines(capsys):
    show_progress().close()
    out, errors = capsys.readouterr()
    first, second, done = out.splitlines()
    pace = r"[\d,]+ steps/s"
    left = r"\d+ s left"
    train = "train  loss 1.00  nats per image"
    assert re.fullmatch(rf"{DATE}   50%  beta_s0  step 100/200  {pace}  {left}  {train}", first)
    assert re.fullmatch(rf"{DATE}  100%  beta_s0  step 200/200  {pace}  test  loss 0.50  nats per image", second)
    assert done == "done"
    assert errors == ""


def test_a_log_waits_for_no_rich():
    """The processes of a sweep write to files, many at once."""
    code = (
        "import sys; from vae_jax.training.bars import Progress, progress_bar\n"
        "progress = Progress(0, 10); progress.advance(5); progress.report(5, 'loss 1.00', lasting=False)\n"
        "progress.close(); assert list(progress_bar([1, 2], 2)) == [1, 2]; assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_terminal_has_a_bar_and_below_it_the_numbers(terminal, monkeypatch, capsys, columns):
    monkeypatch.setattr(sys, "stderr", terminal)
    terminal.columns = columns
    progress = Progress(10, 200)
    for step in (50, 100):
        progress.advance(step)
    progress.report(100, "train  loss 1.00  elbo -1.00  nats per image  1,234 images/s", lasting=False)
    bar, *numbers = terminal.shown()
    assert re.match(r" 50%  ━+", bar)
    assert "100/200" in bar
    assert "left" in bar
    assert words(numbers) == words(["train  loss 1.00  elbo -1.00  nats per image  1,234 images/s"])
    assert all(line.startswith("      ") for line in numbers)
    progress.report(200, "test  loss 0.50", lasting=True)
    progress.say("[red]done[/red]")
    assert terminal.shown() == [""]  # the bar makes room for what is printed
    progress.advance(200)
    progress.close()
    assert terminal.shown()[0].startswith("100%")
    assert terminal.cursor_visible
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{DATE}  100%  step 200/200 .*  test  loss 0.50", first)  # standard output is a file
    assert second == "[red]done[/red]"


def test_what_stays_above_the_bar_is_not_dated(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    progress = Progress(10, 200)
    progress.advance(50)
    progress.report(200, "test  loss 0.50", lasting=True)
    assert terminal.shown() == ["step 200/200  test  loss 0.50"]
    progress.advance(200)
    progress.close()
    assert [line[:4] for line in terminal.shown()[:2]] == ["step", "100%"]


def test_a_notebook_has_a_line(monkeypatch, capsys):
    kernel = types.ModuleType("IPython")
    kernel.get_ipython = lambda: types.SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    progress = Progress(0, 10)
    progress.advance(5)
    progress.report(5, "train  loss 1.00", lasting=False)
    assert capsys.readouterr().err.endswith("50%  5/10  train  loss 1.00")
    progress.say("said")
    out, errors = capsys.readouterr()
    assert out == "said\n"
    assert re.fullmatch(r"\r +\r", errors)
    progress.close()


def test_items_have_a_bar_while_they_are_taken(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    items = iter(progress_bar([1, 2, 3], 3))
    assert next(items) == 1
    assert "━" in "\n".join(terminal.shown())
    assert list(items) == [2, 3]
    assert terminal.shown() == [""]
