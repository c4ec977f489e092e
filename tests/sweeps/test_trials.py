"""The journal of a search: generations are asked for and told as a whole, the same after a kill as without it."""

import json
import math

import pytest

from vae_jax.errors import UserError
from vae_jax.sweeps import search_settings, study, trials
from vae_jax.sweeps.objectives import Objective
from vae_jax.sweeps.ranges import choice, log_uniform
from vae_jax.sweeps.search_settings import SearchSettings, check_settings
from vae_jax.sweeps.space import Space
from vae_jax.sweeps.trial_records import read_trials
from vae_jax.sweeps.trials import Journal, Pruning, Trial

pytest.importorskip("optuna")

SPACE = Space({"variant.beta": log_uniform(0.1, 10), "latent_dim": choice(2, 4)}, ("latent_dim",))
ELBO, RATE = Objective("elbo", True), Objective("rate", False)


def settings(**changes):
    default = SearchSettings((ELBO,), "tpe", "none", (), steps=100, at_once=4, seeds=(0, 1), seed=0)
    return default._replace(**changes)


@pytest.fixture
def open_journal(tmp_path):
    """Opens the journal of a search in a folder of that name."""

    def open_in(name="study", **changes):
        (tmp_path / name).mkdir(exist_ok=True)
        journal = Journal(tmp_path / name, SPACE, settings(**changes), {"train.steps": 100, "net.name": "mlp"})
        journal.open()
        return journal

    return open_in


def elbo_of(params, seed=0):
    """The score of a made-up run: best at beta = 1 and four latents."""
    return -30 - abs(math.log(params["variant.beta"])) - abs(params["latent_dim"] - 4) + 0.1 * seed


def write_run(folder, params, seed, state=study.DONE, rungs=()):
    """The folder of a made-up run, which ended like this."""
    folder.mkdir(exist_ok=True)
    value = elbo_of(params, seed)
    lines = [json.dumps({"step": step, "split": "validation", "elbo": value}) for step in rungs]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    names = {study.DONE: "evaluation", study.FAILED: "failed", study.DROPPED: "dropped"}
    numbers = {"step": 100, "elbo": 0.0, "validation.elbo": value, "validation.rate": params["variant.beta"]}
    (folder / f"{names[state]}.json").write_text(json.dumps(numbers))


def train(journal, asked, states=(), rungs=()):
    """The trials with the runs that a launcher would have made of them."""
    states = [*states, *[study.DONE] * (len(asked) - len(states))]
    trained = []
    for trial, state in zip(asked, states, strict=True):
        names = tuple(f"run{trial.number}_s{seed}" for seed in journal.settings.seeds)
        for seed, name in enumerate(names):
            write_run(journal.folder / name, trial.params, seed, state, rungs)
        trained.append(Trial(trial.number, trial.params, names))
    return trained


def train_again(asked):
    """The trials with the runs that `train` has made of them."""
    return [Trial(trial.number, trial.params, (f"run{trial.number}_s0", f"run{trial.number}_s1")) for trial in asked]


def search(journal, limit):
    while asked := journal.ask(limit):
        journal.tell(train(journal, asked))
    return journal.trials()


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "nsga2"])
def test_a_search_that_was_cut_short_anywhere_has_the_trials_of_one_that_was_not(open_journal, monkeypatch, sampler):
    whole = search(open_journal("whole", sampler=sampler), 10)
    assert [trial["state"] for trial in whole] == ["COMPLETE"] * 10
    assert len({json.dumps(trial["params"]) for trial in whole}) > 5

    def cut(*arguments, **words):
        raise KeyboardInterrupt

    cut_journal = open_journal("cut", sampler=sampler)
    asked = cut_journal.ask(10)
    journal = cut_journal.file.read_bytes()
    with monkeypatch.context() as patch:  # in the middle of telling, with two of four in the copy: nothing is told
        tell, told = trials.OpenJournal.tell, iter([1, 2])
        patch.setattr(trials.OpenJournal, "tell", lambda *words: tell(*words) if next(told, None) else cut())
        with pytest.raises(KeyboardInterrupt):
            cut_journal.tell(train(cut_journal, asked))
    assert cut_journal.file.read_bytes() == journal
    cut_journal = open_journal("cut", sampler=sampler)
    assert [trial.params for trial in cut_journal.ask(10)] == [trial.params for trial in asked]  # and asked for once
    cut_journal.tell(train(cut_journal, asked))
    import optuna

    with monkeypatch.context() as patch:  # in the middle of asking, with two of four in the copy
        ask, calls = optuna.Study.ask, iter([1, 2])
        patch.setattr(optuna.Study, "ask", lambda *words: ask(*words) if next(calls, None) else cut())
        with pytest.raises(KeyboardInterrupt):
            cut_journal.ask(10)
    assert cut_journal.running() == []
    assert search(open_journal("cut", sampler=sampler), 10) == whole
    names = {path.name for path in cut_journal.folder.iterdir() if not path.name.startswith("run")}
    assert names == {"search.json", "trials.json", "optuna_journal.log"} < {*study.STUDY_FILES}


def test_trials_are_told_as_they_ended(open_journal):
    journal = open_journal()
    asked = journal.ask(4)
    journal.tell(train(journal, asked, [study.FAILED, study.DROPPED]))
    told = journal.trials()
    assert [trial["state"] for trial in told] == ["FAIL", "PRUNED", "COMPLETE", "COMPLETE"]
    assert told[2]["values"]["elbo"] == pytest.approx(elbo_of(asked[2].params) + 0.05)  # the mean of two seeds
    assert told[2]["standard_errors"]["elbo"] == pytest.approx(0.05)
    assert told[2]["runs"] == ["run2_s0", "run2_s1"]
    (asked,) = journal.ask(5)
    (trial,) = train(journal, [asked])
    file = journal.folder / trial.runs[1] / "evaluation.json"
    file.write_text('{"step": 100, "validation.elbo": null}')  # as NaN is written
    journal.tell([trial])
    assert journal.trials()[4]["state"] == "FAIL"
    read = read_trials(journal.folder)
    assert read is not None
    assert [trial["number"] for trial in read.trials] == [2, 3]


def test_optuna_reads_the_journal(open_journal):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    journal = open_journal()
    search(journal, 8)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal.file)))
    loaded = optuna.load_study(storage=storage, study_name=None)
    best = max(journal.trials(), key=lambda trial: trial["values"]["elbo"])
    assert loaded.best_trial.number == best["number"]
    assert loaded.best_value == best["values"]["elbo"]


def test_a_median_pruner_drops_what_is_below_the_median_with_all_its_seeds(open_journal):
    journal = open_journal(pruner="median", rungs=(20, 60), at_once=6)
    journal.tell(train(journal, journal.ask(6), rungs=(20, 60)))
    told = sorted(trial["values"]["elbo"] for trial in journal.trials())
    median = (told[2] + told[3]) / 2
    asked = train(journal, journal.ask(12), rungs=(20, 60))
    folders = [journal.folder / run for trial in asked for run in trial.runs]
    dropped = Pruning(journal, asked)(20, folders)
    below = [trial for trial in asked if elbo_of(trial.params) + 0.05 < median]
    assert 0 < len(below) < 6
    assert {folder.name for folder in dropped} == {run for trial in below for run in trial.runs}
    reason = dropped[journal.folder / below[0].runs[0]]
    assert reason == {"pruner": "median", "elbo": pytest.approx(elbo_of(below[0].params) + 0.05)}
    assert journal.trials()[asked[0].number]["intermediate"] == {}  # nothing is told by that
    assert Pruning(journal, asked)(20, folders) == dropped
    journal.tell(train(journal, asked, [study.DROPPED if trial in below else study.DONE for trial in asked], (20, 60)))
    assert journal.trials()[asked[0].number]["intermediate"].keys() == {"20", "60"}


@pytest.mark.parametrize("pruner", ["hyperband", "wilcoxon"])
def test_other_pruners_decide_as_optuna_does_by_itself(open_journal, pruner):
    rungs = (20, 40, 60, 80)
    journal = open_journal(pruner=pruner, rungs=rungs, at_once=8)
    journal.tell(train(journal, journal.ask(8), rungs=rungs))
    asked = train(journal, journal.ask(16), rungs=rungs)
    folders = [journal.folder / run for trial in asked for run in trial.runs]
    dropped = {folder for rung in rungs for folder in Pruning(journal, asked)(rung, folders)}
    expected = own_decisions(journal, asked, rungs)
    assert {folder.name for folder in dropped} == {
        run for trial in asked if trial.number in expected for run in trial.runs
    }
    assert 0 < len(dropped) < len(folders)


def own_decisions(journal, asked, rungs):
    """The trials that Optuna's pruner ends where each reports to it by itself, one step after another."""
    import optuna

    pruner = search_settings.make_pruner(journal.settings)
    own = optuna.create_study(study_name=trials.NAME, direction="maximize", pruner=pruner)
    earlier = journal.trials()[: -len(asked)]
    report_steps([own.ask() for _ in earlier], [trial["intermediate"] for trial in earlier], rungs)
    for trial in earlier:
        own.tell(trial["number"], trial["values"]["elbo"])
    values = [dict.fromkeys(map(str, rungs), elbo_of(trial.params) + 0.05) for trial in asked]
    return report_steps([own.ask() for _ in asked], values, rungs)


def report_steps(live, values, rungs):
    """The numbers of the trials that are to end at one of the steps, which all report first."""
    ended = set()
    for rung in rungs:
        for trial, own in zip(live, values, strict=True):
            trial.report(own[str(rung)], rung)
        ended |= {trial.number for trial in live if trial.should_prune()}
    return ended


def test_several_objectives_have_a_pareto_set(open_journal):
    journal = open_journal(objectives=(ELBO, RATE), sampler="nsga2")
    told = search(journal, 8)
    read = read_trials(journal.folder)
    front = {trial["number"] for trial, best in zip(read.trials, read.pareto_front(), strict=True) if best}
    for trial in told:
        beaten = any(
            other["values"]["elbo"] >= trial["values"]["elbo"] and other["values"]["rate"] < trial["values"]["rate"]
            for other in told
        )
        assert (trial["number"] in front) != beaten
    assert {trial["number"] for trial in read.ranked()[: len(front)]} == front


def test_what_matters_is_found(open_journal):
    journal = open_journal(sampler="random", at_once=40)
    search(journal, 40)
    shares = journal.importances()["elbo"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["latent_dim"] > 0.6  # two nats between its values, and a nat or so over beta
    assert open_journal("empty").importances() == {}
    same = open_journal("same", objectives=(Objective("active_units", True),), at_once=8)
    asked = same.ask(8)
    for trial in train(same, asked):
        for run in trial.runs:
            (same.folder / run / "evaluation.json").write_text('{"step": 100, "validation.active_units": 4}')
    same.tell(train_again(asked))
    assert same.importances() == {}  # of what is the same for all


@pytest.mark.parametrize(
    ("changes", "space", "message"),
    [
        ({"seed": 3}, SPACE, "--seed is 0 there and 3 here"),
        ({"sampler": "random"}, SPACE, "--sampler is 'tpe' there and 'random' here"),
        ({"objectives": (RATE,)}, SPACE, r"--objective is \['elbo:max'\] there"),
        ({"steps": 200}, SPACE, r"config\.train\.steps is 100 there and 200 here"),
        ({}, Space({"variant.beta": log_uniform(0.2, 10)}), "variant.beta in its space is 'log_uniform"),
        ({}, Space({**SPACE.ranges, "train.clip": choice(1, 2)}), "train.clip in its space is not there and"),
    ],
)
def test_a_folder_of_another_search_is_refused_with_the_difference(open_journal, changes, space, message):
    journal = open_journal()
    other = Journal(journal.folder, space, settings(**changes), journal.config)
    with pytest.raises(UserError, match=f"holds another search: {message}"):
        other.open()
    config = Journal(journal.folder, SPACE, settings(), {**journal.config, "net.name": "conv"})
    with pytest.raises(UserError, match=r"net\.name in its config is 'mlp' there and 'conv' here"):
        config.open()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": (ELBO, RATE), "sampler": "cmaes"}, "'cmaes' takes one objective, and there are 2"),
        ({"pruner": "median"}, "'median' prunes at the steps of config.sweep.halving, which is empty"),
        ({"pruner": "wilcoxon", "rungs": (5, 6, 7)}, "fewer than 4 steps never reach"),
        ({"pruner": "median", "rungs": (5,), "objectives": (ELBO, RATE)}, "'median' takes one objective"),
        (
            {"pruner": "median", "rungs": (5,), "objectives": (Objective("mig", True),)},
            "'mig' is computed only after",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check_settings(settings(**changes), [])
    with pytest.raises(UserError, match="'cmaes' takes numbers alone, and latent_dim is chosen from options"):
        check_settings(settings(sampler="cmaes"), ["latent_dim"])


def test_a_sampler_that_needs_more_says_what(monkeypatch):
    monkeypatch.setattr(search_settings, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=r"--sampler: 'gp' needs torch \(pip install torch\); or give one of tpe"):
        check_settings(settings(sampler="gp"), [])
