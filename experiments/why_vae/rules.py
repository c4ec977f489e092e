"""The rules by which the numbers of a study decide about a claim.

A check compares two groups over the seeds that they share (Student's t on the differences), or a group with a bar (the
interval of its mean): yes where the whole 95% interval agrees, no where all of it is on the other side, and
else the seeds cannot tell. A claim holds where every check says yes (those in which there is nothing to gain aside),
holds in part where some say yes and some no, does not hold where some say no and none yes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vae_jax.comparison import intervals

AUTOENCODER, NO_KL, VAE, LEARNED = "autoencoder", "beta = 0", "VAE (beta = 1)", "VAE, learned pixel sigmas"
NOISE, DECAY = "autoencoder + noise", "weight decay"
"""The groups of these begin so, and are as many as there are strengths."""
REQUIRED = (AUTOENCODER, NO_KL, VAE)

Values = dict[str, dict[str, dict[str, float]]]
"""group -> seed -> measure -> number."""

YES, NO, UNDECIDED, NOT_MEASURED, NO_GAIN = "yes", "no", "cannot tell", "not measured", "nothing to gain"
HOLDS, HOLDS_SO_FAR, HOLDS_IN_PART = "Shown", "Shown as far as these seeds can tell", "Shown in part"
FAILS, OPEN = "Refuted", "Cannot be told from these seeds"
SHARE = 0.2
"""As good as the VAE: less is missing than this share of what the VAE gains over the autoencoder."""


class Measure(NamedTuple):
    """A number as it is shown: its name, and whether more of it is better."""

    name: str
    higher_is_better: bool = True


MEASURES = {
    "frechet": Measure("Frechet distance", False),
    "frechet_fitted": Measure("Frechet, fitted Gaussian", False),
    "samples": Measure("Frechet, own prior", False),
    "precision": Measure("precision"),
    "recall": Measure("recall"),
    "confidence": Measure("classifier's confidence"),
    "sure": Measure("share as sure as data"),
    "sure_fitted": Measure("as sure, fitted Gaussian"),
    "prior_covered": Measure("prior's mass near codes"),
    "neighbours": Measure("neighbours of the same label"),
    "smoothness": Measure("evenness of steps"),
    "smoothness.path": Measure("path in chords", False),
    "smoothness.plausible": Measure("sure midpoints"),
    "sigma": Measure("mean sigma"),
    "visited": Measure("sd of z over visits"),
    "relative": Measure("sigma / sd of z"),
    "rise": Measure("rise at own z, nats", False),
    "rise_moved": Measure("rise where moved alike, nats", False),
    "moved": Measure("distortion where moved alike, nats", False),
    "spread": Measure("sd of means"),
    "deviation": Measure("sd of z"),
    "centre": Measure("distance of the centre from 0", False),
    "overlap": Measure("overlap with the nearest cloud"),
    "aggregate_posterior": Measure("KL(q(z) to N(0, I)), nats", False),
    "sigma_start": Measure("mean sigma, first step"),
    "spread_start": Measure("sd of means, first step"),
    "distortion": Measure("distortion, nats", False),
    "rate": Measure("rate, nats"),
    "elbo": Measure("ELBO, nats"),
    "distance": Measure("distance to training images, of held-out's"),
    "nearer_training": Measure("nearer to training than to held-out", False),
    "samples.near_copies": Measure("near copies", False),
    "encoder_error": Measure("encoder's sigma and error"),
    "decoder_error": Measure("decoder's sigma and error"),
    "pixel_error": Measure("decoder's sigma and error, by pixel"),
}


class Check(NamedTuple):
    """The result of one comparison: the sentence that is checked, the outcome, and the number with its interval."""

    sentence: str
    outcome: str
    number: str


Rule = Callable[[Values], Check]
Choice = Callable[[Values], str]
"""The group that a study's values choose."""


def scores_by_seed(values: Values, group: str, measure: str) -> dict[str, float]:
    """A measure of a group by seed, where it is a finite number."""
    scores = {seed: measures.get(measure) for seed, measures in values.get(group, {}).items()}
    return {seed: float(score) for seed, score in scores.items() if score is not None and np.isfinite(score)}


def mean_score(values: Values, group: str, measure: str) -> float:
    """A measure of a group, averaged over seeds."""
    return float(np.mean(list(scores_by_seed(values, group, measure).values())))


def format_number(number: float) -> str:
    """Three digits."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def format_interval(mean: float, low: float | None, high: float | None) -> str:
    """A number and its interval, which one seed does not have."""
    if low is None or high is None:
        return format_number(mean)
    return f"{format_number(mean)} [{format_number(low)}, {format_number(high)}]"


def format_scores(scores: dict[str, float]) -> str:
    """The mean over seeds with its interval; a dash where there is none."""
    if not scores:
        return "-"
    numbers = np.array(list(scores.values()))
    return format_interval(float(numbers.mean()), *(intervals.interval(numbers) or (None, None)))


def compare_interval(low: float | None, high: float | None, bar: float) -> str:
    """Whether the interval is wholly above the bar, wholly below it, or neither."""
    if low is None or high is None:
        return UNDECIDED
    return YES if low > bar else NO if high < bar else UNDECIDED


def improvements(values: Values, group: str, other: str, measure: str, other_measure: str = "") -> np.ndarray:
    """`group` less `other` over the seeds that they share, positive where `group` is better.

    Args:
        other_measure: the measure of `other`, where it is not the same.
    """
    scores, others = scores_by_seed(values, group, measure), scores_by_seed(values, other, other_measure or measure)
    shared = sorted(scores.keys() & others.keys())
    sign = 1 if MEASURES[measure].higher_is_better else -1
    return sign * (np.array([scores[seed] for seed in shared]) - np.array([others[seed] for seed in shared]))


def _check_differences(sentence: str, differences: np.ndarray, bar: float = 0.0, prefix: str = "") -> Check:
    """Whether paired differences are above the bar."""
    if not len(differences):
        return Check(sentence, NOT_MEASURED, "-")
    mean, low, high, _ = intervals.paired_test(differences)
    return Check(sentence, compare_interval(low, high, bar), f"{prefix}by {format_interval(mean, low, high)}")


def better(measure: str, group: str, other: str, sentence: str, other_measure: str = "") -> Rule:
    """Whether `group` is better than `other`, of which another measure may be taken."""

    def rule(values: Values) -> Check:
        return _check_differences(sentence, improvements(values, group, other, measure, other_measure))

    return rule


def better_than(measure: str, group: str, choose: Choice, sentence: str) -> Rule:
    """Whether `group` is better than the group that the values choose."""

    def rule(values: Values) -> Check:
        other = choose(values)
        return _check_differences(sentence, improvements(values, group, other, measure), prefix=f"{other}: ")

    return rule


def grown(measure: str, start: str, group: str, sentence: str, sign: int = 1) -> Rule:
    """Whether a measure of one group ends above (sign 1) or below (-1) what it was at the start."""

    def rule(values: Values) -> Check:
        end, begin = scores_by_seed(values, group, measure), scores_by_seed(values, group, start)
        growth = np.array([end[seed] - begin[seed] for seed in sorted(end.keys() & begin.keys())])
        return _check_differences(sentence, sign * growth)

    return rule


def not_lower(measure: str, group: str, other_measure: str, margin: float, sentence: str) -> Rule:
    """Whether a group's measure is less than `margin` below another measure of the same runs."""

    def rule(values: Values) -> Check:
        return _check_differences(sentence, improvements(values, group, group, measure, other_measure), -margin)

    return rule


def above(measure: str, group: str, bar: float, sentence: str) -> Rule:
    """Whether a group's mean is above the bar."""
    return _beyond(measure, group, bar, sentence, 1)


def below(measure: str, group: str, bar: float, sentence: str) -> Rule:
    """Whether a group's mean is below the bar."""
    return _beyond(measure, group, bar, sentence, -1)


def _beyond(measure: str, group: str, bar: float, sentence: str, sign: int) -> Rule:
    def rule(values: Values) -> Check:
        scores = scores_by_seed(values, group, measure)
        if not scores:
            return Check(sentence, NOT_MEASURED, "-")
        low, high = intervals.interval(sign * np.array(list(scores.values()))) or (None, None)
        return Check(sentence, compare_interval(low, high, sign * bar), format_scores(scores))

    return rule


def as_good(measure: str, choose: Choice, sentence: str, vae_measure: str = "", autoencoder_measure: str = "") -> Rule:
    """Whether the chosen group falls short of the VAE by less than SHARE of the VAE's gain over the autoencoder.

    Of either another measure may be taken. Where the VAE's own gain cannot be told, to be as good is nothing.
    """

    def rule(values: Values) -> Check:
        shortfalls = -improvements(values, choose(values), VAE, measure, vae_measure)
        gains = improvements(values, VAE, AUTOENCODER, vae_measure or measure, autoencoder_measure)
        if not len(shortfalls) or not len(gains):
            return Check(sentence, NOT_MEASURED, "-")
        gain, (mean, low, high, _) = intervals.paired_test(gains), intervals.paired_test(shortfalls)
        bar = SHARE * max(gain.mean, 0.0)
        outcome = {YES: NO, NO: YES, UNDECIDED: UNDECIDED}[compare_interval(low, high, bar)]
        if outcome == YES and (gain.low is None or gain.low <= 0):
            outcome = NO_GAIN
        number = f"short by {format_interval(mean, low, high)}, where {format_number(bar)} would do"
        return Check(sentence, outcome, number)

    return rule


def same_distortion(choose: Choice, other: str, margin: float, sentence: str) -> Rule:
    """Whether the chosen group's distortion is within `margin` nats of another's."""

    def rule(values: Values) -> Check:
        group = choose(values)
        differences = -improvements(values, group, other, "distortion")
        if not len(differences):
            return Check(sentence, NOT_MEASURED, "-")
        mean, low, high, _ = intervals.paired_test(differences)
        return Check(sentence, _within(low, high, margin), f"{group}: {format_interval(mean, low, high)}")

    return rule


def _within(low: float | None, high: float | None, margin: float) -> str:
    """Whether the interval is wholly within `margin` of 0, wholly outside, or neither."""
    if low is None or high is None:
        return UNDECIDED
    if -margin < low and high < margin:
        return YES
    return NO if low > margin or high < -margin else UNDECIDED


def no_kl(values: Values) -> str:
    """The VAE without the KL."""
    return NO_KL


def best_noise(values: Values) -> str:
    """The autoencoder with noise whose draws are nearest to the data, if there are several."""
    return _least(values, NOISE, lambda group: mean_score(values, group, "frechet"))


def matched_decay(values: Values) -> str:
    """The weight decay whose distortion is nearest to the VAE's."""
    return _least(
        values,
        DECAY,
        lambda group: abs(mean_score(values, group, "distortion") - mean_score(values, VAE, "distortion")),
    )


def steadiest_decay(values: Values) -> str:
    """The weight decay whose distortion is least where codes are moved."""
    return _least(values, DECAY, lambda group: mean_score(values, group, "moved"))


def best_decay(values: Values) -> str:
    """The weight decay whose draws from its own fitted mixture are nearest to the data."""
    return _least(values, DECAY, lambda group: mean_score(values, group, "samples"))


def _least(values: Values, start: str, cost: Callable[[str], float]) -> str:
    """The rival of least cost by the numbers that are reported: that favours it, so a claim against it is harder."""
    return min((group for group in values if group.startswith(start)), key=cost, default=start)


MATCHED = same_distortion(matched_decay, VAE, 2.0, "there is a match: distortions are within 2 nats of each other")


def if_matched(rule: Rule) -> Rule:
    """The rule where a weight decay costs as much in reconstruction as the VAE; not measured where none does."""

    def matched_rule(values: Values) -> Check:
        check = rule(values)
        return check if MATCHED(values).outcome == YES else Check(check.sentence, NOT_MEASURED, "-")

    return matched_rule


def verdict(checks: Sequence[Check], premises: Sequence[Check] = ()) -> str:
    """What the checks of a claim say together, if its premises are met."""
    outcomes = {check.outcome for check in checks}
    if any(check.outcome != YES for check in premises):
        return OPEN
    if NO in outcomes:
        return HOLDS_IN_PART if YES in outcomes else FAILS
    if YES in outcomes:
        return HOLDS_SO_FAR if {UNDECIDED, NOT_MEASURED} & outcomes else HOLDS
    return OPEN
