"""What a report says in words: verdicts, what they rest on, what the metrics are."""

import math

from vae_jax.comparison import wording
from vae_jax.comparison.results import Comparison, Difference, Group
from vae_jax.comparison.wording import apart, direction, in_nats
from vae_jax.report.markup import text

TERMS = {
    "elbo": "The lower bound on the log-likelihood of held-out images, -(distortion + rate), nats per image.",
    "bound": "The bound that the variant maximises, on held-out images, nats per image.",
    "distortion": "E_q[-log p(x|z)] of held-out images: nats to describe an image, given its code.",
    "rate": "KL(q(z|x) || p(z)) of held-out images: nats to send the code.",
    "loss": "What the variant minimises, on held-out images; it does not compare different variants.",
    "bits_per_dim": "-elbo in bits, for each pixel and channel.",
}


def count(number: int, thing: str) -> str:
    """So many things."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def interval(low: float | None, high: float | None) -> str:
    """An interval in brackets; nothing where there is none."""
    return "" if low is None or high is None else f"[{text(low)}, {text(high)}]"


def best_group(comparison: Comparison) -> str:
    """Which group has the best mean score of choice; that says nothing of how sure its lead is."""
    score = comparison.metrics[0]
    sign, way = wording.sign(comparison, score), direction(comparison, score)
    if not sign:
        return f"Of {score} {way}: no group is best."
    other = apart(comparison) if in_nats(score) else ()
    known = [group for group in comparison.groups if group.name not in other and math.isfinite(_mean(group, score))]
    if not known:
        return f"No group has a finite {score} that can be compared."
    best = max(known, key=lambda group: sign * _mean(group, score))
    found = best.summaries[score]
    most = "highest" if sign > 0 else "lowest"
    sure = interval(found.low, found.high)
    return (
        f"The {most} mean {score} ({way}) is that of {best.name}: "
        f"{text(found.mean)} {sure + ' ' if sure else ''}over {count(found.n, 'seed')}."
    )


def _mean(group: Group, metric: str) -> float:
    return group.summaries[metric].mean if metric in group.summaries else math.nan


def verdict(difference: Difference) -> str:
    """The verdict on a group, as a sentence."""
    if difference.verdict in ("better", "worse", "higher", "lower"):
        return f"{difference.group} is {difference.verdict} in {difference.metric}."
    return f"{difference.group}: {short(difference)}."


def short(difference: Difference) -> str:
    """The verdict in a few words."""
    return wording.verdict(difference).replace("more would", "more seeds would")


def evidence(difference: Difference) -> str:
    """What a verdict rests on."""
    if not difference.pairs:
        return ""
    sure = interval(difference.low, difference.high)
    change = ("+" if difference.mean > 0 else "") + text(difference.mean)
    chance = "" if difference.p is None else f", p\N{NO-BREAK SPACE}{wording.chance(difference.p)}"
    return f"{change} {sure + ' ' if sure else ''}over {count(difference.pairs, 'shared seed')}{chance}."


def definition(metric: str) -> str:
    """What a metric is, in a line: the first of its docstring; a detail's is that of its metric."""
    from vae_jax import metrics  # brings JAX, which nothing else here needs

    name = metric.partition(":")[0].partition(".")[0]
    if name in TERMS:
        return TERMS[name]
    return metrics.get(name).__doc__.splitlines()[0] if name in metrics.names() else "A number of the run's own."
