"""vae-jax alone: what it can do, by task."""

from vae_jax import cli
from vae_jax.config.tasks import EXAMPLES, TASKS


def test_every_program_has_one_task():
    assert sorted(name for names in TASKS.values() for name in names) == sorted(cli.PROGRAMS)
    assert {program for program, *_ in EXAMPLES} <= cli.PROGRAMS.keys()


def test_without_a_program_all_are_said_with_a_line_each(capsys):
    assert cli.run([]) == 2
    shown = capsys.readouterr().out
    for name, program in cli.PROGRAMS.items():
        assert f"  {name:<12}{program.__doc__.splitlines()[0]}\n" in shown
    for task in TASKS:
        assert f"\n{task}\n" in shown
    assert "vae-jax PROGRAM --help" in shown
    assert "docs/index.md" in shown
    assert cli.run(["--help"]) == 0
    assert capsys.readouterr().out == shown
