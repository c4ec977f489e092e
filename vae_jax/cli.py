"""The programs of vae-jax: each reads its flags, calls the package and gives its exit status.

A program imports what it needs when it runs: `vae-jax status` waits for no JAX, `vae-jax train` for no plots.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import vae_jax
from vae_jax.config.command_line import Parser, command, one_of, path, paths, run_program, text, whole, words
from vae_jax.config.tasks import overview
from vae_jax.errors import UserError, unknown_name
from vae_jax.screen import wrap_text


def _process_flags(parser: Parser) -> None:
    parser.flag("coordinator", text, None, "HOST:PORT|auto", "process 0 of a job of several processes")
    parser.flag("processes", text, None, "N", "how many processes the job has")
    parser.flag("process", text, None, "I", "which of them this one is, from 0")


def _given_processes(flags: argparse.Namespace) -> dict[str, str]:
    """The flags of a job of several processes that were given."""
    names = ("coordinator", "processes", "process")
    return {name: value for name in names if (value := getattr(flags, name)) is not None}


def train(argv: Sequence[str]) -> int:
    """Trains one model: config -> data -> networks -> variant -> step -> loop.

    The same command resumes a stopped run, to the same bits. docs/runs.md says what a run leaves in its folder and what
    may change when it is resumed; vae_jax/config/defaults.py has every field. --from=RUN or RUN:best begins a new run
    with the weights of another, at step 0 with a fresh optimiser. On several hosts, start one process on each with
    --coordinator=HOST:PORT --processes=N --process=I; under SLURM leave these out: docs/sweeps.md.
    """
    from vae_jax.config.explain import explain_config
    from vae_jax.config.parse import checked_config, run_name
    from vae_jax.training.start import recorded_start
    from vae_jax.training.train_run import train_in_folder

    parser = Parser("train", train.__doc__, config=True)
    parser.flag("workdir", path, None, "FOLDER", "where the run lies (default: runs/<config>)")
    parser.flag("from", text, "", "RUN[:best]", "the run whose weights it begins with (default: random weights)")
    parser.switch("explain", "says in words what the config optimises, and trains nothing")
    _process_flags(parser)
    flags, overrides = parser.parse(argv)
    config = checked_config(flags.config, overrides)
    workdir = flags.workdir or Path("runs") / run_name(flags.config)
    if flags.explain:
        print(wrap_text(explain_config(config), "    "))
        return 0
    start = getattr(flags, "from") or recorded_start(flags.config)
    return train_in_folder(config, workdir, _given_processes(flags), start)


def explain(argv: Sequence[str]) -> int:
    """Says in words what a config optimises: the variant's equation, each weight, and what may be swept."""
    from vae_jax.config.explain import explain_config
    from vae_jax.config.parse import checked_config

    parser = Parser("explain", explain.__doc__, config=True)
    flags, overrides = parser.parse(argv)
    print(wrap_text(explain_config(checked_config(flags.config, overrides)), "    "))
    return 0


def population(argv: Sequence[str]) -> int:
    """Trains many runs as one compiled program: runs that differ only in their seeds and traced numbers.

    The file is a JSON list of {"workdir": "runs/study/x", "words": ["--config=digits", "--config.seed=1"]}: the command
    line of each as vae-jax train would have it, and each leaves the same folder. vae-jax sweep writes such files. The
    same command resumes stopped members; those that are finished, have diverged (failed.json) or were dropped by
    config.sweep.halving (dropped.json) are left as they are. On several hosts, one process on each as with vae-jax
    train, each trains its share of the members; with config.parallel.mode=data all train each of them.
    """
    from vae_jax.training.population import train_members

    parser = Parser("population", population.__doc__)
    parser.flag("members", path, None, "FILE.json", "the members' folders and command lines")
    _process_flags(parser)
    flags, _ = parser.parse(argv)
    if flags.members is None:
        raise UserError("--members: missing; give the file with the members' command lines")
    return train_members(flags.members, _given_processes(flags))


def evaluate(argv: Sequence[str]) -> int:
    """Computes the test numbers and pictures of a run's checkpoint.

    The last step's checkpoint gives evaluation.json and pictures/, the best evaluation_best.json and pictures_best/,
    the latest of a run that has not finished evaluation_<step>.json and pictures_<step>/. With --metrics
    (docs/metrics.md) only those are computed, and added to the file; "all" stands for every one that the run can have.
    Results of a finished run go to its W&B run too, if it has one.
    """
    from vae_jax.training.evaluate_run import evaluate_run

    parser = Parser("evaluate", evaluate.__doc__)
    parser.flag("workdir", path, None, "FOLDER", "the folder of a run")
    parser.flag("checkpoint", text, "latest", "latest|best", "which checkpoint")
    parser.flag("metrics", text, "", "NAME[:FIELD=VALUE],...", "metrics to compute instead of the test numbers")
    flags, _ = parser.parse(argv)
    if flags.workdir is None:
        raise UserError("--workdir: give the folder of a run, and no other config than its own")
    _, failed = evaluate_run(flags.workdir, flags.checkpoint, flags.metrics)
    if failed:
        print(f"error: could not be computed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def compare(argv: Sequence[str]) -> int:
    """Which runs are better, by how much, and how sure that is.

    --runs is a folder of runs, such as a study's, or several, separated by commas. Runs that agree in the fields of
    --by form a group, and a group is averaged over its seeds; by default the fields are those in which the runs differ.
    All numbers are of the test split; validation chooses the run that represents each group. The first of --metrics is
    the score of choice. --out (runs/study/comparison) gets runs.csv and runs.parquet, every run with its config,
    metrics, speed and versions; the pictures rate_distortion and score, as .png and .svg; and report.html.

    Each group is compared with the baseline by a paired t test over the seeds that both have, corrected for the number
    of comparisons: name fewer metrics and each needs fewer seeds. Metrics without a better direction (rate, active
    units, your own) are tested only if --metrics names them, and are then higher or lower. docs/comparing.md says how
    often this is wrong if nothing differs, and how many seeds find a difference. --wandb sends table and report to the
    study's group.
    """
    from vae_jax.comparison.analyse import compare_folders
    from vae_jax.comparison.terminal import comparison_lines
    from vae_jax.report.comparison_files import publish, write_files

    parser = Parser("compare", compare.__doc__)
    parser.flag("runs", paths, (), "FOLDER,...", "folders of runs, or of studies")
    parser.flag("by", words, (), "FIELD,...", "fields that make the groups (default: those in which the runs differ)")
    parser.flag("metrics", words, (), "NAME,...", "the metrics, the score of choice first")
    parser.flag("baseline", text, None, "GROUP", "the group to compare the others with (default: the VAE)")
    parser.flag("checkpoint", text, "latest", "latest|best", "the last step's numbers, or the best by validation")
    parser.flag("out", path, None, "FOLDER", "where the files go (default: the first of --runs, comparison/)")
    parser.switch("wandb", "sends table and report to W&B")
    flags, _ = parser.parse(argv)
    if not flags.runs:
        raise UserError("--runs: give the folder of a study, or of runs; the configs are in their folders")
    comparison = compare_folders(
        [str(folder) for folder in flags.runs],
        flags.by,
        flags.metrics,
        flags.baseline,
        command("compare", argv),
        flags.checkpoint,
    )
    print("\n".join(comparison_lines(comparison)) + "\n", flush=True)
    out = flags.out or flags.runs[0] / "comparison"
    files = write_files(out, comparison)
    if flags.wandb:
        publish(out, comparison, files)
    print(wrap_text(f"{out}: {', '.join(file.name for file in files)}", "  "))
    return 0


def udr(argv: Sequence[str]) -> int:
    """Which runs found the latents that other seeds found too: unsupervised disentanglement ranking, without factors.

    --runs is the folder of a study, or several, separated by commas. Finished runs that differ only in their seed form
    a group, as in vae-jax compare. In each group of two or more, all runs encode the same held-out images. A run's UDR
    (Duan et al. 2020; docs/metrics.md) is the median of how well its latents match those of each other run, from 0 to
    1. It joins each run's evaluation.json as udr (with rank correlations as udr:relation=spearman), where vae-jax
    compare finds it; udr.json in the first of the folders holds all scores. Scores compare between groups, such as the
    settings of one variant. A small group's are noisier, and seeds that agree on something wrong score well.
    """
    from vae_jax.comparison.unsupervised_ranking import FILE, rank_folders, ranking_lines

    parser = Parser("udr", udr.__doc__)
    parser.flag("runs", paths, (), "FOLDER,...", "folders of studies, or of runs")
    parser.flag("relation", text, "lasso", "lasso|spearman", "how alike two latents are")
    parser.flag("images", whole(0, "all"), 10_000, "N", "held-out images that the runs encode; 0: all")
    flags, _ = parser.parse(argv)
    if not flags.runs:
        raise UserError("--runs: give the folder of a study, or of runs; the configs are in their folders")
    ranking = rank_folders(flags.runs, flags.relation, flags.images)
    print("\n".join(ranking_lines(ranking)) + f"\n{flags.runs[0] / FILE}")
    return 0


def explore(argv: Sequence[str]) -> int:
    """Writes a page to move a run's latents in a browser, beside those of another: one file, which opens offline."""
    from vae_jax.report.explorer import write

    parser = Parser("explore", explore.__doc__)
    parser.flag("workdir", path, None, "FOLDER", "the folder of a run")
    parser.flag("other", path, None, "FOLDER", "another run, beside it")
    parser.flag("out", path, None, "FILE.html", "the page (default: explore.html in --workdir)")
    parser.flag("checkpoint", text, "latest", "latest|best", "the last step's weights, or the best by validation")
    flags, _ = parser.parse(argv)
    if flags.workdir is None:
        raise UserError("--workdir: give the folder of a run, and no other config than its own")
    folders = [flags.workdir, *([flags.other] if flags.other else [])]
    out = write(folders, flags.out, flags.checkpoint)
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def sweep(argv: Sequence[str]) -> int:
    """Runs a sweep on this machine, one process for each program.

    The config's file has sweep() beside get_config(); --config.a.b=v holds for every run. Programs start as places
    become free: one for each GPU, or N at once on the CPU (1 unless given), which share its cores. Ctrl-C stops them
    once they have saved, a second one at once; the same command resumes. A crashed program does not stop the others,
    and the next launch tries it again. Exit status: 0 all is done, 1 something failed, 128 + n stopped by signal n
    (130: Ctrl-C). docs/sweeps.md.
    """
    from vae_jax.launch.local import describe, launch_sweep

    parser = Parser("sweep", sweep.__doc__, config=True)
    parser.flag("workdir", path, None, "FOLDER", "where the study lies (default: runs/<config>_sweep)")
    parser.flag(
        "processes", whole(0, "what suits this machine"), 0, "N", "programs at once; 0: what suits this machine"
    )
    parser.switch("dry_run", "says what it would take, and launches nothing")
    parser.flag("on", text, "", "MACHINE", "with --dry_run: a machine that you do not have, as tpu:v5e:2x4")
    flags, overrides = parser.parse(argv)
    workdir = flags.workdir or _study_folder(flags.config)
    if flags.on and not flags.dry_run:
        raise UserError("--on: plans for a machine that you do not have; give --dry_run too")
    if flags.dry_run:
        print(describe(flags.config, overrides, workdir, flags.processes, flags.on))
        return 0
    return launch_sweep(flags.config, overrides, workdir, flags.processes, command("sweep", argv))


def _study_folder(config: str, kind: str = "sweep") -> Path:
    from vae_jax.config.parse import run_name

    return Path("runs") / f"{run_name(config.partition(':')[0])}_{kind}"


def search(argv: Sequence[str]) -> int:
    """Searches a space of configs: the scores of earlier points choose the next ones.

    The config's file has search() beside get_config(), which gives the range or the options of each field. Optuna
    chooses (the extra 'search'); a generation of trials trains as compiled populations, in this process or, with
    --slurm, as jobs of a cluster. A trial is scored on the validation split, or by a metric of a whole grid of factors.
    The same command resumes, with the suggestions that it would have made without the stop; more --trials extend a
    search that has ended. With --config.sweep.halving a pruner ends poor trials at those steps. Exit status: 0 all
    trials have ended, 1 some could not, or none is complete, 128 + n stopped by signal n. docs/search.md.
    """
    from vae_jax.launch.generations import Slurm, ThisProcess
    from vae_jax.launch.search import SearchRequest, run_search
    from vae_jax.launch.slurm import SlurmRequest, add_flags, read_request
    from vae_jax.sweeps.search_settings import PRUNERS, SAMPLERS

    parser = Parser("search", search.__doc__, config=True)
    parser.flag("workdir", path, None, "FOLDER", "where the study lies (default: runs/<config>_search)")
    parser.flag("trials", whole(1), 64, "N", "trials in all")
    parser.flag("at_once", whole(1), 16, "N", "trials per generation, chosen and trained together")
    parser.flag("objective", words, ("elbo",), "NAME[:min|:max],...", "numbers of the validation split, one or several")
    parser.flag("sampler", one_of(SAMPLERS), "tpe", "|".join(SAMPLERS), "what chooses the trials")
    parser.flag("pruner", one_of(PRUNERS), None, "|".join(PRUNERS), "what ends trials early; with halving: median")
    parser.flag("seeds", whole(1), 1, "N", "seeds of each trial, which is scored by their mean")
    parser.flag("seed", whole(0), 0, "N", "the seed of the sampler")
    parser.switch("slurm", "each generation is an array of jobs; the flags below are those of vae-jax slurm")
    add_flags(parser)
    flags, overrides = parser.parse(argv)
    request = SearchRequest(**{field: getattr(flags, field) for field in SearchRequest._fields})
    resources = read_request(flags)
    if not flags.slurm and resources != SlurmRequest():
        raise UserError("--slurm: missing beside flags of vae-jax slurm; give it too, or leave them out")
    place = Slurm(resources) if flags.slurm else ThisProcess()
    workdir = flags.workdir or _study_folder(flags.config, "search")
    return run_search(flags.config, overrides, workdir, request, place, command("search", argv))


def slurm(argv: Sequence[str]) -> int:
    """Runs a sweep on a SLURM cluster, as a job array with one element for each program.

    The plan, the ids and the folder are those of vae-jax sweep; all nodes must see the folder. --gpus, --cpus and
    --memory are for each node, --nodes for each program (1), --max_parallel for each submission. A program that is
    preempted, whose node is lost, or that is stopped --grace seconds before its --time ends, has saved; it is queued
    again, at most --requeues times, and resumes. A crashed program does not stop the others. What is queued already is
    not submitted again. The command submits and returns; with --wait it shows the state of the jobs until all have
    ended, and Ctrl-C leaves them in the queue. Other sbatch options come from its environment (SBATCH_ACCOUNT, ...).
    Exit status: 0 all is submitted (with --wait: done), 1 something failed, 130 Ctrl-C. docs/slurm.md.
    """
    from vae_jax.launch.slurm import add_flags, describe, launch_sweep, read_request

    parser = Parser("slurm", slurm.__doc__, config=True)
    parser.flag("workdir", path, None, "FOLDER", "where the study lies (default: runs/<config>_sweep)")
    add_flags(parser)
    parser.switch("wait", "stays, and shows the state of the jobs")
    parser.switch("dry_run", "says what it would take, and submits nothing")
    flags, overrides = parser.parse(argv)
    workdir = flags.workdir or _study_folder(flags.config)
    request = read_request(flags)
    if flags.dry_run:
        print(describe(flags.config, overrides, workdir, request))
        return 0
    again = command("slurm", argv)
    return launch_sweep(flags.config, overrides, workdir, request, flags.wait, again)


def emit(argv: Sequence[str]) -> int:
    """Writes the plan of a sweep as text for another place, which then runs it: a scheduler, a cluster, a cloud."""
    from vae_jax.launch import emit as emitters

    places = ", ".join(emitters.places())
    parser = Parser("emit", emitters.manual(), config=True)
    parser.flag("to", text, None, "PLACE", f"one of {places}")
    parser.flag("workdir", path, None, "FOLDER", "where the study lies (default: runs/<config>_sweep)")
    parser.flag("output", path, "", "FILE", "where the text goes (default: printed)")
    for word, default in emitters.place_words().items():
        parser.add_argument(f"--{word}", default=argparse.SUPPRESS, **emitters.parser_options(word, default))
    flags, overrides = parser.parse(argv)
    if flags.to is None:
        raise UserError(f"--to: missing; give one of {places}")
    given = {word: value for word, value in vars(flags).items() if word in emitters.place_words()}
    workdir = flags.workdir or _study_folder(flags.config)
    return emitters.emit_sweep(flags.to, given, flags.config, overrides, workdir, str(flags.output))


def status(argv: Sequence[str]) -> int:
    """Shows the state of a study, from its folder alone.

    It works while the study runs, and on a copy of it. Exit status: 0 if every run is done (or was dropped by halving),
    1 otherwise.
    """
    from vae_jax.launch.status import report

    parser = Parser("status", status.__doc__)
    parser.add_argument("study", nargs="*", type=path, metavar="FOLDER", help="the folder of a study")
    flags, _ = parser.parse(argv)
    if len(flags.study) != 1:
        raise UserError("STUDY: give the folder of one study, as in vae-jax status runs/study")
    lines, complete = report(flags.study[0])
    print("\n".join(lines))
    return int(not complete)


def agent(argv: Sequence[str]) -> int:
    """Runs the trials that a W&B sweep hands out, one after another or N at once, each as vae-jax sweep would run it.

    SWEEP_ID is ID, PROJECT/ID or ENTITY/PROJECT/ID of a sweep whose parameters are fields of the config, as
    variant.beta. A wrong parameter fails only its trial; three in a row end the agent. Ctrl-C lets trials save and end;
    the same command resumes them first. --at_once=N trains N trials as one population, each its own run in W&B. Each
    agent needs its own workdir. Exit status: 0 all is well, 1 a trial failed, 128 + n stopped by signal n.
    docs/sweeps.md.
    """
    from vae_jax.launch.wandb_trials import train_trials

    parser = Parser("agent", agent.__doc__, config=True)
    parser.add_argument("sweep_id", nargs="?", metavar="SWEEP_ID", help="the sweep, as W&B names it")
    parser.flag("workdir", path, None, "FOLDER", "where the study lies (default: runs/<config>_sweep)")
    parser.flag("count", whole(0, "all trials there are"), 0, "N", "trials to ask for; 0: all there are")
    parser.flag("at_once", whole(1), 1, "N", "trials that train at once, as one population")
    flags, overrides = parser.parse(argv)
    if not flags.sweep_id:
        raise UserError("SWEEP_ID: missing; give it first, as in vae-jax agent ENTITY/PROJECT/ID")
    workdir = flags.workdir or _study_folder(flags.config)
    return train_trials(flags.sweep_id, flags.config, overrides, workdir, flags.count, flags.at_once)


PROGRAMS = {
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "udr": udr,
    "explore": explore,
    "sweep": sweep,
    "search": search,
    "slurm": slurm,
    "emit": emit,
    "status": status,
    "agent": agent,
    "explain": explain,
    "population": population,
}


def run(argv: Sequence[str]) -> int:
    """The program that the first word names, with the others; the exit status."""
    if not argv or argv[0] in ("--help", "-h"):
        print(wrap_text(overview(PROGRAMS), " " * 14))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"vae_jax {vae_jax.__version__}")
        return 0
    if argv[0] not in PROGRAMS:
        raise unknown_name("vae-jax", argv[0], PROGRAMS)
    return PROGRAMS[argv[0]](argv[1:])


def main() -> NoReturn:
    """The console script."""
    run_program(run)
