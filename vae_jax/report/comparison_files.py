"""What a comparison leaves in a folder, and in W&B: tables, pictures and the report with its latent explorers."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from vae_jax.comparison import wording
from vae_jax.comparison.figures import draw
from vae_jax.comparison.results import ComparedRun, Comparison, Group
from vae_jax.comparison.tables import write_csv, write_parquet
from vae_jax.comparison.wording import flat, in_nats
from vae_jax.errors import UserError
from vae_jax.report import explorer
from vae_jax.report.study_page import best_runs, write
from vae_jax.training import writers


def write_files(out: Path, comparison: Comparison) -> list[Path]:
    """Tables, figures and the report into the folder `out`, as far as what they need is installed; their files."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {str(out)!r} cannot be a folder ({error.strerror}); give another") from None
    files = draw(comparison, out)
    for name, make in FILES.items():
        try:
            make(out / name, comparison)
            files.append(out / name)
        except UserError as problem:
            print(f"left out: {problem}")
    return files


def _report(file: Path, comparison: Comparison) -> None:
    best = best_runs(comparison)
    # The baseline's best run and the best of another group, side by side.
    chosen = [pair for pair in best if pair[0].name == comparison.baseline][:1]
    # No slider moves anything of a decoder that ignores its code.
    lively = [pair for pair in _by_score(comparison, best) if pair[1].metrics.get("active_units") != 0]
    chosen += [pair for pair in lively if pair not in chosen][:1]
    explorers = []
    for group, run in chosen:
        try:
            explorers.append(explorer.of_folder(Path(run.folder), group.name))
        except UserError as problem:  # a copied study may lack checkpoints or data
            print(f"left out: the latent explorer of {group.name}: {problem}")
    write(file, comparison, explorers)


def _by_score(comparison: Comparison, best: list[tuple[Group, ComparedRun]]) -> list[tuple[Group, ComparedRun]]:
    score = comparison.metrics[0]
    sign = wording.sign(comparison, score)
    other = wording.apart(comparison) if in_nats(score) else ()
    known = lambda group: score in group.summaries and group.name not in other  # noqa: E731
    mean = lambda group: sign * group.summaries[score].mean if known(group) else -math.inf  # noqa: E731
    return sorted(best, key=lambda pair: -mean(pair[0]) if math.isfinite(mean(pair[0])) else math.inf)


FILES = {
    "runs.csv": lambda file, comparison: write_csv(file, comparison.runs),
    "runs.parquet": lambda file, comparison: write_parquet(file, comparison.runs),
    "report.html": _report,
}
"""What makes each file of a comparison, or raises UserError where something for it is not installed."""


def publish(out: Path, comparison: Comparison, files: Sequence[Path]) -> None:
    """Sends the table of groups and the report to W&B, in the group of the runs."""
    config = comparison.runs[0].config
    folder = Path(comparison.folder.split(",")[0]).resolve()
    own = {name: config.get(f"wandb.{name}", "") for name in ("mode", "project", "entity", "group")}
    own["mode"] = "online" if own["mode"] in ("", "disabled") else own["mode"]
    own["group"] = own["group"] or os.environ.get("WANDB_RUN_GROUP", folder.name)
    to = writers.WandbMirror(
        out,
        {**own, "name": f"comparison of {folder.name}", "tags": ("comparison",), "artifact": False},
        {"command": comparison.command, "by": list(comparison.by), "baseline": comparison.baseline},
    )
    to.table("comparison", *flat(comparison))
    if out / "report.html" in files:
        to.page(out / "report.html")
    to.close()
