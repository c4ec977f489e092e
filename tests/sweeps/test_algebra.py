"""The algebra of sweeps, the ids of runs, and which runs share a program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vae_jax.config import parse
from vae_jax.config.parse import load_sweep, parse_config
from vae_jax.errors import UserError
from vae_jax.sweeps import study
from vae_jax.sweeps.algebra import chain, choice, grid, log_uniform, product, random, seeds, uniform, zipped
from vae_jax.sweeps.groups import group_runs, plan_runs

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs/digits.py")
DSPRITES = str(ROOT / "configs/dsprites.py")
A, B, C = grid(a=[1, 2]), grid(b=["x", "y", "z"]), zipped(b=["x", "w"], c=[0.5, 1.5])


def as_set(points):
    return {study.digest(point) for point in points}


def test_grid_is_the_product_of_its_columns():
    assert grid(a=[1, 2], b=["x", "y", "z"]) == product(A, B)
    assert product(A, B)[:2] == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]
    assert len(product(A, B, seeds(5))) == 2 * 3 * 5
    assert grid() == product() == [{}]
    assert product(A, [{}]) == A
    assert chain() == product(A, chain()) == []


def test_product_distributes_over_chain_and_both_associate():
    assert product(A, chain(B, C)) == chain(product(A[:1], B), product(A[:1], C), product(A[1:], B), product(A[1:], C))
    assert as_set(product(A, chain(B, C))) == as_set(chain(product(A, B), product(A, C)))
    assert as_set(product(chain(B, C), A)) == as_set(chain(product(B, A), product(C, A)))
    assert product(product(A, B), seeds(2)) == product(A, product(B, seeds(2)))
    assert chain(chain(A, B), C) == chain(A, chain(B, C))


def test_zipped_takes_values_together():
    assert C == [{"b": "x", "c": 0.5}, {"b": "w", "c": 1.5}]


def test_duplicates_are_merged_where_they_first_come():
    assert chain(A, [{"a": 3}], A) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert grid(a=[2, 1, 2.0]) == [{"a": 2}, {"a": 1}]
    assert grid(a=[True, 1]) == [{"a": True}, {"a": 1}]
    assert chain([{"a": 1, "b": 2}], [{"b": 2, "a": 1}]) == [{"a": 1, "b": 2}]


def test_numpy_values_become_plain():
    (first, *_) = grid(a=np.linspace(0, 1, 3), b=np.arange(2))
    assert [type(value) for value in first.values()] == [float, int]


def test_random_is_a_function_of_its_key_field_by_field():
    ranges = {"a": uniform(0, 1), "b": log_uniform(1e-4, 1e-1), "c": choice("x", "y")}
    points = random(200, 0, **ranges)
    assert points == random(200, 0, **ranges)
    assert points[:50] == random(50, 0, **ranges)
    assert [point["a"] for point in points] == [point["a"] for point in random(200, 0, a=ranges["a"])]
    assert points != random(200, 1, **ranges)
    assert points[0] == {"a": 0.932799, "b": 0.000296033, "c": "x"}  # on every machine
    a, b = (np.array([point[name] for point in points]) for name in "ab")
    assert ((a >= 0) & (a <= 1)).all()
    assert ((b >= 1e-4) & (b <= 1e-1)).all()
    assert abs(a.mean() - 0.5) < 4 / np.sqrt(12 * 200)
    assert abs(np.log10(b).mean() + 2.5) < 4 * 3 / np.sqrt(12 * 200)  # uniform in the logarithm, over three decades
    assert {point["c"] for point in points} == {"x", "y"}
    assert random(50, 0, c=choice("x", "y")) in ([{"c": "x"}, {"c": "y"}], [{"c": "y"}, {"c": "x"}])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zipped(a=[1, 2], b=[1]), "zipped: the lists differ in length: a has 2, b has 1"),
        (lambda: grid(a=[]), "grid: a has no values"),
        (lambda: grid(a="beta"), "grid: a is 'beta'; give a list"),
        (lambda: grid(a=4), "grid: a is 4; give a list"),
        (lambda: product(A, A), "product: a is set by two of its sweeps"),
        (lambda: product(A, chain(B, A)), "product: a is set by two of its sweeps"),
        (lambda: seeds(0), "seeds: 0 is not allowed"),
        (lambda: random(3, 0, a=[1, 2]), "random: a is .*; give uniform"),
        (lambda: random(0, 0, a=uniform(0, 1)), "random: 0 is not allowed"),
        (lambda: uniform(1, 1), "uniform: .* is not a range"),
        (lambda: log_uniform(0, 1), "log_uniform: 0 has no logarithm"),
        (lambda: choice(), "choice: has no options"),
    ],
)
def test_what_makes_no_sweep_is_said(call, message):
    with pytest.raises(UserError, match=message):
        call()


def run_of(point, overrides=(), file=DIGITS):
    (run,) = plan_runs(file, list(overrides), [point])
    return run


def test_the_same_config_is_the_same_run_however_it_is_reached(tmp_path):
    def suffix(run):
        return run.id[run.id.index("_s3_") :]

    run = run_of({"variant.beta": 4, "seed": 3})
    assert run.id == run_of({"seed": 3, "variant.beta": 4.0}).id
    same = [
        run_of({"seed": 3}, [("variant.beta", "4")]),
        run_of({"seed": 3, "variant.beta": 4}, [("wandb.name", "x"), ("log.every", "7"), ("train.steps", "9")]),
        run_of({"variant.name": "beta", "seed": 3, "variant.beta": 4.0}, file=f"{DIGITS}:factor"),
    ]
    assert {suffix(run)} == {suffix(other) for other in same}
    file = tmp_path / "mine.py"
    file.write_text(
        "from vae_jax.configs import digits\ndef get_config():\n    config = digits.get_config()\n"
        "    config.variant = {'beta': 4, 'free_bits': 0, 'name': 'beta'}\n    config.seed = 3\n    return config\n"
    )
    assert suffix(run) == suffix(run_of({}, file=str(file)))
    assert suffix(run) == study.run_suffix(parse_config(run.words).to_dict())  # what the command line gives
    assert suffix(run) == study.run_suffix(json.loads(json.dumps(run.config.to_dict())))  # what config.json holds
    others = [{"variant.beta": 4, "seed": 4}, {"variant.beta": 4.5, "seed": 3}, {"seed": 3, "net.hidden": (8,)}]
    assert len({run.id, *(run_of(point).id for point in others)}) == 4


@pytest.mark.parametrize(
    ("point", "name"),
    [
        ({"variant.beta": 4.0, "seed": 3}, "beta=4_s3_"),
        ({"seed": 3}, "beta_digits_s3_"),
        ({"variant.name": "factor", "variant.gamma": 0.25}, "factor_gamma=0.25_s0_"),
        ({"net.hidden": (8, 4), "wandb.name": "a/b c"}, "hidden=(8-4)_a-b-c_s0_"),
        ({"schedule.name": "linear", "schedule.steps": 5, "train.steps": 9}, "linear_schedule.steps=5_train.steps=9_"),
    ],
)
def test_a_run_is_called_by_what_is_swept(point, name):
    assert run_of(point).id.startswith(name)


def test_data_in_two_places_are_two_runs_in_two_programs():
    runs = plan_runs(DIGITS, [("data.name", "idx")], grid(**{"data.path": ["a", "b"]}))
    assert [run.id.partition("_s0_")[0] for run in runs] == ["path=a", "path=b"]
    assert len(group_runs(runs)) == 2


def test_a_run_of_the_study_keeps_its_id_whatever_it_is_swept_with(tmp_path):
    run = run_of({"variant.beta": 4})
    (tmp_path / run.id).mkdir()
    points = [{"variant.beta": beta, "latent_dim": size} for beta in (1, 4) for size in (2, 16)]
    ids = [run.id for run in plan_runs(DIGITS, [], points, tmp_path)]
    assert ids[-1] == run.id
    assert [name.partition("_s0_")[0] for name in ids[:3]] == [
        "beta=1_latent_dim=2",
        "beta=1_latent_dim=16",
        "beta=4_latent_dim=2",
    ]


def test_ids_are_the_same_in_another_process():
    code = (
        "from vae_jax.sweeps.groups import plan_runs; print(*(run.id for run in plan_runs('configs/digits.py', [], "
        "[{'seed': 1, 'net.hidden': (8, 4), 'data.binarize': 'static'}, {'train.cosine': True}])))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    points = [{"seed": 1, "net.hidden": (8, 4), "data.binarize": "static"}, {"train.cosine": True}]
    assert ran.stdout.split() == [run_of(point).id for point in points], ran.stderr


def test_every_point_is_checked_and_all_errors_come_at_once():
    points = [
        {"variant.beta": 1},
        {"variant.beta": -1, "seed": 0},
        {"variant.beta": -1, "seed": 1},
        {"variant.betta": 1},
        {"seed": 1.5},
        {"train.steps": 5},
    ]
    with pytest.raises(UserError) as caught:
        plan_runs(DIGITS, [("train.steps", "9")], points)
    text = str(caught.value)
    assert "5 of 6 points of the sweep are wrong; nothing is launched" in text
    for line in (
        "config.variant.beta: -1.0 is not allowed; give a number of at least 0   (at {'variant.beta': -1, ",
        "did you mean 'beta'?",
        "config.seed: '1.5' is not allowed; give a whole number",
        "config.train.steps: is set by the sweep; leave it out of the command line",
    ):
        assert line in text
    with pytest.raises(UserError, match="has no points"):
        plan_runs(DIGITS, [], [])
    with pytest.raises(UserError, match="give a list of dicts"):
        plan_runs(DIGITS, [], [1])
    with pytest.raises(UserError, match=r"default.py' has no sweep\(\)"):
        load_sweep(str(ROOT / "configs/default.py"))


def test_points_of_one_config_are_one_run():
    assert len(plan_runs(DIGITS, [], [{}, {"seed": 0}, {"variant.beta": 1.0}, {"seed": 1}])) == 2


def test_programs_are_split_by_static_fields_alone():
    traced = grid(**{"variant.beta": [1, 2], "train.learning_rate": [1e-3, 1e-2], "variant.free_bits": [0, 0.1]})
    (group,) = group_runs(plan_runs(DIGITS, [], product(traced, seeds(3))))
    assert len(group.runs) == 24
    assert group.swept == {
        "seed": [0, 1, 2],
        "train.learning_rate": [1e-3, 1e-2],
        "variant.beta": [1.0, 2.0],
        "variant.free_bits": [0.0, 0.1],
    }
    static = [{"net.hidden": (8,)}, {"train.steps": 9}, {"data.binarize": "static"}, {"variant.name": "tcvae"}]
    groups = group_runs(plan_runs(DIGITS, [], product(chain([{}], static), seeds(2))))
    assert [len(group.runs) for group in groups] == [2] * 5
    assert len({group.id for group in groups}) == 5
    mirrored = group_runs(plan_runs(DIGITS, [], grid(**{"wandb.name": ["a", "b"]})))
    assert len(mirrored) == 1
    # What is swept within a program is no part of its name.
    assert groups[0].id == group_runs([run_of({"seed": 7, "variant.beta": 3})])[0].id


@pytest.fixture(scope="module")
def dsprites():
    """The runs of the study on dsprites, and how often a section's defaults were made to parse them."""
    made = parse._defaults.cache_info().misses
    runs = plan_runs(DSPRITES, [], load_sweep(DSPRITES))
    return runs, parse._defaults.cache_info().misses - made


def test_every_sweep_of_the_configs_parses(dsprites):
    groups = {}
    for file in sorted((ROOT / "configs").glob("*.py")):
        if "def sweep" in file.read_text():
            runs = dsprites[0] if str(file) == DSPRITES else plan_runs(str(file), [], load_sweep(str(file)))
            groups[file.stem] = group_runs(runs)
    assert [len(group.runs) for group in groups["digits"]] == [32]
    assert [len(group.runs) for group in groups["dsprites"]] == [300] * 6


def test_the_study_on_dsprites_has_the_settings_of_its_paper_and_makes_no_defaults_twice(dsprites):
    runs, made = dsprites
    assert made <= 6  # the families; it has 1,800 points
    assert len({run.id for run in runs}) == 1800
    families = {}
    for run in runs:
        families.setdefault((run.config.variant.name, run.config.variant.get("kind", "")), []).append(run.config)
    assert {name: len(configs) for name, configs in families.items()} == dict.fromkeys(
        [("beta", ""), ("capacity", ""), ("factor", ""), ("dip", "I"), ("dip", "II"), ("tcvae", "")], 300
    )
    assert {config.variant.lambda_d / config.variant.lambda_od for config in families["dip", "I"]} == {10.0}
    assert {config.variant.lambda_d / config.variant.lambda_od for config in families["dip", "II"]} == {1.0}
    assert {(config.variant.width, config.variant.depth) for config in families["factor", ""]} == {(1000, 6)}
    assert {(config.variant.gamma, config.variant.ramp_steps) for config in families["capacity", ""]} == {(1000.0, 1e5)}
    assert {config.seed for config in families["tcvae", ""]} == set(range(50))
