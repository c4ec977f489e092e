"""The files that a comparison leaves in a folder, and in W&B: tables, pictures and the report with its explorers."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vae_jax.comparison.ranking import best_runs, ranked_groups
from vae_jax.comparison.results import ComparedRun, Comparison, Group
from vae_jax.comparison.tables import group_table, write_csv, write_parquet
from vae_jax.errors import UserError
from vae_jax.jax_flags import pinned_flags
from vae_jax.phrases import printable
from vae_jax.report import explorer, study_page
from vae_jax.report.group_pictures import group_pictures
from vae_jax.report.markup import Html
from vae_jax.screen import wrap_text
from vae_jax.training import writers


@pinned_flags()
def write_files(out: Path, comparison: Comparison) -> list[Path]:
    """Tables, figures and the report into the folder `out`, as far as what they need is installed; their files."""
    from vae_jax.comparison import figures  # brings matplotlib

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {str(out)!r} cannot be a folder ({error.strerror}); give another") from None
    files = figures.draw(comparison, out)
    for name, write in FILES.items():
        try:
            write(out / name, comparison)
            files.append(out / name)
        except UserError as problem:
            print(wrap_text(printable(f"left out: {problem}")))
    return files


def _write_csv(file: Path, comparison: Comparison) -> None:
    write_csv(file, comparison.runs)


def _write_parquet(file: Path, comparison: Comparison) -> None:
    write_parquet(file, comparison.runs)


def _write_report(file: Path, comparison: Comparison) -> None:
    explorers = _explorers(explored_runs(comparison), comparison.checkpoint)
    study_page.write(file, comparison, explorers, group_pictures(comparison))


FILES: dict[str, Callable[[Path, Comparison], None]] = {
    "runs.csv": _write_csv,
    "runs.parquet": _write_parquet,
    "report.html": _write_report,
}
"""What writes each file of a comparison, or raises UserError where something for it is not installed."""


def _explorers(runs: Sequence[tuple[Group, ComparedRun]], checkpoint: str) -> list[Html]:
    """The explorers of these runs, side by side; a copied study may lack checkpoints or data, or hold damaged ones."""
    fragments = []
    for group, run in runs:
        try:
            fragments.append(explorer.folder_fragment(Path(run.folder), group.name, checkpoint))
        except Exception as problem:  # whatever a damaged file makes of a run: the report does without
            kind = "" if isinstance(problem, UserError) else f"{run.folder}: {type(problem).__name__}: "
            print(wrap_text(printable(f"left out: the latent explorer of {group.name}: {kind}{problem}")))
    return fragments


def explored_runs(comparison: Comparison) -> list[tuple[Group, ComparedRun]]:
    """The baseline's best run, and the best run of the best other group whose decoder does not ignore its code."""
    best = best_runs(comparison)
    baseline = [pair for pair in best if pair[0].name == comparison.baseline]
    ranks = {group.name: rank for rank, group in enumerate(ranked_groups(comparison))}
    ordered = sorted(best, key=lambda pair: ranks.get(pair[0].name, len(ranks)))
    others = [pair for pair in ordered if not_collapsed(pair[1]) and pair not in baseline]
    return [*baseline[:1], *others[:1]]


def not_collapsed(run: ComparedRun) -> bool:
    """Whether a slider moves anything: unless all latents are known to be inactive."""
    return run.metrics.get("active_units") != 0


def publish(out: Path, comparison: Comparison, files: Sequence[Path]) -> None:
    """Sends the table of groups and the report to W&B, in the group of the runs."""
    config = comparison.runs[0].config
    folder = Path(comparison.folder.split(",")[0]).resolve()
    settings = {name: config.get(f"wandb.{name}", "") for name in ("mode", "project", "entity", "group")}
    if settings["mode"] in ("", "disabled"):
        settings["mode"] = "online"
    if not settings["group"]:
        settings["group"] = os.environ.get("WANDB_RUN_GROUP", folder.name)
    mirror = writers.WandbMirror(
        out,
        {
            **settings,
            "name": f"comparison of {folder.name}",
            "tags": ("comparison",),
            "artifact": False,
            "job_type": "compare",
        },
        {"command": comparison.command, "by": list(comparison.by), "baseline": comparison.baseline},
    )
    mirror.table("comparison", *group_table(comparison))
    if out / "report.html" in files:
        mirror.page(out / "report.html")
    mirror.close()
