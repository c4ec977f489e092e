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

YES, NO, UNTOLD, ABSENT, MOOT = "yes", "no", "cannot tell", "not measured", "nothing to gain"
HOLDS, SO_FAR, IN_PART = "Holds", "Holds as far as these seeds can tell", "Holds in part"
FAILS, OPEN = "Does not hold", "Cannot be told from these seeds"
SHARE = 0.2
"""As good as the VAE: less is missing than this share of what the VAE gains over the autoencoder."""


class Measure(NamedTuple):
    """A number as it is shown: its name, and whether more of it is better."""

    name: str
    more: bool = True


MEASURES = {
    "frechet": Measure("Frechet distance", more=False),
    "frechet_fitted": Measure("Frechet, fitted Gaussian", more=False),
    "samples": Measure("Frechet, own prior", more=False),
    "precision": Measure("precision"),
    "recall": Measure("recall"),
    "confidence": Measure("classifier's confidence"),
    "sure": Measure("share as sure as data"),
    "sure_fitted": Measure("as sure, fitted Gaussian"),
    "prior_covered": Measure("prior's mass near codes"),
    "neighbours": Measure("neighbours of the same label"),
    "smoothness": Measure("evenness of steps"),
    "smoothness.path": Measure("path in chords", more=False),
    "smoothness.plausible": Measure("sure midpoints"),
    "sigma": Measure("mean sigma"),
    "visited": Measure("sd of z over visits"),
    "relative": Measure("sigma / sd of z"),
    "rise": Measure("rise at own z, nats", more=False),
    "rise_moved": Measure("rise where moved alike, nats", more=False),
    "moved": Measure("distortion where moved alike, nats", more=False),
    "spread": Measure("sd of means"),
    "deviation": Measure("sd of z"),
    "centre": Measure("distance of the centre from 0", more=False),
    "overlap": Measure("overlap with the nearest cloud"),
    "aggregate_posterior": Measure("KL(q(z) to N(0, I)), nats", more=False),
    "sigma_start": Measure("mean sigma, first step"),
    "spread_start": Measure("sd of means, first step"),
    "distortion": Measure("distortion, nats", more=False),
    "rate": Measure("rate, nats"),
    "elbo": Measure("ELBO, nats"),
    "distance": Measure("distance to training images, of held-out's"),
    "nearer_training": Measure("nearer to training than to held-out", more=False),
    "samples.near_copies": Measure("near copies", more=False),
    "encoder_error": Measure("encoder's sigma and error"),
    "decoder_error": Measure("decoder's sigma and error"),
    "pixel_error": Measure("decoder's sigma and error, by pixel"),
}


class Check(NamedTuple):
    """What one comparison found: the sentence, the outcome, and the number with its interval."""

    words: str
    outcome: str
    number: str


Rule = Callable[[Values], Check]


def column(values: Values, group: str, measure: str) -> dict[str, float]:
    """A measure of a group by seed, where it is a number."""
    found = {seed: of_run.get(measure) for seed, of_run in values.get(group, {}).items()}
    return {seed: float(value) for seed, value in found.items() if value is not None and np.isfinite(value)}


def shown(number: float) -> str:
    """Three digits."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def with_interval(mean: float, low: float | None, high: float | None) -> str:
    """A number and its interval, which one seed does not have."""
    return shown(mean) if low is None or high is None else f"{shown(mean)} [{shown(low)}, {shown(high)}]"


def cell(found: dict[str, float]) -> str:
    """The mean over seeds with its interval; a dash where there is none."""
    if not found:
        return "-"
    numbers = np.array(list(found.values()))
    return with_interval(float(numbers.mean()), *(intervals.interval(numbers) or (None, None)))


def outcome(low: float | None, high: float | None, bar: float) -> str:
    """Whether the interval is wholly above the bar, wholly below it, or neither."""
    if low is None or high is None:
        return UNTOLD
    return YES if low > bar else NO if high < bar else UNTOLD


def differences(values: Values, one: str, other: str, measure: str, of_other: str = "") -> np.ndarray:
    """one - other over the seeds that they share, as improvements: positive where `one` is better."""
    ours, theirs = column(values, one, measure), column(values, other, of_other or measure)
    shared = sorted(ours.keys() & theirs.keys())
    sign = 1 if MEASURES[measure].more else -1
    return sign * (np.array([ours[seed] for seed in shared]) - np.array([theirs[seed] for seed in shared]))


def better(measure: str, one: str, other: str | Callable[[Values], str], words: str, of_other: str = "") -> Rule:
    """Whether `one` is better than `other`, of which another measure may be taken, and which the values may choose."""

    def rule(values: Values) -> Check:
        chosen = other(values) if callable(other) else other
        found = differences(values, one, chosen, measure, of_other)
        if not len(found):
            return Check(words, ABSENT, "-")
        mean, low, high, _ = intervals.paired(found)
        than = f"{chosen}: " if callable(other) else ""
        return Check(words, outcome(low, high, 0.0), f"{than}by {with_interval(mean, low, high)}")

    return rule


def grown(measure: str, start: str, group: str, words: str, sign: int = 1) -> Rule:
    """Whether a measure of one group ends above (sign 1) or below (-1) what it was at the start."""

    def rule(values: Values) -> Check:
        end, begin = column(values, group, measure), column(values, group, start)
        found = sign * np.array([end[seed] - begin[seed] for seed in sorted(end.keys() & begin.keys())])
        if not len(found):
            return Check(words, ABSENT, "-")
        mean, low, high, _ = intervals.paired(found)
        return Check(words, outcome(low, high, 0.0), f"by {with_interval(mean, low, high)}")

    return rule


def above(measure: str, group: str, bar: float, words: str) -> Rule:
    """Whether a group's mean is above the bar."""
    return _against(measure, group, bar, words, 1)


def below(measure: str, group: str, bar: float, words: str) -> Rule:
    """Whether a group's mean is below the bar."""
    return _against(measure, group, bar, words, -1)


def not_lower(measure: str, group: str, other: str, margin: float, words: str) -> Rule:
    """Whether a group's measure is less than `margin` below another measure of the same runs."""

    def rule(values: Values) -> Check:
        found = differences(values, group, group, measure, other)
        if not len(found):
            return Check(words, ABSENT, "-")
        mean, low, high, _ = intervals.paired(found)
        return Check(words, outcome(low, high, -margin), f"by {with_interval(mean, low, high)}")

    return rule


def _against(measure: str, group: str, bar: float, words: str, sign: int) -> Rule:
    def rule(values: Values) -> Check:
        numbers = np.array(list(column(values, group, measure).values()))
        if not len(numbers):
            return Check(words, ABSENT, "-")
        interval = intervals.interval(sign * numbers)
        low, high = interval or (None, None)
        return Check(words, outcome(low, high, sign * bar), cell(column(values, group, measure)))

    return rule


def as_good(
    measure: str, group: Callable[[Values], str], words: str, of_vae: str = "", of_autoencoder: str = ""
) -> Rule:
    """Whether a group falls short of the VAE by less than SHARE of the VAE's gain over the autoencoder.

    Of either another measure may be taken. Where the VAE's own gain cannot be told, to be as good is nothing.
    """

    def rule(values: Values) -> Check:
        shortfall = -differences(values, group(values), VAE, measure, of_vae)
        gains = differences(values, VAE, AUTOENCODER, of_vae or measure, of_autoencoder)
        if not len(shortfall) or not len(gains):
            return Check(words, ABSENT, "-")
        gain, (mean, low, high, _) = intervals.paired(gains), intervals.paired(shortfall)
        bar = SHARE * max(gain.mean, 0.0)
        found = {YES: NO, NO: YES, UNTOLD: UNTOLD}[outcome(low, high, bar)]
        moot = found == YES and (gain.low is None or gain.low <= 0)
        number = f"short by {with_interval(mean, low, high)}, where {shown(bar)} would do"
        return Check(words, MOOT if moot else found, number)

    return rule


def noise_baseline(values: Values) -> str:
    """The autoencoder with noise whose draws are nearest to the data, if there are several."""
    return _first(values, NOISE, lambda group: np.mean([*column(values, group, "frechet").values()]))


def matched_decay(values: Values) -> str:
    """The weight decay whose distortion is nearest to the VAE's."""
    vae = np.mean([*column(values, VAE, "distortion").values()])
    return _first(values, DECAY, lambda group: abs(np.mean([*column(values, group, "distortion").values()]) - vae))


def steadiest_decay(values: Values) -> str:
    """The weight decay whose distortion is least where codes are moved."""
    return _first(values, DECAY, lambda group: np.mean([*column(values, group, "moved").values()]))


def best_decay(values: Values) -> str:
    """The weight decay whose draws from its own fitted mixture are nearest to the data."""
    return _first(values, DECAY, lambda group: np.mean([*column(values, group, "samples").values()]))


def _first(values: Values, start: str, order: Callable[[str], float]) -> str:
    return min((group for group in values if group.startswith(start)), key=order, default=start)


def same_distortion(group: Callable[[Values], str], other: str, margin: float, words: str) -> Rule:
    """Whether two groups' distortions are within `margin` nats of each other."""

    def rule(values: Values) -> Check:
        chosen = group(values)
        found = differences(values, chosen, other, "distortion")
        if not len(found):
            return Check(words, ABSENT, "-")
        mean, low, high, _ = intervals.paired(-found)
        known = low is not None and high is not None
        inside, outside = known and -margin < low and high < margin, known and (low > margin or high < -margin)
        return Check(words, YES if inside else NO if outside else UNTOLD, f"{chosen}: {with_interval(mean, low, high)}")

    return rule


MATCHED = same_distortion(matched_decay, VAE, 2.0, "there is a match: distortions are within 2 nats of each other")


def if_matched(rule: Rule) -> Rule:
    """The rule where a weight decay costs as much in reconstruction as the VAE; not measured where none does."""
    return lambda values: rule(values) if MATCHED(values).outcome == YES else Check(rule(values).words, ABSENT, "-")


def verdict(checks: Sequence[Check], premises: Sequence[Check] = ()) -> str:
    """What the checks of a claim say together, if its premises are met."""
    found = {check.outcome for check in checks}
    if any(check.outcome != YES for check in premises):
        return OPEN
    if NO in found:
        return IN_PART if YES in found else FAILS
    if YES in found:
        return SO_FAR if {UNTOLD, ABSENT} & found else HOLDS
    return OPEN
