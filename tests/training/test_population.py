"""A population's members against the runs that they would be alone."""

import json
import shutil
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae
from helpers.run_folder import digest, records, results, steps
from helpers.small_run import small_words, train_small
from helpers.variant_configs import NAMES, SHAPE, config_of, split_with_factors

from vae_jax import cli, data, model, randomness
from vae_jax.config.parse import parse_config
from vae_jax.errors import UserError
from vae_jax.training import executors, halving, memory, population
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.memory import FILLED, member_bytes, members_at_once, tree_bytes
from vae_jax.training.run import TrainingRun
from vae_jax.training.scan import AT_ONCE, IN_TURN
from vae_jax.training.setup import prepare
from vae_jax.training.step import Hyper, initial_state, make_train_step, optimizer_for

pytestmark = pytest.mark.usefixtures("undrawn", "share_programs")

COUNT, DISPATCH = 5, 3
"""Five members on two devices: one place is filled up."""


def several(name):
    """(program's make_step, states, indices, keys, hyper) of five members of a variant: seeds and floats differ."""
    config = config_of(name)
    config.net.hidden = ()  # fewer kernels to compile
    built = model.build(config, SHAPE)
    start = jax.jit(lambda key: initial_state(built, config, SHAPE, key))
    keys = [randomness.root_key(seed) for seed in range(COUNT)]
    floats = [{field: jnp.float32(value * (1 + i / 8)) for field, value in built.floats.items()} for i in range(COUNT)]
    hyper = [Hyper(jnp.float32(1e-3 * (1 + i)), floats[i]) for i in range(COUNT)]
    indices = np.stack([data.index_stream(seed, 0, DISPATCH, tiny_vae.SIZE, 12) for seed in range(COUNT)])

    def make_step(split):
        fetch = partial(data.make_batch, split, data.sample_pixels)
        return make_train_step(built.nets, built.variant, optimizer_for(config, built.variant), fetch)

    return make_step, [jax.device_get(start(key)) for key in keys], indices, keys, hyper


def trained(executor, make_step, states, indices, keys, hyper, alive):
    """One dispatch: each member's state and metrics."""
    train_steps = executor.train_steps(make_step, DISPATCH)
    split = executors.replicate(split_with_factors(), executor.devices)
    key, hyper = executor.to_devices(list(zip(keys, hyper, strict=True)))
    with jax.debug_key_reuse(False):  # the check is of the step, made elsewhere, and slow to compile
        state, metrics = train_steps(split, executor.to_devices(states), indices, key, hyper, np.asarray(alive))
    return executor.to_host(state), executor.to_host(metrics)


IN_SHORT = ("beta",)
"""The simplest."""


@pytest.mark.parametrize(
    "name", [name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.full) for name in NAMES]
)
def test_a_member_is_the_run_it_would_be_alone(name):
    make_step, states, indices, keys, hyper = several(name)
    alive = np.ones(COUNT, bool)
    on_two = executors.MemberParallel(executors.local_devices(2))
    many, rows = trained(on_two, make_step, states, indices, keys, hyper, alive)
    solo = executors.DataParallel(executors.local_devices(1))
    last = [members[-1:] for members in (states, indices, keys, hyper)]
    (alone,), (row,) = trained(solo, make_step, *last, alive[:1])
    # Bit for bit for most; where XLA fuses the sums of the two programs in another way, to their last bits.
    near = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(near, alone, many[COUNT - 1])
    jax.tree.map(near, row, rows[COUNT - 1])
    assert not np.allclose(rows[0]["loss"], row["loss"], rtol=1e-4)


EITHER_WAY = [AT_ONCE, pytest.param(IN_TURN, marks=pytest.mark.full)]


@pytest.mark.parametrize("over", EITHER_WAY)
def test_members_that_have_ended_stay_and_disturb_nobody(over):
    make_step, states, indices, keys, hyper = several("beta")
    states[1] = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan) if leaf.dtype == np.float32 else leaf, states[1])
    executor = executors.MemberParallel(executors.local_devices(2), map=over)
    alive = np.array([True, False, True, False, True])
    after, rows = trained(executor, make_step, states, indices, keys, hyper, alive)
    for i in (1, 3):
        jax.tree.map(np.testing.assert_array_equal, after[i], states[i])
    solo = executors.DataParallel(executors.local_devices(1))
    (alone,), (row,) = trained(solo, make_step, states[2:3], indices[2:3], keys[2:3], hyper[2:3], alive[:1])
    # All at once is another program, whose sums run in another order.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), alone, after[2])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), row, rows[2])


@pytest.mark.parametrize("over", EITHER_WAY)
def test_the_members_of_a_device_read_one_copy_of_the_data(over):
    make_step, states, indices, keys, hyper = several("beta")
    executor = executors.MemberParallel(executors.local_devices(2), map=over)
    key, hyper = executor.to_devices(list(zip(keys, hyper, strict=True)))
    steps, alive = executor.train_steps(make_step, DISPATCH), np.ones(COUNT, bool)
    with jax.debug_key_reuse(False):
        lowered = steps.lower(split_with_factors(), executor.to_devices(states), indices, key, hyper, alive)
    images = f"{tiny_vae.SIZE}x{np.prod(SHAPE)}"
    assert f"tensor<{images}xui8>" in lowered.as_text()
    assert f"x{images}x" not in lowered.as_text()


@pytest.mark.full
def test_a_population_is_evaluated_as_each_would_be_alone():
    executor = executors.MemberParallel(executors.local_devices(2))
    states = [tiny_vae.state() for _ in range(3)]
    states = [
        jax.tree.map(lambda leaf, i=i: np.asarray(leaf) + np.asarray(i / 10, leaf.dtype), s.params)
        for i, s in enumerate(states)
    ]

    def constants():
        return [(randomness.root_key(i), jnp.int32(7), tiny_vae.hyper(beta=1.0 + i)) for i in range(3)]

    for batch in (16, 20, 100):  # with a rest, without, all in one
        evaluate = executor.evaluation(tiny_vae.make_eval_step, batch, tiny_vae.split())
        members = evaluate(executor.to_devices(states), *executor.to_devices(constants()))
        chosen = executors.local_devices(1)
        solo = executors.DataParallel(chosen).evaluation(tiny_vae.make_eval_step, batch, tiny_vae.split())
        for i in range(3):
            (alone,) = solo(*executors.replicate((states[i], *constants()[i]), chosen))
            assert alone.keys() == members[i].keys()
            for name, value in alone.items():
                np.testing.assert_allclose(members[i][name], value, rtol=1e-6, atol=1e-7, err_msg=name)


FIELDS = {"parallel.devices": 2, "sweep.members_per_device": 2}


def members_file(folder, members):
    """The file of members by name, each with its own fields."""
    rows = [
        {"workdir": str(folder / name), "words": small_words(**FIELDS | fields)} for name, fields in members.items()
    ]
    (folder / "members.json").write_text(json.dumps(rows))
    return f"--members={folder / 'members.json'}"


def seeds(count, **fields):
    return {f"s{seed}": fields | {"seed": seed} for seed in range(count)}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    assert cli.population([members_file(folder, seeds(3, **{"sweep.members_per_device": 0}))]) == 0
    return folder


def test_each_member_leaves_the_folder_of_a_run_of_its_own(three, tmp_path):
    alone, member = tmp_path / "alone", three / "s2"
    assert train_small(alone, seed=2) == 0
    assert results(member) == results(alone)
    assert {str(file.relative_to(member)) for file in member.rglob("*.p*")} == {
        str(file.relative_to(alone)) for file in alone.rglob("*.p*")
    }
    assert steps(member) == steps(alone)


def test_finished_members_are_left_alone(three, capsys):
    before = {file: file.stat().st_mtime_ns for file in three.rglob("*") if file.is_file()}
    assert cli.population([f"--members={three / 'members.json'}"]) == 0
    assert "3 members, 3 of them ended before" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in three.rglob("*") if file.is_file()}


def stop_after(monkeypatch, step):
    """Stops the population as a signal does, once it has reached `step`."""
    index_stream, sent = data.index_stream, []

    def stream(seed, start, *more):
        if start >= step and not sent:
            sent.append(signal.raise_signal(signal.SIGTERM))
        return index_stream(seed, start, *more)

    monkeypatch.setattr(data, "index_stream", stream)


@pytest.mark.full
def test_members_that_stand_apart_meet_and_end_the_same(three, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 30)
        assert cli.population([members_file(tmp_path, seeds(1))]) == 128 + 15
    assert digest(tmp_path / "s0")[0] == 40
    assert cli.population([members_file(tmp_path, seeds(3))]) == 0
    for name in seeds(3):
        assert records(tmp_path / name)[-1] == records(three / name)[-1]
        assert digest(tmp_path / name) == digest(three / name)


@pytest.mark.full
def test_members_in_rounds_end_the_same(three, tmp_path):
    assert cli.population([members_file(tmp_path, seeds(3, **{"sweep.members_per_device": 1}))]) == 0
    for name in seeds(3):
        assert records(tmp_path / name) == records(three / name)


@pytest.mark.full
def test_data_parallel_members_follow_one_another(three, tmp_path):
    assert cli.population([members_file(tmp_path, seeds(2, **{"parallel.mode": "data"}))]) == 0
    for name in seeds(2):
        ours, theirs = records(tmp_path / name)[-1], records(three / name)[-1]
        np.testing.assert_allclose(ours["elbo"], theirs["elbo"], rtol=1e-3)


def test_a_member_that_diverges_is_reported_and_the_others_go_on(three, tmp_path, capsys):
    members = seeds(2) | {"bad": {"seed": 1, "train.learning_rate": 1e30}}
    file = members_file(tmp_path, members)
    assert cli.population([file]) == 1
    failed = json.loads((tmp_path / "bad/failed.json").read_text())
    assert "not finite" in failed["error"]
    assert not (tmp_path / "bad/evaluation.json").exists()
    assert "bad: error: step" in capsys.readouterr().out
    for name in seeds(2):
        assert records(tmp_path / name) == records(three / name)
    assert cli.population([file]) == 1  # and is not tried again
    assert "3 members, 3 of them ended before" in capsys.readouterr().out


@pytest.mark.full
def test_what_is_broken_of_one_member_stops_no_other(three, tmp_path, monkeypatch, capsys):
    file = members_file(tmp_path, seeds(3))
    with monkeypatch.context() as patched:
        stop_after(patched, 30)
        assert cli.population([file]) == 128 + 15
    for check in (tmp_path / "s0/checkpoints").glob("*/check/metadata"):
        check.write_text(json.dumps({"digest": "0", "score": None}))
    (tmp_path / "s1/evaluation.json").write_text('{"step": 60, "lo')
    write_results = TrainingRun.write_results

    def broken(member, *arguments):
        if member.folder.name == "s2":
            raise ZeroDivisionError("in a picture")
        write_results(member, *arguments)

    monkeypatch.setattr(TrainingRun, "write_results", broken)
    assert cli.population([file]) == 1
    assert "none of the checkpoints" in json.loads((tmp_path / "s0/failed.json").read_text())["error"]
    assert json.loads((tmp_path / "s2/failed.json").read_text())["error"] == "ZeroDivisionError: in a picture"
    assert records(tmp_path / "s1") == records(three / "s1")
    assert json.loads((tmp_path / "s1/evaluation.json").read_text())["step"] == 60
    monkeypatch.setattr(TrainingRun, "write_results", write_results)
    (tmp_path / "s2/failed.json").unlink()  # to try it again
    assert cli.population([file]) == 1
    assert digest(tmp_path / "s2") == digest(three / "s2")
    assert (tmp_path / "s2/evaluation.json").exists()


def unfinish(folder, step=60):
    """Takes back the end of a run, which then goes on from the checkpoint before it."""
    (folder / "evaluation.json").unlink()
    shutil.rmtree(folder / "checkpoints" / str(step))


def test_a_restart_runs_the_same_program_whoever_has_ended_and_whatever_is_broken(three, tmp_path, monkeypatch, capsys):
    for name in seeds(3):
        shutil.copytree(three / name, tmp_path / name)
    unfinish(tmp_path / "s0")
    unfinish(tmp_path / "s1")
    (tmp_path / "s0/metrics.jsonl").unlink()
    (tmp_path / "s0/metrics.jsonl").mkdir()
    (tmp_path / "s2/config.json").write_text("[" * 100_000)
    train_until, rooms = population.train_until, []

    def train(cohort, until, setup, executor, *arguments):
        rooms.append((len(cohort), executor.room))
        return train_until(cohort, until, setup, executor, *arguments)

    monkeypatch.setattr(population, "train_until", train)
    assert cli.population([members_file(tmp_path, seeds(3, **{"sweep.members_per_device": 0}))]) == 1
    assert rooms == [(1, 3)]
    assert results(tmp_path / "s1") == results(three / "s1")
    shown = capsys.readouterr().out
    assert "s0: error: " in shown
    assert "metrics.jsonl: is a directory" in shown
    assert "s2: left out: " in shown
    assert not (tmp_path / "s0/failed.json").exists()  # the same command tries it again


@pytest.mark.full
def test_a_member_that_cannot_be_saved_stops_no_other_and_is_tried_again(three, tmp_path, monkeypatch, capsys):
    file, save = members_file(tmp_path, seeds(3, **{"sweep.members_per_device": 0})), Checkpoints.save

    def full_disk(checkpoints, step, *arguments):
        if checkpoints.folder.parent.name == "s1" and step > 20:
            raise OSError(f"{checkpoints.folder}: cannot be written (no space left on device)")
        save(checkpoints, step, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", full_disk)
        assert cli.population([file]) == 1
    shown = capsys.readouterr().out
    assert "s1: error: " in shown
    assert "no space left on device" in shown
    assert "the last good checkpoint is that of step 20" in shown
    assert [(tmp_path / name / "evaluation.json").exists() for name in seeds(3)] == [True, False, True]
    assert cli.population([file]) == 0
    for name in seeds(3):
        assert results(tmp_path / name) == results(three / name)


@pytest.mark.full
def test_flags_that_would_change_digits_stop_a_member_and_do_not_end_it(three, tmp_path, capsys):
    shutil.copytree(three / "s0", tmp_path / "s0")
    unfinish(tmp_path / "s0")
    environment = tmp_path / "s0/environment.json"
    honest = environment.read_text()
    environment.write_text(honest.replace('"flags": {', '"flags": {"jax_disable_jit": "True",'))
    file = members_file(tmp_path, seeds(1, **{"sweep.members_per_device": 0}))
    assert cli.population([file]) == 1
    assert "jax_disable_jit: 'unset' here" in capsys.readouterr().out
    environment.write_text(honest)
    assert cli.population([file]) == 0


@pytest.mark.parametrize(
    "line", ["{}", '{"loss": null}', '{"elbo": "x"}', '{"elbo": null, "loss": 1}', '{"bound": [1]}']
)
def test_a_record_without_a_score_ranks_nobody(tmp_path, line):
    record = json.loads(line) | {"step": 30, "split": "validation"}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    assert halving.bound_at(tmp_path, 30) is None
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    assert halving.bound_at(tmp_path, 30) is None


def test_a_damaged_drop_counts_from_its_last_record(tmp_path):
    (tmp_path / "dropped.json").write_text("{")
    (tmp_path / "metrics.jsonl").write_text('{"step": 20}\n')
    assert [halving.Room([tmp_path], 4).after(step) for step in (10, 20)] == [1, 0]


def test_halving_by_losses_that_weigh_other_things_is_refused(tmp_path):
    fields = {"variant.name": "rae", "sweep.halving": "(20,)"}
    members = {f"m{i}": fields | {"variant.beta_z": i} for i in range(2)}
    with pytest.raises(UserError, match=r"sweep.halving: ranks these members by their loss.*variant.beta_z=0.0 and 1"):
        cli.population([members_file(tmp_path, members)])


def test_room_is_left_for_all_but_those_that_halving_dropped(tmp_path):
    for i in range(5):
        (tmp_path / f"m{i}").mkdir()
    (tmp_path / "m1/dropped.json").write_text('{"step": 20}')
    (tmp_path / "m2/dropped.json").write_text('{"step": 40}')
    (tmp_path / "m3/failed.json").write_text("{}")
    room = halving.Room(sorted(tmp_path.iterdir()), 4)
    assert [room.after(step) for step in (0, 10, 20, 30, 40, 50)] == [4, 4, 4, 4, 3, 3]
    executor = executors.MemberParallel(executors.local_devices(2), room=4)
    assert executor.to_devices([np.zeros(3)]).shape == (2, 2, 3)
    assert executor.step_arguments(np.zeros((1, 5, 2), np.int32), None, None, np.ones(1, bool))[-1].sum() == 1


@pytest.mark.full
def test_what_is_broken_of_one_in_turn_stops_no_other(tmp_path, monkeypatch, capsys):
    file = members_file(tmp_path, seeds(3, **{"parallel.mode": "data", "parallel.devices": 1}))
    with monkeypatch.context() as patched:
        stop_after(patched, 30)
        assert cli.population([file]) == 128 + 15
    for check in (tmp_path / "s0/checkpoints").glob("*/check/metadata"):
        check.write_text(json.dumps({"digest": "0", "score": None}))
    write_results = TrainingRun.write_results

    def broken(member, *arguments):
        if member.folder.name == "s1":
            raise ZeroDivisionError("in a picture")
        write_results(member, *arguments)

    monkeypatch.setattr(TrainingRun, "write_results", broken)
    assert cli.population([file]) == 1
    assert "none of the checkpoints" in json.loads((tmp_path / "s0/failed.json").read_text())["error"]
    assert json.loads((tmp_path / "s1/failed.json").read_text())["error"] == "ZeroDivisionError: in a picture"
    assert [(tmp_path / name / "evaluation.json").exists() for name in seeds(3)] == [False, False, True]
    capsys.readouterr()
    assert cli.population([file]) == 1
    assert "3 members, 3 of them ended before" in capsys.readouterr().out


@pytest.mark.full
def test_a_signal_while_one_is_finished_leaves_the_others_for_later(tmp_path, monkeypatch):
    file, write_results = members_file(tmp_path, seeds(3)), TrainingRun.write_results

    def stopped(member, *arguments):
        write_results(member, *arguments)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "write_results", stopped)
        assert cli.population([file]) == 128 + 15
    assert [name for name in seeds(3) if (tmp_path / name / "evaluation.json").exists()] == ["s0"]
    assert cli.population([file]) == 0
    assert all((tmp_path / name / "evaluation.json").exists() for name in seeds(3))


def test_halving_of_members_in_turn_is_refused(tmp_path):
    file = members_file(tmp_path, seeds(2, **{"sweep.halving": "(20,)", "parallel.mode": "data"}))
    with pytest.raises(UserError, match=r"config.sweep.halving: compares members that train together"):
        cli.population([file])


@pytest.mark.full
def test_halving_at_the_last_step_drops_nobody(tmp_path):
    assert cli.population([members_file(tmp_path, seeds(2, **{"sweep.halving": "(60,)"}))]) == 0
    assert not any((tmp_path / name / "dropped.json").exists() for name in seeds(2))


@pytest.mark.full
def test_halving_drops_who_is_behind(tmp_path):
    rates = {"fast": 1e-2, "slow": 1e-5, "slower": 1e-6}
    members = {name: {"train.learning_rate": rate, "sweep.halving": "(20,)"} for name, rate in rates.items()}
    assert cli.population([members_file(tmp_path, members)]) == 0
    dropped = json.loads((tmp_path / "slower/dropped.json").read_text())
    assert (dropped["step"], dropped["place"], dropped["of"]) == (20, 3, 3)
    assert {name for name in rates if (tmp_path / name / "evaluation.json").exists()} == {"fast", "slow"}
    assert records(tmp_path / "slower")[-1]["step"] == 20


@pytest.mark.full
def test_halving_drops_the_lower_half_at_each_step(tmp_path, monkeypatch):
    rates = enumerate((1e-2, 1e-5, 1e-6, 3e-3, 1e-4))
    members = {f"r{i}": {"train.learning_rate": rate, "sweep.halving": "(20,45)"} for i, rate in rates}
    file = members_file(tmp_path, members)
    with monkeypatch.context() as patched:
        stop_after(patched, 40)
        assert cli.population([file]) == 128 + 15
    assert cli.population([file]) == 0
    dropped = {name: json.loads(f.read_text()) for name in members if (f := tmp_path / name / "dropped.json").exists()}
    assert {name: (why["step"], why["place"], why["of"]) for name, why in dropped.items()} == {
        "r4": (45, 3, 3),
        "r1": (20, 4, 5),
        "r2": (20, 5, 5),
    }
    assert {name for name in members if (tmp_path / name / "evaluation.json").exists()} == {"r0", "r3"}
    assert records(tmp_path / "r1")[-1]["step"] == 20
    assert digest(tmp_path / "r4")[0] == 45
    assert cli.population([file]) == 0
    assert sorted(dropped) == sorted(name for name in members if (tmp_path / name / "dropped.json").exists())


def test_what_needs_another_program_is_refused_by_name(tmp_path):
    file = members_file(tmp_path, {"a": {"seed": 1}, "b": {"latent_dim": 4}})
    with pytest.raises(
        UserError, match=r"config.latent_dim: 4 and 3 do not fit in one program.*only seed, train.learn"
    ):
        cli.population([file])
    with pytest.raises(UserError, match="is not a list of workdir and words"):
        cli.population([f"--members={tmp_path / 'absent.json'}"])


@pytest.mark.full
def test_as_many_members_as_memory_allows(monkeypatch):
    config = parse_config(small_words(**FIELDS | {"sweep.members_per_device": 0}))
    setup = prepare(config)
    executor = executors.MemberParallel(executors.local_devices(2))
    one = member_bytes(setup, executor)
    state = tree_bytes(setup.state_shape)
    assert state < one < 100 * state
    held = tree_bytes(jax.eval_shape(lambda split: split, setup.dataset.train))
    at_once = partial(members_at_once, setup, executor)

    def leave_memory_for(members):
        monkeypatch.setattr(executors, "free_bytes", lambda devices: (members * one + held + 1) / FILLED)
        monkeypatch.setattr(memory, "fits_devices", lambda *arguments: True)

    leave_memory_for(4)
    assert at_once(3) == 3
    assert at_once(8) == 8
    assert at_once(9) == 5  # two even rounds, and not eight and one
    leave_memory_for(0.5)
    with pytest.raises(UserError, match=r"one member takes .* GiB with batches of 20"):
        at_once(3)
