"""What vae-jax can do, by task: what it says where no program is named."""

from collections.abc import Callable, Mapping

from vae_jax.config.command_line import command

TASKS = {
    "one model": ("explain", "train", "evaluate", "explore"),
    "many models": ("sweep", "search", "status", "compare", "udr"),
    "many models elsewhere": ("slurm", "emit", "agent"),
    "for other programs": ("population",),
}
"""The programs by what a person wants to do."""

EXAMPLES = (
    ("train", "--config=digits", "--workdir=runs/digits"),
    ("sweep", "--config=digits", "--workdir=runs/study"),
    ("compare", "--runs=runs/study"),
)


def overview(programs: Mapping[str, Callable]) -> str:
    """Every program with the first line of what it says of itself, an example, and where to read on."""
    lines = ["usage: vae-jax PROGRAM [flags]"]
    for task, names in TASKS.items():
        lines += ["", task, *(f"  {name:<12}{_first_line(programs[name])}" for name in names)]
    lines += ["", "for example", *(f"  {command(program, words)}" for program, *words in EXAMPLES)]
    lines += ["", "vae-jax PROGRAM --help has its flags, docs/index.md of the repository all the rest."]
    return "\n".join(lines)


def _first_line(program: Callable) -> str:
    return (program.__doc__ or "").partition("\n")[0]
