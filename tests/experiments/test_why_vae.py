"""The founding study: its groups, its page, and the whole of it on tiny runs."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from helpers import made_up_studies
from PIL import Image
from vae_jax.configs import why_mnist, why_vae

from experiments.why_vae import markdown, measures, run_study
from experiments.why_vae.claim import Row
from experiments.why_vae.claims import CLAIMS
from experiments.why_vae.groups import check_comparable, group_name, group_order
from experiments.why_vae.rules import (
    AUTOENCODER,
    FAILS,
    HOLDS,
    HOLDS_IN_PART,
    LEARNED,
    NO,
    NO_KL,
    VAE,
    YES,
    Check,
    above,
    below,
)
from experiments.why_vae.run_study import METRICS
from vae_jax import cli
from vae_jax.comparison.results import ComparedRun
from vae_jax.config.parse import flatten, load_config
from vae_jax.errors import UserError
from vae_jax.metrics import _feature_classifier
from vae_jax.sweeps import groups as run_groups

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/why_vae.py"
MNIST_CONFIG = ROOT / "configs/why_mnist.py"


def study_groups(config, points):
    """The runs of a study as a folder of them would be read, by group."""
    runs = run_groups.plan_runs(str(config), [], points)
    flat = [flatten(run.config) for run in runs]
    groups = {}
    for run, c in zip(runs, flat, strict=True):
        compared = ComparedRun(run.id, "", "", c["seed"], c, {}, "done", "", {}, None)
        groups.setdefault(group_name(c), []).append(compared)
    return groups


def test_the_study_has_the_groups_of_the_claims():
    groups = study_groups(CONFIG, why_vae.sweep())
    names = sorted(groups, key=group_order)
    assert names == [
        "autoencoder",
        "autoencoder + noise 1",
        "beta = 0",
        "beta = 0.25",
        "VAE (beta = 1)",
        "beta = 4",
        "beta = 16",
        "weight decay 0.03",
        "weight decay 0.1",
        "weight decay 0.185",
        "VAE, learned pixel sigmas",
    ]
    assert {len(runs) for runs in groups.values()} == {5}
    assert all(markdown.groups_of_claim(names, claim) for claim in CLAIMS)
    check_comparable(groups)
    decays = groups["weight decay 0.1"]
    mixed = decays[:1] + [run._replace(config=run.config | {"variant.beta_z": 9.0}) for run in decays[1:]]
    with pytest.raises(UserError, match=r"config\.variant\.beta_z is not the same in all runs"):
        check_comparable(groups | {"weight decay 0.1": mixed})
    other = groups[VAE][0]
    groups[VAE][0] = other._replace(config=other.config | {"latent_dim": 3})
    with pytest.raises(UserError, match=r"config\.latent_dim is not the same in all runs"):
        check_comparable(groups)
    groups[VAE][0] = groups[VAE][1]
    with pytest.raises(UserError, match="several runs of one seed"):
        check_comparable(groups)
    assert group_name(other.config | {"variant.free_bits": 1.0}) == ""


def test_the_study_is_there_for_mnist_too():
    config = load_config(str(MNIST_CONFIG))
    assert (config.data.name, config.latent_dim) == ("mnist", 20)
    assert config.train.steps % config.checkpoint.every == 0
    assert config == load_config(f"{CONFIG}:mnist")
    groups = study_groups(MNIST_CONFIG, why_mnist.sweep())
    assert sorted(groups, key=group_order) == [
        "autoencoder",
        "autoencoder + noise 1",
        "beta = 0",
        "VAE (beta = 1)",
        "weight decay 0.03",
        "weight decay 0.075",
        "VAE, learned pixel sigmas",
    ]
    assert {len(runs) for runs in groups.values()} == {3}
    check_comparable(groups)


def test_the_page_follows_from_its_numbers():
    page = ROOT / "docs/why_vae.md"
    studies = run_study.read_studies(page.with_suffix(""))
    expected = markdown.render(markdown.sort_studies(studies), page.relative_to(ROOT))
    assert page.read_text() == expected, "run: python -m experiments.why_vae"
    pictures = {file.name for file in page.with_suffix("").glob("*.png")}
    assert pictures == {markdown.picture_name(study, claim) for study in studies for claim in CLAIMS}
    assert all(f"(why_vae/{picture})" in expected for picture in pictures)
    assert [study["about"]["data"] for study in studies] == ["digits", "mnist"]
    for study, groups, seeds in zip(studies, (11, 7), (5, 3), strict=True):
        assert len(study["values"]) == groups
        assert {len(runs) for runs in study["values"].values()} == {seeds}


def one_claim_study(name, training, sigmas):
    """A study of which one claim reads its numbers: of the VAE, of three seeds."""
    about = {"data": name, "training": training, "held_out": 30, "steps": 500, "latents": 4, "runs": 3, "notes": []}
    about |= {"folder": f"runs/{name}", "command": f"make {name}", "minutes": {}}
    return {"about": about, "reference": {}, "values": {VAE: {str(i): {"sigma": s} for i, s in enumerate(sigmas)}}}


def test_studies_stand_side_by_side(monkeypatch):
    claim = dataclasses.replace(
        CLAIMS[3],
        rows=(Row("sigma of the VAE", "sigma", lambda values: next(iter(values))),),
        rules=(above("sigma", VAE, 1.0, "it is large"), below("sigma", VAE, 3.0, "it is no giant")),
        premises=(),
    )
    monkeypatch.setattr(markdown, "CLAIMS", (claim,))
    low, high = [0.1, 0.11, 0.12], [2.0, 2.1, 2.2]
    small, large = one_claim_study("digits", 100, high), one_claim_study("mnist", 900, low)
    text = markdown.render(markdown.sort_studies([large, small]), Path("pages/page.md"))
    assert "| claim | digits | MNIST |" in text  # the smallest first
    assert "The data sets disagree." in text
    assert f"- digits: **{HOLDS}.** " in text
    assert f"- MNIST: **{HOLDS_IN_PART}.** " in text
    assert "| sigma of the VAE | 2.1 [" in text
    assert "On MNIST 1 of 2 checks says yes. Not shown:\n\n- it is large\n" in text
    assert "no giant" not in text.partition("<details")[0]
    assert "Every check: on digits 2 of 2 checks say yes, on MNIST 1 of 2 checks says yes" in text
    seen, folded = text.partition("<details")[::2]
    assert "(page/digits_training.png)" in seen  # verdicts differ: both figures are shown
    assert "(page/mnist_training.png)" in seen
    assert "    make digits" in text
    assert "--runs=runs/digits,runs/mnist --page=pages/page.md" in text
    large["values"] = small["values"]
    seen, folded = markdown.render(markdown.sort_studies([large, small]), Path("page.md")).partition("<details")[::2]
    assert f"**{HOLDS}** on digits and MNIST." in seen
    assert "digits_training" not in seen  # the same verdict: the figure of the larger data
    assert "digits_training" in folded
    for study in (small, large):
        study["values"] = {VAE: {str(i): {"sigma": s} for i, s in enumerate(low)}}
    monkeypatch.setattr(markdown, "CLAIMS", (dataclasses.replace(claim, rules=claim.rules[:1]),))
    text = markdown.render(markdown.sort_studies([large, small]), Path("page.md"))
    assert f"| **{FAILS}** | **{FAILS}** |" in text


def test_the_rarer_checks_are_the_exceptions():
    yes, no = Check("a", YES, ""), Check("b", NO, "")
    assert markdown.minority([yes, no, yes]) == [no]
    assert markdown.minority([no, yes, no]) == [yes]


def test_every_check_can_be_read_by_itself():
    """A sentence of its own: not the rest of the one above it."""
    sentences = [rule({}).sentence for claim in CLAIMS for rule in (*claim.rules, *claim.premises)]
    dependent = ("and ", "so ", "its ", "it ", "they ", "their ", "together ")
    assert not [sentence for sentence in sentences if sentence.startswith(dependent)]
    assert all(len(claim.rows) <= 8 for claim in CLAIMS)


SPREADS = {"sigma": 0.25, "spread": 1.0, "relative": 0.5, "aggregate": 2.0}


def write_made_up_study(folder):
    """A finished run of each group that has to be there, as training leaves it but for its weights."""
    scores = dict.fromkeys((*METRICS, "elbo", "distortion", "rate", "samples.near_copies"), 1.0)
    for variant in ({"beta": 0.0}, {"beta": 1.0}, {"name": "autoencoder", "noise": 0.0}):
        made_up_studies.write_run(folder, made_up_studies.config(0, **variant), scores)


def test_made_up_numbers_of_a_study_become_a_page(tmp_path, monkeypatch):
    write_made_up_study(tmp_path / "study")
    (tmp_path / "study/notes").mkdir()
    split = SimpleNamespace(size=300)
    instruments = SimpleNamespace(posterior=None, dataset=SimpleNamespace(train=split, test=split))
    opened = SimpleNamespace(config={"data": {"name": "digits"}}, step=500, latent_dim=4)
    monkeypatch.setattr(run_study, "open_run", lambda programs, run: (instruments, opened))
    monkeypatch.setattr(run_study, "measure_run", lambda instruments, run: {"frechet": 1.23456789, "sigma": 0.25})
    records = [{"step": 0, **SPREADS, "sigma": 0.5}, {"step": 500, **SPREADS}]
    monkeypatch.setattr(run_study, "measure_checkpoints", lambda instruments, run, folder: records)
    monkeypatch.setattr(run_study, "measure_data", lambda instruments: {"frechet": 0.125})
    drawn = []
    monkeypatch.setattr(run_study.pictures, "draw_pictures", lambda *arguments: drawn.append(arguments))
    page = tmp_path / "pages/page.md"
    assert run_study.main([f"--runs={tmp_path / 'study'}", f"--page={page}"]) == 0
    study, text = json.loads((tmp_path / "pages/page/digits.json").read_text()), page.read_text()
    assert text == markdown.render({"digits": study}, page)
    page.unlink()
    assert run_study.main([f"--page={page}"]) == 0  # from the numbers that are there
    assert page.read_text() == text
    assert "digits: Left out of the folder: 1 no runs." in text
    assert text.count("**Cannot be told from these seeds** on digits.") == len(CLAIMS)  # one seed makes no claim
    assert list(study["values"]) == [AUTOENCODER, NO_KL, VAE]
    assert study["values"][VAE]["0"]["frechet"] == 1.23457  # what the page shows is what the JSON holds
    assert study["values"][VAE]["0"]["sigma_start"] == 0.5
    assert "sigma_start" not in study["values"][AUTOENCODER]["0"]
    assert study["training"].keys() == {NO_KL, VAE}
    folder = str(tmp_path / "study")
    assert study["about"] == {
        "data": "digits",
        "training": 300,
        "held_out": 300,
        "steps": 500,
        "latents": 4,
        "runs": 3,
        "folder": folder,
        "command": f"python -m launch.local --config=configs/why_vae.py --workdir={folder}",
        "minutes": run_study.MINUTES["digits"],
        "notes": ["Left out of the folder: 1 no runs."],
    }
    ((_, runs, folder),) = drawn
    assert runs == dict.fromkeys([AUTOENCODER, NO_KL, VAE], (instruments, opened))
    assert folder == tmp_path / "pages/page"


@pytest.mark.full
@pytest.mark.usefixtures("share_programs")
def test_a_study_becomes_a_page(tmp_path, monkeypatch):
    """Two steps of the three groups that have to be there, and a folder that is no run."""
    study_folder = tmp_path / "study"
    (study_folder / "notes").mkdir(parents=True)
    short = {
        "train.steps": 2,
        "checkpoint.every": 1,
        "parallel.devices": 1,
        "net.hidden": "(8,)",
        "evaluation.metrics": "",
        "log.pictures": False,
    }
    for number, point in enumerate(({"variant.beta": 0}, {"variant.beta": 1}, {"variant.name": "autoencoder"})):
        words = [f"--config.{field}={value}" for field, value in (point | short).items()]
        assert cli.train([f"--config={CONFIG}", f"--workdir={study_folder / str(number)}", *words]) == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_feature_classifier, "STEPS", 100)
    monkeypatch.setattr(measures, "MIN_DRAWS", 300)
    monkeypatch.setattr(measures, "VISITS", 2)
    statistics = Mock(wraps=measures.make_statistics)
    monkeypatch.setattr(measures, "make_statistics", statistics)
    page = tmp_path / "page.md"
    assert run_study.main([f"--runs={study_folder}", f"--page={page}"]) == 0
    statistics.assert_called_once()  # the held-out images are the same for both programs
    study, text = json.loads((tmp_path / "page/digits.json").read_text()), page.read_text()
    assert text == markdown.render({"digits": study}, page)
    assert "digits: Left out of the folder: 1 no runs." in text
    assert text.count("**Cannot be told from these seeds** on digits.") == len(CLAIMS)  # one seed makes no claim
    pictures = sorted((tmp_path / "page").glob("*.png"))
    assert [file.name for file in pictures] == sorted(markdown.picture_name(study, claim) for claim in CLAIMS)
    for file in pictures:
        with Image.open(file) as picture:
            assert picture.mode == "P"
    records, end = study["training"][VAE]["0"], study["values"][VAE]["0"]
    assert [record["step"] for record in records] == [0, 1, 2]
    assert records[-1]["sigma"] == end["sigma"] != records[0]["sigma"] == end["sigma_start"]
    assert LEARNED not in study["values"]
    assert {"smoothness", "samples.near_copies"} <= end.keys()
    evaluation = json.loads((study_folder / "1/evaluation.json").read_text())
    assert evaluation["aggregate_posterior"] == pytest.approx(end["aggregate_posterior"], rel=1e-5)


def test_a_study_without_the_groups_is_refused(tmp_path):
    made_up_studies.write_run(tmp_path, made_up_studies.config(0, beta=0.0), {"elbo": -1.0})
    with pytest.raises(UserError, match="has no finished run of: autoencoder, VAE"):
        run_study.main([f"--runs={tmp_path}", f"--page={tmp_path / 'page.md'}"])
    with pytest.raises(UserError, match="--runs: give the folder of a study"):
        run_study.main([f"--page={tmp_path / 'page.md'}"])
