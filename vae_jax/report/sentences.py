"""Sentences of a report: verdicts, what they rest on, what the metrics are."""

from vae_jax import metrics
from vae_jax.comparison import wording
from vae_jax.comparison.comparability import incomparable_groups
from vae_jax.comparison.ranking import ranked_groups, sign
from vae_jax.comparison.results import Comparison, Difference, Number
from vae_jax.phrases import plural
from vae_jax.report.markup import four_digits


def interval(low: Number | None, high: Number | None) -> str:
    """An interval in brackets; nothing where there is none."""
    return "" if low is None or high is None else f"[{four_digits(low)}, {four_digits(high)}]"


def best_group(comparison: Comparison) -> str:
    """Which group has the best mean score of choice; that says nothing of how sure its lead is."""
    score = comparison.metrics[0]
    if not sign(comparison, score):
        return f"Of {score} {wording.direction(comparison, score)}: no group is best."
    ranked, excluded = ranked_groups(comparison), incomparable_groups(comparison, score)
    if not ranked:
        return f"No group has a finite {score} that can be compared."
    if excluded and len(ranked) == 1:
        return f"No group has a finite {score} that can be held against that of {comparison.baseline}."
    summary = ranked[0].summaries[score]
    words = [four_digits(summary.mean), interval(summary.low, summary.high), f"over {plural(summary.n, 'seed')}"]
    numbers, kind = " ".join(filter(None, words)), wording.comparable_heading(comparison, score)
    if len(comparison.groups) == 1:
        return f"The mean {score} is {numbers} ({kind})."
    extreme = "highest" if sign(comparison, score) > 0 else "lowest"
    among = f" among the {len(ranked)} groups that are comparable" if excluded else ""
    return f"{ranked[0].name} has the {extreme} mean {score}{among}: {numbers} ({kind})."


def answer(comparison: Comparison) -> str:
    """Which group has the best mean, and how sure it is that others are not as good."""
    best, ranked, score = best_group(comparison), ranked_groups(comparison), comparison.metrics[0]
    differences = {difference.group: difference for difference in comparison.differences if difference.metric == score}
    if not ranked or not sign(comparison, score) or len(comparison.groups) == 1:
        return best
    if ranked[0].name == comparison.baseline:
        worse = sum(difference.verdict == "worse" for difference in differences.values())
        return f"{best} It is the baseline. Sure to be worse: {worse} of {plural(len(differences), 'other group')}."
    if ranked[0].name not in differences:
        return best
    return f"{best} Against {comparison.baseline}: {verdict_phrase(differences[ranked[0].name])}."


def verdict(difference: Difference) -> str:
    """The verdict on a group, as a sentence."""
    if difference.verdict in ("better", "worse", "higher", "lower"):
        return f"{difference.group} is {difference.verdict} in {difference.metric}."
    return f"{difference.group}: {verdict_phrase(difference)}."


def verdict_phrase(difference: Difference) -> str:
    """The verdict in a few words."""
    return wording.verdict(difference).replace("more would", "more seeds would")


def evidence(difference: Difference) -> str:
    """What a verdict rests on."""
    if not difference.pairs:
        return ""
    change = ("+" if difference.mean > 0 else "") + four_digits(difference.mean)
    p = "" if difference.p is None else f", p\N{NO-BREAK SPACE}{wording.format_p(difference.p)}"
    words = [change, interval(difference.low, difference.high), f"over {plural(difference.pairs, 'shared seed')}{p}"]
    return f"{' '.join(filter(None, words))}."


def definition(metric: str) -> str:
    """What a metric is, in a line."""
    return metrics.definition(metric) or "A number of the run's own."
