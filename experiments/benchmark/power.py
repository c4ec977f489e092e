"""How often experiments.compare is wrong where nothing differs, and how often it tells what does, by simulation.

    python -m experiments.power [--studies=2000] [--groups=5] [--metrics=2]

Prints the tables of docs/comparing.md. A study has a group whose score differs and others that do not, each compared
with the baseline in each metric, as experiments.compare does it: paired over seeds, Student's t, Holm's correction.
"""

from collections.abc import Callable

import numpy as np

from vae_jax.comparison import intervals
from vae_jax.config.command_line import Arguments, run_program
from vae_jax.errors import UserError

SEEDS = (5, 10, 20)
EFFECTS = (0.5, 1.0, 2.0)
"""Differences in standard deviations of what differs from seed to seed between two groups."""

NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
    "skewed beside a steady baseline": lambda rng, shape: _steady_first(rng.exponential(size=shape) - 1),
}
"""Of deviation 1, and all groups alike, but for the baseline of the last, which has 0.1."""


def _steady_first(scores: np.ndarray) -> np.ndarray:
    scores[:, 0] *= 0.1
    return scores


def main(argv: list[str]) -> int:
    """Prints the tables; the exit status."""
    known = {"studies": 2000, "groups": 5, "metrics": 2}
    own, overrides = Arguments((*known,)).parse(argv)
    if overrides:
        raise UserError("--config: no run is made here; give --studies, --groups or --metrics")
    print("\n".join(tables(**{name: _whole(name, own.get(name, usual)) for name, usual in known.items()})))
    return 0


def _whole(name: str, given: str | int) -> int:
    least = 2 if name == "groups" else 1
    if not str(given).isdigit() or int(given) < least:
        raise UserError(f"--{name}: {given!r} is not allowed; give a whole number of at least {least}")
    return int(given)


def tables(studies: int, groups: int, metrics: int) -> list[str]:
    """Both tables as Markdown: false claims by kind of noise, and power by size of the difference."""
    lines = [f"| seeds | {' | '.join(NOISE)} |", f"|---|{'---|' * len(NOISE)}"]
    for seeds in SEEDS:
        shares = [false_claims(seeds, noise, studies, groups, metrics) for noise in NOISE]
        lines.append(f"| {seeds} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    lines += ["", f"| seeds | comparisons | {' | '.join(f'{effect:g} sd' for effect in EFFECTS)} |"]
    lines.append(f"|---|---|{'---|' * len(EFFECTS)}")
    for seeds in SEEDS:
        for of_groups, of_metrics in dict.fromkeys([(2, 1), (groups, metrics)]):
            shares = [told(seeds, effect, studies, of_groups, of_metrics) for effect in EFFECTS]
            count = (of_groups - 1) * of_metrics
            lines.append(f"| {seeds} | {count} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return lines


def false_claims(seeds: int, noise: str, studies: int, groups: int, metrics: int) -> float:
    """The share of studies in which anything is called better or worse, though no group differs."""
    p = _corrected(seeds, 0.0, noise, studies, groups, metrics)
    return float(np.mean(np.any(p <= intervals.LEVEL, axis=1)))


def told(seeds: int, effect: float, studies: int, groups: int, metrics: int) -> float:
    """The share of studies in which the one group that differs, by `effect`, is told from the baseline in a metric."""
    return float(np.mean(_corrected(seeds, effect, "normal", studies, groups, metrics)[:, 0] <= intervals.LEVEL))


def _corrected(seeds: int, effect: float, noise: str, studies: int, groups: int, metrics: int) -> np.ndarray:
    """(studies, comparisons): p of each group against the first in each metric; the first comparison is of `effect`."""
    rng = np.random.default_rng(seeds)
    scores = NOISE[noise](rng, (studies, groups, metrics, seeds)) / np.sqrt(2)  # so that differences have deviation 1
    scores[:, 1] += effect
    found = (scores[:, 1:] - scores[:, :1]).reshape(studies, -1, seeds)
    return np.array([intervals.holm(np.array([intervals.paired(one).p for one in study])) for study in found])


if __name__ == "__main__":
    run_program(main, __doc__)
