"""How often a comparison is wrong where nothing differs, and how often it tells what does, by simulation.

    python -m experiments.benchmark.power [--studies=2000] [--groups=5] [--metrics=2]

Prints the tables of docs/comparing.md. A study has a group whose score differs and others that do not, each compared
with the baseline in each metric, as experiments.compare does it: paired over seeds, Student's t, Holm's correction.
"""

import itertools
from collections.abc import Callable

import numpy as np

from vae_jax.comparison import intervals
from vae_jax.config.command_line import Parser, run_program, whole

SEEDS = (5, 10, 20)
EFFECTS = (0.5, 1.0, 2.0)
"""Differences in standard deviations of what differs from seed to seed between two groups."""


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape)


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.exponential(size=shape)


def _heavy_tailed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_t(3, size=shape) / np.sqrt(3)


def _skewed_beside_steady(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    scores = rng.exponential(size=shape) - 1
    scores[:, 0] *= 0.1
    return scores


NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": _normal,
    "skewed": _skewed,
    "heavy-tailed": _heavy_tailed,
    "skewed beside a steady baseline": _skewed_beside_steady,
}
"""Of deviation 1, and all groups alike, but for the baseline of the last, which has 0.1."""


def main(argv: list[str]) -> int:
    """Prints the tables; the exit status."""
    parser = Parser("experiments.benchmark.power", __doc__, launcher="python -m")
    parser.flag("studies", whole(1), 2000, "N", "simulated studies of each cell")
    parser.flag("groups", whole(2), 5, "N", "groups of a study")
    parser.flag("metrics", whole(1), 2, "N", "metrics of a study")
    flags, _ = parser.parse(argv)
    print("\n".join(tables(flags.studies, flags.groups, flags.metrics)))
    return 0


def tables(studies: int, groups: int, metrics: int) -> list[str]:
    """Both tables as Markdown: false claims by kind of noise, and power by size of the difference."""
    lines = [f"| seeds | {' | '.join(NOISE)} |", f"|---|{'---|' * len(NOISE)}"]
    for seeds in SEEDS:
        shares = [false_claims(seeds, noise, studies, groups, metrics) for noise in NOISE]
        lines.append(f"| {seeds} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    lines += ["", f"| seeds | comparisons | {' | '.join(f'{effect:g} sd' for effect in EFFECTS)} |"]
    lines.append(f"|---|---|{'---|' * len(EFFECTS)}")
    designs = dict.fromkeys([(2, 1), (groups, metrics)])
    for seeds, (groups, metrics) in itertools.product(SEEDS, designs):
        shares = [power(seeds, effect, studies, groups, metrics) for effect in EFFECTS]
        comparisons = (groups - 1) * metrics
        lines.append(f"| {seeds} | {comparisons} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    return lines


def false_claims(seeds: int, noise: str, studies: int, groups: int, metrics: int) -> float:
    """The share of studies in which anything is called better or worse, though no group differs."""
    p = _corrected(seeds, 0.0, noise, studies, groups, metrics)
    return float(np.mean(np.any(p <= intervals.LEVEL, axis=1)))


def power(seeds: int, effect: float, studies: int, groups: int, metrics: int) -> float:
    """The share of studies in which the group that differs, by `effect`, is told from the baseline in a metric."""
    return float(np.mean(_corrected(seeds, effect, "normal", studies, groups, metrics)[:, 0] <= intervals.LEVEL))


def _corrected(seeds: int, effect: float, noise: str, studies: int, groups: int, metrics: int) -> np.ndarray:
    """(studies, comparisons): p of each group against the first in each metric; the first comparison is of `effect`."""
    rng = np.random.default_rng(seeds)
    scores = NOISE[noise](rng, (studies, groups, metrics, seeds)) / np.sqrt(2)  # so that differences have deviation 1
    scores[:, 1] += effect
    differences = (scores[:, 1:] - scores[:, :1]).reshape(studies, -1, seeds)
    return np.array(
        [intervals.holm(np.array([intervals.paired_test(pairs).p for pairs in study])) for study in differences]
    )


if __name__ == "__main__":
    run_program(main)
