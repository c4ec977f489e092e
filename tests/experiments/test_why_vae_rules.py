"""Each rule of the founding claims on made-up numbers."""

import pytest

from experiments.why_vae.rules import (
    AUTOENCODER,
    FAILS,
    HOLDS,
    HOLDS_IN_PART,
    HOLDS_SO_FAR,
    LEARNED,
    NO,
    NO_GAIN,
    NO_KL,
    NOT_MEASURED,
    OPEN,
    UNDECIDED,
    VAE,
    YES,
    Check,
    above,
    as_good,
    below,
    best_noise,
    better,
    better_than,
    format_scores,
    grown,
    if_matched,
    matched_decay,
    not_lower,
    same_distortion,
    verdict,
)


def made_up_values(**groups):
    """measure "frechet" of named groups, a number a seed."""
    names = {"vae": VAE, "ae": AUTOENCODER, "no_kl": NO_KL}
    return {
        names.get(group, group): {str(seed): {"frechet": x, "distortion": x} for seed, x in enumerate(numbers)}
        for group, numbers in groups.items()
    }


def outcome(rule, values):
    return rule(values).outcome


def test_a_difference_counts_once_its_interval_leaves_zero():
    rule = better("frechet", VAE, AUTOENCODER, "")
    assert outcome(rule, made_up_values(vae=[1, 2, 3], ae=[11, 12, 13.5])) == YES  # less is better
    assert outcome(rule, made_up_values(vae=[11, 12, 13.5], ae=[1, 2, 3])) == NO
    assert outcome(rule, made_up_values(vae=[1, 2, 3], ae=[3, 1, 2.5])) == UNDECIDED
    assert outcome(rule, made_up_values(vae=[1], ae=[99])) == UNDECIDED  # one seed makes no claim
    assert outcome(rule, made_up_values(vae=[1, 2])) == NOT_MEASURED
    paired = made_up_values(vae=[1, 50, 100], ae=[2, 51.1, 101.2])  # seeds differ more than groups
    assert outcome(rule, paired) == YES
    assert "by 1.1 [" in rule(paired).number


def test_the_values_may_choose_whom_to_compare_with():
    values = made_up_values(vae=[10, 11, 12.5], **{"weight decay 0.1": [3, 4, 5], "weight decay 0.3": [12, 13, 14]})
    check = better_than("frechet", VAE, matched_decay, "")(values)
    assert check.outcome == YES
    assert check.number.startswith("weight decay 0.3: by 1.83 [")


def test_what_costs_something_else_is_not_compared():
    rule = if_matched(better_than("frechet", VAE, matched_decay, "smoother"))
    near = made_up_values(vae=[10, 11, 12.5], **{"weight decay 0.1": [11, 12, 13.3]})
    far = made_up_values(vae=[10, 11, 12.5], **{"weight decay 0.1": [30, 31, 32]})
    assert outcome(rule, near) == YES
    assert outcome(rule, far) == NOT_MEASURED
    assert rule(far).sentence == "smoother"


def test_not_much_lower():
    values = {LEARNED: {str(i): {"encoder_error": 0.5 + i / 100, "decoder_error": 0.55 + i / 90} for i in range(4)}}
    rules = [not_lower("encoder_error", LEARNED, "decoder_error", margin, "") for margin in (0.1, 0.052, 0.01)]
    assert [outcome(rule, values) for rule in rules] == [YES, UNDECIDED, NO]
    assert outcome(rules[0], {}) == NOT_MEASURED


def test_bars():
    values = made_up_values(vae=[1.0, 1.1, 1.2])
    assert [outcome(above("frechet", VAE, bar, ""), values) for bar in (0.5, 1.1, 2)] == [YES, UNDECIDED, NO]
    assert [outcome(below("frechet", VAE, bar, ""), values) for bar in (0.5, 1.1, 2)] == [NO, UNDECIDED, YES]
    assert format_scores({"0": 1234.6}) == "1,235"
    assert format_scores({}) == "-"


def test_growth_is_from_start_to_end():
    values = {NO_KL: {str(i): {"sigma": 0.1 + i / 100, "sigma_start": 1.0} for i in range(3)}}
    assert outcome(grown("sigma", "sigma_start", NO_KL, "", sign=-1), values) == YES
    assert outcome(grown("sigma", "sigma_start", NO_KL, ""), values) == NO


def test_as_good_is_most_of_the_gain():
    ends = {"ae": [100, 101, 99.0], "vae": [0, 1, 0.5]}  # a gain of 100, of which 20 may be missing
    rule = as_good("frechet", best_noise, "")
    for baseline, expected in (
        ([5, 6, 4.0], YES),
        ([60, 61, 62.0], NO),
        ([0, 20, 40.0], UNDECIDED),
        ([-9, -8, -9], YES),
    ):
        assert outcome(rule, made_up_values(**ends) | made_up_values(**{"autoencoder + noise 1": baseline})) == expected
    assert outcome(rule, made_up_values(**ends)) == NOT_MEASURED
    none = {"ae": [1, 2, 3], "vae": [3, 1, 2.5], "autoencoder + noise 1": [-90, -90, -91]}
    assert outcome(rule, made_up_values(**none)) == NO_GAIN
    assert outcome(rule, made_up_values(**(none | {"autoencoder + noise 1": [90, 90, 91]}))) == NO


def test_the_baselines_are_the_nearest():
    noises = made_up_values(vae=[0, 0], **{"autoencoder + noise 0.1": [9, 9], "autoencoder + noise 1": [5, 6]})
    assert best_noise(noises) == "autoencoder + noise 1"
    decays = made_up_values(
        vae=[10, 11], **{"weight decay 0.1": [3, 4], "weight decay 0.3": [12, 13], "weight decay 1": [40, 1]}
    )
    assert matched_decay(decays) == "weight decay 0.3"
    rule = same_distortion(matched_decay, VAE, 3.0, "")
    assert outcome(rule, decays) == YES
    assert "weight decay 0.3" in rule(decays).number
    assert outcome(same_distortion(matched_decay, VAE, 1.0, ""), decays) == NO


@pytest.mark.parametrize(
    ("outcomes", "premises", "expected"),
    [
        ((YES, YES), (), HOLDS),
        ((YES, NO_GAIN), (), HOLDS),
        ((YES, NOT_MEASURED, NO_GAIN), (), HOLDS_SO_FAR),
        ((NO_GAIN, NO), (), FAILS),
        ((YES, UNDECIDED), (), HOLDS_SO_FAR),
        ((YES, NO, UNDECIDED), (), HOLDS_IN_PART),
        ((NO, UNDECIDED), (), FAILS),
        ((UNDECIDED,), (), OPEN),
        ((NOT_MEASURED,), (), OPEN),
        ((NO, NO), (YES,), FAILS),
        ((YES, YES), (NO,), OPEN),
    ],
)
def test_verdicts(outcomes, premises, expected):
    assert verdict(*([Check("", outcome, "") for outcome in checks] for checks in (outcomes, premises))) == expected
