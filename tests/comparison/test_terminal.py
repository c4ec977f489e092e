"""What a terminal shows: names that differ at any width, nothing that it would act on, no sign before a zero."""

import itertools

import pytest
from helpers.made_up_studies import compare_study, config, elbo_parts, printed, write_run

from vae_jax.comparison.families import families
from vae_jax.comparison.terminal import comparison_lines
from vae_jax.comparison.wording import format_correlation, format_number, format_share, terminal_width
from vae_jax.sweeps.group_names import format_value, group_names
from vae_jax.sweeps.short_names import short_names

FIELDS = {"beta": (0.25, 0.5), "free_bits": (0.001, 0.002), "learning_rate": (0.0003, 0.0004)}
NAMES = [
    "beta " + " ".join(f"{name}={value}" for name, value in zip(FIELDS, values, strict=True))
    for values in itertools.product(*FIELDS.values())
]


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 45, 40, 30, 20, 12, 6])
@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        [f"{'same' * 10}{i}{'same' * 10}" for i in range(12)],
        ["a" * 50, "a" * 51],
        [f"x={i:030}" for i in range(3)],
    ],
    ids=["fields", "one word", "letters", "digits"],
)
def test_short_names_fit_and_differ(names, width):
    short = short_names(names, width)
    assert list(short) == names
    assert len(set(short.values())) == len(names)
    assert max(map(len, short.values())) <= width


def test_short_names_keep_what_tells_names_apart():
    assert short_names(NAMES, 100) == dict(zip(NAMES, NAMES, strict=True))
    assert short_names(NAMES, 50)[NAMES[0]] == "beta=0.25 free_bits=0.001 learning_rate=0.0003"  # not what all share
    assert short_names(NAMES, 40)[NAMES[0]] == "beta=0.25 free_bi.=0.001 learnin.=0.0003"


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_each_group_has_a_row_of_its_own_name_at_any_width(tmp_path, width):
    for seed, values in itertools.product(range(2), itertools.product(*FIELDS.values())):
        tree = config(seed, beta=values[0], free_bits=values[1])
        tree["train"]["learning_rate"] = values[2]
        write_run(tmp_path, tree, elbo_parts(1 + seed, 2 + sum(values) + 0.1 * seed * values[0]))
    comparison = compare_study(tmp_path, metrics=("elbo",))
    lines = printed(comparison, width).splitlines()
    assert max(map(len, lines)) <= width
    start = lines.index("elbo   nats per image, higher is better; bounds log p(x)")
    rows = [line for line in lines[start + 1 : lines.index("", start)] if "=" in line]
    assert len(rows) == len({line.strip().partition("  ")[0] for line in rows}) == len(comparison.groups) == 8


def test_in_a_narrow_terminal_names_stand_beside_their_numbers(tmp_path):
    for seed, beta in itertools.product(range(2), (0.5, 1.0)):
        write_run(tmp_path, config(seed, beta=beta), elbo_parts(1 + seed, 20 + beta))
    lines = printed(compare_study(tmp_path, metrics=("elbo",)), 60).splitlines()
    assert any(line.split()[:3] == ["beta=0.5", "2", "-22.0"] for line in lines)
    head = next(i for i, line in enumerate(lines) if line.startswith("  group"))
    assert lines[head - 1].split() == ["interquartile"]
    assert lines[head].split()[-1] == "mean"


def test_a_terminal_is_as_wide_as_it_is(monkeypatch):
    for columns, width in (("150", 150), ("50", 50), ("20", 40), ("0", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        assert terminal_width() == width


def test_groups_that_lack_a_field_are_no_part_of_those_that_have_it(tmp_path):
    """A field that is newer than a run, which most others have at its default."""
    for i, ema in enumerate((0.0, 0.0, 0.0, 0.9, None)):
        tree = config(i % 3, beta=1.0)
        tree["train"] |= {} if ema is None else {"ema": ema}
        write_run(tmp_path, tree, elbo_parts(1, 2 + i), name=f"run{i}")
    comparison = compare_study(tmp_path)
    assert {group.name: len(group.runs) for group in comparison.groups} == {"no ema": 1, "ema=0": 3, "ema=0.9": 1}
    assert sum(len(family.groups) for family in families(comparison)) == 3


def test_names_of_groups_differ_whatever_their_values():
    fields = ("net.x", "net.y")
    values = [{"net.x": "4", "net.y": 1}, {"net.x": 4, "net.y": 1}, {"net.x": 4}, {"net.y": 1}, {}]
    names = group_names(values, fields)
    assert len(set(names)) == len(names)
    assert names[2:] == ["x=4 no y", "y=1 no x", "no x no y"]


# --- what a terminal acts on ----------------------------------------------------------------------

NASTY = "a\nb\033[31mc\u202ed\ttab"


def test_no_name_or_error_reaches_a_terminal_raw(tmp_path):
    root = tmp_path / NASTY.replace("\n", "\r")
    for seed in range(2):
        for name in (NASTY, "plain"):
            tree = config(seed, beta=1.0)
            tree["net"] |= {NASTY: name, "name": name}
            write_run(root, tree, elbo_parts(seed, 2, **{f"m{NASTY}": 1.0 * seed}), name=f"{name}{seed}")
    write_run(root, config(9), failed={"error": NASTY}, name=f"failed{NASTY}")
    (root / f"empty{NASTY}").mkdir()
    comparison = compare_study(root, metrics=("elbo", f"m{NASTY}"))
    lines = comparison_lines(comparison, colour=False, width=100)
    assert all(line.isprintable() for line in lines)
    assert "\\n" in "\n".join(lines)
    coloured = "".join(comparison_lines(comparison, colour=True, width=100))
    assert all(code in "0m1m2m31m32m" for code in (part[:2] for part in coloured.split("\033[")[1:]))


# --- zeros ----------------------------------------------------------------------------------------


def test_what_rounds_to_zero_has_no_sign():
    assert [format_number(-1e-3, 2), format_number(-0.0, 4, sign=True), format_number(2e-4, 3, sign=True)] == [
        *("0.00", "0.0000", "0.000")
    ]
    assert [format_share(-1e-17), format_share(-0.0, 1), format_share(-0.25)] == ["0%", "0.0%", "-25%"]
    assert [format_correlation(-0.004, sign=True), format_correlation(0.5, sign=True)] == ["0.00", "+0.50"]
    assert format_value(-0.0) == "0"
    assert format_number(-12.5, 1) == "-12.5"


def test_zero_and_minus_zero_are_one_setting(tmp_path):
    for seed, beta in enumerate((0.0, -0.0, 1.0)):
        write_run(tmp_path, config(seed, beta=beta), elbo_parts(1, 2, mig=-0.0), name=f"run{seed}")
    comparison = compare_study(tmp_path, metrics=("mig",), baseline="beta=0")
    assert {group.name: len(group.runs) for group in comparison.groups} == {"beta=0": 2, "beta=1": 1}
    assert "-0" not in printed(comparison).replace(str(tmp_path), "")
