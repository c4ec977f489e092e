"""The file of a W&B sweep, whose trials vae-jax agent runs; for a sweep that is a grid."""

import math
import shlex
from typing import Any

from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.errors import UserError
from vae_jax.launch.emit import _yaml
from vae_jax.launch.emit._study_plan import StudyPlan
from vae_jax.sweeps import study
from vae_jax.sweeps.algebra import Sweep

WRITES_STUDY = False
"""The agent writes the study's plan, a trial at a time."""

HEAD = """\
# wandb sweep THIS_FILE, then on each machine, in place of wandb agent:
# {agent}
"""


def emit(plan: StudyPlan) -> str:
    """The file of a W&B sweep over the same points. Raises UserError where they are no grid."""
    columns, section = grid_columns(plan.points), plan.groups[0].config.wandb
    config = [f"--config={plan.file}", *(f"--config.{field}={value}" for field, value in plan.overrides)]
    agent = ["vae-jax", "agent", "ENTITY/PROJECT/ID", *config, f"--workdir={plan.folder}"]
    sweep = {
        "name": plan.name,
        **{field: section[field] for field in ("project", "entity") if section[field]},
        "program": "vae-jax",
        "method": "grid",
        **_metric(plan.groups[0].config),
        "parameters": {
            field: {"values": [_yaml_value(value) for value in values]} for field, values in columns.items()
        },
    }
    return HEAD.format(agent=shlex.join(agent)) + _yaml.dump(sweep)


def _metric(config: ConfigDict) -> dict[str, Any]:
    """What the trials are shown by: the validation split's ELBO, or its loss; nothing where there is no such split."""
    if not config.data.validation:
        return {}
    bounded = model.logs_bound(config)
    name, goal = ("validation/elbo", "maximize") if bounded else ("validation/loss", "minimize")
    return {"metric": {"name": name, "goal": goal}}


def grid_columns(points: Sweep) -> dict[str, list]:
    """The values of each field whose every combination is a point. Raises UserError where a combination is none."""
    first = points[0]
    columns: dict[str, dict[str, Any]] = {field: {} for field in first}
    for point in points:
        if point.keys() != first.keys():
            raise UserError(f"--to=wandb: the sweep is no grid: {point} and {first} set different fields")
        for field, value in point.items():
            columns[field].setdefault(study.digest(value), value)
    size = math.prod(map(len, columns.values()))
    if (count := len({study.digest(point) for point in points})) != size:
        sizes = ", ".join(f"{field} ({len(values)})" for field, values in columns.items())
        raise UserError(f"--to=wandb: the sweep is no grid: {count:,} points, and {size:,} combinations of {sizes}")
    return {field: list(values.values()) for field, values in columns.items()}


def _yaml_value(value: Any) -> Any:
    """A value as YAML has it; what it has not, as on the command line."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)
