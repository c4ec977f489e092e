import base64
import hashlib
import html.parser
import json
import math
import re
import shlex
import struct
import sys
import zlib

import pytest
from helpers.made_up_comparison import EVIL, QUOTES, make_comparison, with_failures, write_report
from helpers.made_up_studies import config, elbo_parts, write_run

from vae_jax.comparison import analyse
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.results import Difference
from vae_jax.config.command_line import command
from vae_jax.config.parse import flatten, parse_config
from vae_jax.errors import UserError
from vae_jax.report import (
    best_pictures,
    comparison_files,
    explorer,
    folded_sections,
    markup,
    plotly_figures,
    runs_section,
    sentences,
    study_page,
)
from vae_jax.report.png import read_png
from vae_jax.sweeps import study

pytest.importorskip("plotly", reason="plotly is not installed; the extra 'compare' brings it")


class Page(html.parser.HTMLParser):
    """The elements of a page in order, and its text; an element left open or closed twice is an error."""

    def __init__(self, file):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in markup.VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(text)

    @property
    def text(self):
        return " ".join(self.texts)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colour=120, pad=0):
    """A picture of one grey pixel, with so many bytes of comment."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    text = chunk(b"tEXt", b"x\0" + b"x" * pad)
    return b"\x89PNG\r\n\x1a\n" + head + text + chunk(b"IDAT", zlib.compress(bytes([0, colour]))) + chunk(b"IEND", b"")


def test_the_page_is_whole_and_tells_of_every_run_and_group(tmp_path):
    comparison = with_failures(make_comparison())
    page = Page(write_report(tmp_path, comparison))
    for name in (*(run.name for run in comparison.runs), *(group.name for group in comparison.groups)):
        assert name in page.texts, name
    for words in (comparison.command, "failed", "dropped", "4th of 8 at step 500", "foreign", "has no config.json"):
        assert words in page.texts, words
    assert f"step 7: loss not finite {EVIL}" in page.texts
    assert "12 runs in 3 groups by variant.name, variant.beta: 10 done, 1 failed, 1 dropped, 1 skipped." in page.text


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    page = Page(write_report(tmp_path, make_comparison()))
    addresses = [
        value
        for _, given in page.elements
        for name, value in given.items()
        if name in ("src", "href", "srcset", "action")
    ]
    assert addresses
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {name for name, _ in page.elements}
    style = (study_page.ASSETS / "report.css").read_text()
    assert "@import" not in style
    assert "url(" not in style
    (policy,) = (given["content"] for _, given in page.elements if "http-equiv" in given)
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


@pytest.mark.parametrize("evil", [EVIL, QUOTES])
def test_text_is_never_markup(tmp_path, evil):
    plain, attacked = (Page(write_report(tmp_path, make_comparison(evil=text))) for text in ("", evil))
    assert [name for name, _ in attacked.elements] == [name for name, _ in plain.elements]
    allowed = ("class", "id", "title", "href", "type", "scope", "tabindex", "lang", "charset", "name", "content")
    allowed += (
        "http-equiv",
        "data-value",
        "data-text",
        "data-field",
        "data-run",
        "role",
        "aria-expanded",
        "aria-label",
        "placeholder",
        "autocomplete",
        "value",
    )
    assert {name for _, given in attacked.elements for name in given} <= set(allowed)
    assert f"autoencoder_None_s0{evil}" in attacked.texts


def test_data_cannot_end_the_script_that_holds_it():
    value = {"</script>": f"<!--{EVIL}"}
    written_out = str(markup.data("x", value))
    assert written_out.count("<") == 2
    assert json.loads(written_out.partition(">")[2].removesuffix("</script>")) == value


def test_plots_get_text_without_markup():
    figures = study_page.drawn_figures(make_comparison(evil=EVIL))
    for trace in [trace for figure in figures.values() for trace in figure["data"]]:
        trace.pop("customdata", None)  # names of rows, which no plot shows
    drawn = json.dumps(figures)
    assert "&lt;script&gt;" in drawn
    assert "<script" not in drawn
    assert "<br>" in drawn  # our own


def test_nan_and_missing_numbers_are_shown_as_such(tmp_path):
    file = write_report(tmp_path, with_failures(make_comparison()))
    text = file.read_text(encoding="utf-8")
    rows = {
        re.search(r">(beta_1.0_s\d)<", row).group(1): re.findall(r"<td[^>]*>(.*?)</td>", row)
        for row in re.findall(r"<tr[^>]*>(<td class=\"name\" title.*?)</tr>", text)
        if "beta_1.0" in row
    }
    assert rows["beta_1.0_s2"][4:6] == ["NaN", "17.20"]
    assert rows["beta_1.0_s3"][4:] == ["\N{MINUS SIGN}∞", "none"]
    assert rows["beta_1.0_s0"][2:6] == ["failed", "0", "none", "none"]
    assert 'data-value="-Infinity"' in text
    assert not re.search(r'data-value="(nan|None|inf|-inf)"', text)
    assert "NaN" not in re.search(r'id="figures">(.*?)</script>', text).group(1)


def test_a_group_without_the_score_is_told_of_without_a_number(tmp_path):
    page = Page(write_report(tmp_path, make_comparison()))
    assert "beta beta=4 has the highest mean elbo: " in page.text
    assert "autoencoder" in page.texts
    assert [given["title"] for _, given in page.elements if given.get("title") == "not measured"]
    assert "Without elbo:" in page.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "beta=4 is worse in elbo. -2.250 [-3.500, -1.125] over 4 shared seeds, p 0.012."),
        ({"verdict": "better", "mean": 2.25, "p": 1e-7}, "beta=4 is better in elbo. +2.250 ["),
        ({"verdict": "better", "p": 1e-7}, "p <0.001."),
        ({"verdict": "cannot tell", "more_seeds": 12}, "beta=4: cannot tell, 12 more seeds would."),
        (
            {"verdict": "cannot tell", "pairs": 1, "low": None, "high": None, "p": None},
            "beta=4: one seed makes no claim.",
        ),
        ({"verdict": "cannot tell", "pairs": 0, "mean": math.nan, "p": None}, "beta=4: no shared seed."),
    ],
)
def test_verdicts_in_words(change, said):
    difference = Difference("beta=4", "elbo", 4, -2.25, -3.5, -1.125, 0.0123, "worse", None)._replace(**change)
    words = f"{sentences.verdict(difference)} {sentences.evidence(difference)}"
    assert said in words.translate({ord("\N{MINUS SIGN}"): "-", ord("\N{NO-BREAK SPACE}"): " "})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *[(-22.4912, "-22.49"), (16.0, "16"), (0.04348, "0.04348"), (0.0, "0"), (-math.inf, "-∞"), (math.nan, "NaN")],
        *[(-0.0, "0"), (-0.00012, "-0.0001200")],
        *[(9876.543, "9877"), (12345.6, "12,346"), (1e-7, "1.000e-07"), (1e12, "1.000e+12")],
    ],
)
def test_numbers_have_four_digits(value, said):
    assert markup.four_digits(value).replace("\N{MINUS SIGN}", "-") == said


def test_the_answer_says_how_sure_it_is():
    comparison = make_comparison()  # beta = 4 has the best mean
    (difference,) = comparison.differences
    unsure = comparison._replace(differences=[difference._replace(verdict="cannot tell", more_seeds=3)])
    assert sentences.answer(unsure).endswith("Against beta beta=1: cannot tell, 3 more seeds would.")
    best = comparison._replace(
        baseline=comparison.groups[1].name, differences=[difference._replace(group=comparison.groups[0].name)]
    )
    assert sentences.answer(best).endswith("It is the baseline. Sure to be worse: 1 of 1 other group.")
    alone = comparison._replace(differences=[])
    assert sentences.answer(alone) == sentences.best_group(alone)


def test_metrics_are_defined_by_their_docstrings():
    from vae_jax.metrics import mig

    first = mig.__doc__.splitlines()[0]
    assert [sentences.definition(name) for name in ("mig", "mig:bins=30", "mig:bins=30.x", "mig.x")] == [first] * 4
    assert "lower bound" in sentences.definition("elbo")
    assert sentences.definition("unheard_of")


def test_fields_that_differ_between_groups_are_shown_and_the_seed_is_not(tmp_path):
    section = folded_sections.config_differences(make_comparison())
    assert "train.steps" in section
    assert "variant.beta" in section
    assert ">seed<" not in section
    assert folded_sections.config_differences(make_comparison(betas=(1.0,), autoencoder=False)) is None


def test_pictures_of_the_best_runs_are_in_the_page_up_to_a_size(tmp_path, monkeypatch):
    comparison = make_comparison(folder=str(tmp_path))
    best = [group.runs[0] for group in comparison.groups]  # less distortion, more elbo; or the first
    for run in comparison.runs:
        (tmp_path / run.name / "pictures").mkdir(parents=True)
        for kind in best_pictures.PICTURES[:2]:
            content = png(colour=len(run.name), pad=2000)
            (tmp_path / run.name / "pictures" / f"{kind}.png").write_bytes(content)
    page = Page(write_report(tmp_path, comparison))
    shown = [given for name, given in page.elements if name == "img"]
    assert [given["alt"] for given in shown] == [
        f"{kind} of {name}" for kind in best_pictures.PICTURES[:2] for name in best
    ]
    assert base64.b64decode(shown[0]["src"].partition(",")[2]).startswith(b"\x89PNG")
    monkeypatch.setattr(best_pictures, "MAX_PICTURE_BYTES", 8500)
    page = Page(write_report(tmp_path, comparison))
    assert [given["alt"] for name, given in page.elements if name == "img"] == [given["alt"] for given in shown[:4]]
    assert "2 pictures left out for size" in page.text
    cut = tmp_path / best[0] / "pictures" / f"{best_pictures.PICTURES[0]}.png"
    cut.write_bytes(cut.read_bytes()[:40])
    page = Page(write_report(tmp_path, comparison))
    assert f"Left out: {cut}: is no whole PNG (40 bytes)." in page.text
    assert shown[0]["alt"] not in [given["alt"] for name, given in page.elements if name == "img"]


def test_a_picture_that_is_cut_is_named(tmp_path):
    file, whole = tmp_path / "samples.png", png()
    assert read_png(file) == b""
    file.write_bytes(whole)
    assert read_png(file) == whole
    for damaged in (b"", b"junk", whole[:8], whole[:-3], whole[:-12], whole[:40] + b"x" + whole[41:]):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"samples.png: is no whole PNG"):
            read_png(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=r"samples.png: cannot be read"):
        read_png(file)


def test_two_runs_of_one_name_are_two_in_the_report(tmp_path):
    for seed, place in enumerate(("old/study", "new/study")):
        write_run(tmp_path / place, config(seed, beta=1.0), elbo_parts(1, 2 + seed), name="run")
    runs, skipped = load_runs([tmp_path / "old" / "study", tmp_path / "new" / "study"])
    comparison = analyse.compare_runs("both", "vae-jax compare", runs, skipped)
    rows = re.findall(r'<tr[^>]*><td class="name".*?</tr>', str(runs_section.section(comparison)))
    assert [re.findall(r"(?:old|new)/study/run", row)[-1] for row in rows] == ["old/study/run", "new/study/run"]
    figure = plotly_figures.rate_distortion(comparison)
    assert sum(len(trace["x"]) for trace in figure["data"] if trace["mode"] == "markers" and trace["hovertext"]) == 2


def commands_of(comparison):
    """The train commands of the report's last part but two, each as its words after the program's name."""
    parser = html.parser.HTMLParser()
    texts = []
    parser.handle_data = texts.append
    parser.feed(str(folded_sections.commands(comparison)))
    lines = [line for text in texts for line in text.splitlines()]
    program = f"{command('train')} "
    return [shlex.split(line.removeprefix(program)) for line in lines if line.startswith(program)], lines


def as_trained(root, words, name):
    """The folder of a run of these words, as training leaves it."""
    tree = parse_config(words)
    return write_run(root, json.loads(tree.to_json()), elbo_parts(1, 2) | {"step": tree.train.steps}, name=name)


def test_commands_make_the_very_runs_again(tmp_path):
    """Of a study's plan, of a run of no study, and where the plan's words give another config by now."""
    plans = {
        "planned": ["--config=digits", "--config.variant.beta=4.0", "--config.wandb.group=a group"],
        "solo": ["--config=digits:tcvae", "--config.net.hidden=(32, 16)", "--config.train.cosine=true"],
        "edited": ["--config=mnist", "--config.wandb.name=it's", "--config.likelihood.name=gaussian"],
    }
    for name, words in plans.items():
        as_trained(tmp_path, words, name)
    listed = [("planned", plans["planned"]), ("edited", ["--config=digits", "--config.seed=7"])]
    plan = [{"id": name, "program": "p", "steps": 1, "halving": [], "words": words} for name, words in listed]
    (tmp_path / "plan.json").write_text(json.dumps({"runs": plan}))
    runs, _ = load_runs([tmp_path])
    assert len(runs) == 3
    comparison = analyse.compare_runs(str(tmp_path), f"vae-jax compare --runs={tmp_path}", runs, [])
    commands, lines = commands_of(comparison)
    assert lines[-1] == comparison.command
    assert [*plans["planned"], f"--workdir={tmp_path / 'planned'}"] in commands
    by_folder = {run.folder: run.config for run in runs}
    assert len(commands) == 3 + len(comparison.groups)  # of each group its best, then all
    for *words, workdir in commands:
        config = by_folder[workdir.removeprefix("--workdir=")]
        assert study.canonical(flatten(parse_config(words))) == study.canonical(config)
    assert {words[-1].removeprefix("--workdir=") for words in commands} == by_folder.keys()


@pytest.mark.parametrize("problem", [UserError("its weights are gone"), TypeError("no\x1b[2J shape")])
def test_a_damaged_run_has_no_explorer_and_the_report_goes_on(tmp_path, monkeypatch, capsys, problem):
    def fail(folder):
        raise problem

    monkeypatch.setattr(explorer, "open_run", fail)
    comparison = make_comparison(folder=str(tmp_path))
    monkeypatch.setattr(comparison_files, "FILES", {"report.html": comparison_files.FILES["report.html"]})
    assert tmp_path / "report.html" in comparison_files.write_files(tmp_path, comparison)
    printed = capsys.readouterr().out
    assert "left out: the latent explorer of beta beta=1" in printed
    assert "\x1b" not in printed
    assert "Latent explorer" not in Page(tmp_path / "report.html").texts


@pytest.mark.parametrize("content", ["config.json", "checkpoints", "evaluation.json"])
def test_what_a_run_has_lost_is_said(tmp_path, content, capsys):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text('{"config": {"seed": 0}, "image_shape": null}')
    (folder / "evaluation.json").write_text('{"step": 0')
    lost = folder / content
    lost.rmdir() if lost.is_dir() else lost.write_bytes(b"\x00\xff")
    group = make_comparison().groups[0]
    run = make_comparison().runs[0]._replace(folder=str(folder))
    assert comparison_files._explorers([(group, run)], "latest") == []
    assert "left out: the latent explorer of beta beta=1: " in capsys.readouterr().out


def test_a_field_newer_than_a_run_is_no_hindrance():
    comparison = make_comparison(autoencoder=False)  # whose configs have few fields
    commands, _ = commands_of(comparison)
    assert len(commands) == len(comparison.runs) + len(comparison.groups)
    assert parse_config(commands[-1][:-1]).variant.beta == comparison.runs[-1].config["variant.beta"]


def test_where_no_command_makes_a_run_that_is_said():
    comparison = make_comparison(autoencoder=False)
    for extinct in ({"train.extinct": 1}, {"variant.name": "extinct"}):
        runs = [run._replace(config=run.config | extinct) for run in comparison.runs]
        commands, lines = commands_of(comparison._replace(runs=runs))
        assert commands == []
        assert lines.count("# beta_1.0_s1: no command gives its config with this version of vae_jax") == 1


@pytest.mark.parametrize(
    "comparison",
    [
        make_comparison(betas=(), seeds=1),
        make_comparison(betas=(1.0,), seeds=1, autoencoder=False),
        make_comparison()._replace(metrics=("elbo",), correlation=[[math.nan]]),
        make_comparison(metrics=("rate", "elbo"))._replace(differences=[]),
        make_comparison(betas=[1.0 + i for i in range(40)], seeds=1),
    ],
    ids=["rateless", "one run", "one metric", "neither way", "many groups"],
)
def test_odd_comparisons_have_a_page_too(tmp_path, comparison):
    assert comparison.command in Page(write_report(tmp_path, comparison)).texts


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UserError, match=r"needs plotly.*pip install.*compare"):
        study_page.write(tmp_path / "report.html", make_comparison())
    assert not (tmp_path / "report.html").exists()


def test_explorers_have_a_place_and_their_script_may_run(tmp_path):
    file = write_report(tmp_path, make_comparison(), [markup.tag("section", "a latent space", class_="vae-explorer")])
    page = Page(file)
    assert {"Latent explorer", "a latent space"} <= set(page.texts)
    script = re.findall("<script>(.*?)</script>", file.read_text(encoding="utf-8"), re.DOTALL)[-1]
    assert explorer.script() in script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in next(given["content"] for _, given in page.elements if "http-equiv" in given)
