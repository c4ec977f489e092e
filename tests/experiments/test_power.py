"""What docs/comparing.md says of the tests, and README.md of a study, is what the programs say."""

import csv
import json
import re
from pathlib import Path

import pytest

from experiments.benchmark import power
from vae_jax.comparison import analyse, intervals
from vae_jax.comparison.results import ComparedRun
from vae_jax.comparison.terminal import comparison_lines
from vae_jax.comparison.wording import decimals, format_interval, format_number, format_p
from vae_jax.errors import UserError

ROOT = Path(__file__).parents[2]
STUDIES = 2000


def documented_tables():
    """The two simulated tables of docs/comparing.md as {row's labels: shares}."""
    text = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|((?: \d+ \|)?)((?: [\d.]+% \|)+)$", text, re.MULTILINE)
    return {
        (int(seeds), *map(int, re.findall(r"\d+", count))): re.findall(r"[\d.]+%", shares)
        for seeds, count, shares in rows
    }


def test_the_page_has_every_cell_of_both_tables():
    false_claims, detections = {(n,) for n in power.SEEDS}, {(n, count) for n in power.SEEDS for count in (1, 8)}
    assert documented_tables().keys() == false_claims | detections


def test_false_claims_are_as_many_as_the_page_says():
    assert f"{power.false_claims(5, 'normal', STUDIES, 5, 2):.1%}" == documented_tables()[5,][0]
    false_claims = [float(share.rstrip("%")) for seeds in power.SEEDS for share in documented_tables()[seeds,][:-1]]
    assert max(false_claims) < 6.5


def test_a_steady_baseline_beside_skewed_groups_makes_false_claims_as_the_page_says():
    share = power.false_claims(5, "skewed beside a steady baseline", STUDIES, 5, 2)
    assert f"{share:.1%}" == documented_tables()[5,][-1] > "20%"


@pytest.mark.parametrize(("seeds", "comparisons"), [(n, count) for n in power.SEEDS for count in (1, 8)])
def test_power_is_what_the_page_says(seeds, comparisons):
    documented = [float(share.rstrip("%")) / 100 for share in documented_tables()[seeds, comparisons]]
    if comparisons == 1:
        expected = [intervals.power(seeds, effect, intervals.LEVEL) for effect in power.EFFECTS]
        assert documented == pytest.approx(expected, abs=0.035)
    else:  # between that of the first and of the last step of Holm's
        for share, effect in zip(documented, power.EFFECTS, strict=True):
            levels = intervals.LEVEL / comparisons, intervals.LEVEL / 2
            low, high = (intervals.power(seeds, effect, level) for level in levels)
            assert low - 0.035 < share < high + 0.035
    if seeds == 10 and comparisons == 1:
        assert f"{power.power(seeds, 1.0, STUDIES, 2, 1):.0%}" == documented_tables()[seeds, comparisons][1]


def test_the_program_prints_such_tables(capsys):
    assert power.main(["--studies=20", "--groups=3", "--metrics=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"| seeds | {' | '.join(power.NOISE)} |"
    assert lines[6] == "| seeds | comparisons | 0.5 sd | 1 sd | 2 sd |"
    assert [line.split("|")[2].strip() for line in lines[8:]] == ["1", "2"] * 3


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("--groups=1", "--groups: '1' is not allowed; give a whole number of at least 2"),
        ("--studies=many", "--studies: 'many' is not allowed"),
        ("--studeis=5", "did you mean 'studies'"),
        ("--config.seed=1", "--config.seed: this program takes no config"),
    ],
)
def test_what_is_not_allowed_is_said(word, says):
    with pytest.raises(UserError, match=says):
        power.main([word])


# --- the README's table ---------------------------------------------------------------------------


def documented_runs():
    """The runs of docs/rate_distortion.csv."""
    with (ROOT / "docs" / "rate_distortion.csv").open(newline="", encoding="utf-8") as file:
        return [read_run(row) for row in csv.DictReader(file)]


def read_run(row):
    def columns(name):
        return {key.removeprefix(f"{name}."): value for key, value in row.items() if key.startswith(f"{name}.")}

    return ComparedRun(
        name=row["name"],
        folder=row["folder"],
        group="",
        seed=int(row["seed"]),
        config={field: parse_value(text) for field, text in columns("config").items()},
        metrics={name: float(text) for name, text in columns("metrics").items()},
        status=row["status"],
        error="",
        environment=columns("environment"),
        steps_per_second=float(row["steps_per_second"]),
    )


def parse_value(text):
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False}.get(text, text)


def test_the_readmes_table_is_what_the_comparison_says():
    comparison = analyse.compare_runs("runs/study", "compare", documented_runs(), [])
    between = {difference.group: difference for difference in comparison.differences if difference.metric == "elbo"}
    summaries = {group.name: group.summaries["elbo"] for group in comparison.groups}
    digits = decimals(summaries.values())
    rows = [
        ["group", "seeds", "ELBO, nats", "95% interval", f"against {comparison.baseline}", "p"],
        ["---"] * 6,
    ]
    for name, (n, mean, low, high, _) in summaries.items():
        rows.append([name, str(n), format_number(mean, digits), format_interval(low, high, digits), "", ""])
        if difference := between.get(name):
            rows[-1][4:] = format_number(difference.mean, digits, sign=True), format_p(difference.p)
    table = "".join("|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|\n" for row in rows)
    assert table.count("\n") == 6
    assert table.replace(" --- ", "---") in (ROOT / "README.md").read_text(encoding="utf-8")
    printed = {tuple(line.split()) for line in comparison_lines(comparison)}
    for name, n, mean, sure, *_ in rows[2:]:
        assert any(words[: 3 + len(sure.split())] == (name, n, mean, *sure.split()) for words in printed)
