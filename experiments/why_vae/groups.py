"""The groups of the founding study: which runs each claim compares, and what runs may differ in."""

from pathlib import Path
from typing import Any

from experiments.why_vae.rules import AUTOENCODER, DECAY, LEARNED, NO_KL, NOISE, REQUIRED, VAE
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.results import ComparedRun
from vae_jax.errors import UserError
from vae_jax.sweeps import study

Groups = dict[str, list[ComparedRun]]

MAY_DIFFER = ("seed", "wandb.", "checkpoint.", "log.", "evaluation.", "parallel.", "sweep.", "train.dispatch")
"""Fields in which any two runs may differ."""
DEFINING = ("variant.", "likelihood.", "data.binarize")
"""Fields in which groups may differ, and not the runs of one."""


def group_name(config: dict[str, Any]) -> str:
    """The group of a run's flat config; empty where the claims have no use for it."""
    name, likelihood = config["variant.name"], config["likelihood.name"]
    if likelihood == "bernoulli":
        return _bernoulli_group(name, config)
    learned = likelihood == "gaussian" and config["likelihood.scale"] == "pixel"
    return LEARNED if name == "beta" and learned and _is_plain(config) and config["variant.beta"] == 1 else ""


def _bernoulli_group(name: str, config: dict[str, Any]) -> str:
    if name == "autoencoder":
        return f"{NOISE} {config['variant.noise']:g}" if config["variant.noise"] else AUTOENCODER
    if name == "rae" and config["variant.regularizer"] == "l2":
        return f"{DECAY} {config['variant.lambda_reg']:g}"
    if name == "beta" and _is_plain(config):
        beta = config["variant.beta"]
        return {0: NO_KL, 1: VAE}.get(beta, f"beta = {beta:g}")
    return ""


def _is_plain(config: dict[str, Any]) -> bool:
    """Whether a VAE has neither free bits nor a schedule."""
    return not config.get("variant.free_bits") and config.get("schedule.name", "constant") == "constant"


def group_order(group: str) -> tuple[int, float]:
    """What groups are sorted by: autoencoders, betas, other regularisers, by strength."""
    exact = {AUTOENCODER: (0, 0.0), NO_KL: (2, 0.0), VAE: (2, 1.0), LEARNED: (4, 0.0)}
    if group in exact:
        return exact[group]
    start, _, strength = group.rpartition(" ")
    return {NOISE: 1, "beta =": 2, DECAY: 3}[start], float(strength)


def load_groups(folder: Path) -> tuple[Groups, list[str]]:
    """The finished runs by group, and what is to be said of the others.

    Raises UserError where a group that the claims need is not there, and where runs differ in more than they may.
    """
    runs, skipped = load_runs([folder])
    finished = [run for run in runs if run.status == study.DONE]
    groups: Groups = {}
    for run in finished:
        groups.setdefault(group_name(run.config), []).append(run)
    others = groups.pop("", [])
    if missing := [group for group in REQUIRED if group not in groups]:
        raise UserError(f"--runs: {str(folder)!r} has no finished run of: {', '.join(missing)}; see configs/why_vae.py")
    check_comparable(groups)
    counts = {"not finished": len(runs) - len(finished), "of other groups": len(others), "no runs": len(skipped)}
    notes = [f"{count} {name}" for name, count in counts.items() if count]
    ordered = {group: groups[group] for group in sorted(groups, key=group_order)}
    return ordered, [f"Left out of the folder: {', '.join(notes)}."] if notes else []


def check_comparable(groups: Groups) -> None:
    """Raises UserError unless runs differ only by group and seed, each pair of these once."""
    reference = next(iter(groups.values()))[0]
    for group, runs in groups.items():
        if len({run.seed for run in runs}) < len(runs):
            raise UserError(f"--runs: {group!r} has several runs of one seed; give a study with one of each")
    for first, run in ((runs[0], run) for runs in groups.values() for run in runs):
        if fields := _differences(run.config, first.config, reference.config):
            raise UserError(f"--runs: config.{fields[0]} is not the same in all runs ({run.name}); it has to be")


def _differences(config: dict[str, Any], group: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """The fields in which a config differs from the first of its group, or of the study, and may not."""

    def differs(field: str) -> bool:
        expected = group if field.startswith(DEFINING) else reference
        return not field.startswith(MAY_DIFFER) and config.get(field) != expected.get(field)

    return [field for field in sorted(config.keys() | reference.keys()) if differs(field)]
