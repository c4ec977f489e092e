"""A SkyPilot task, launched once a program.

--bucket=URL [--accelerator=NAME:N --nodes=N --spot]
"""

import shlex

from vae_jax.errors import UserError
from vae_jax.launch.emit import _yaml
from vae_jax.launch.emit._study_plan import PORT, StudyPlan, cloud_name, operand, require, training_command
from vae_jax.phrases import plural

PROCESSES = (
    f'export JAX_COORDINATOR_ADDRESS="$(echo "$SKYPILOT_NODE_IPS" | head -n 1):{PORT}" '
    'JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES" JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"'
)
"""How the processes of one program find each other."""

HEAD = """\
# {count}, a managed job each. From the repository's root:
# for program in {programs}; do sky jobs launch -y -d -n "$program" --env PROGRAM="$program" THIS_FILE; done
"""


def emit(plan: StudyPlan, *, bucket: str = "", accelerator: str = "", nodes: int = 1, spot: bool = False) -> str:
    """A task of which PROGRAM says what it trains, with the command that launches it once a program."""
    require("bucket", bucket, "the URL of the storage that is to hold the study's folder, as in gs://NAME")
    if plan.folder.is_absolute() or ".." in plan.folder.parts:
        raise UserError(
            f"--workdir: {str(plan.folder)!r} lies outside of what SkyPilot copies to a node, where the bucket takes "
            "its place; give a folder in the repository"
        )
    extra = _extra(accelerator)
    task = {
        "name": cloud_name(plan.name),
        "workdir": ".",
        "num_nodes": nodes,
        "resources": {
            **({"accelerators": accelerator} if accelerator else {}),
            "use_spot": spot,
            "job_recovery": {"max_restarts_on_errors": 0},
        },
        "envs": {"PROGRAM": plan.groups[0].id, **plan.environment()},
        "file_mounts": {
            "~/programs": str(plan.folder / "programs"),
            "~/study": {"source": bucket, "mode": "MOUNT"},
        },
        "setup": f"pip install -q -c constraints.txt -e '.{extra}'\n",
        "run": _run_script(plan, split=nodes > 1 and extra != "[tpu]"),
    }
    programs = shlex.join(group.id for group in plan.groups)
    return HEAD.format(count=plural(len(plan.groups), "program"), programs=programs) + _yaml.dump(task)


def _extra(accelerator: str) -> str:
    """The extra of this project that an accelerator needs."""
    if accelerator.startswith("tpu"):
        return "[tpu]"
    return "[cuda]" if accelerator else ""


def _run_script(plan: StudyPlan, split: bool) -> str:
    """Puts the bucket in the place of the study's folder, and trains; `split` over hosts that must find each other."""
    folder = shlex.quote(operand(plan.folder))
    lines = [
        f"mkdir -p {shlex.quote(operand(plan.folder.parent))}",
        f"[ -L {folder} ] || rm -rf {folder}  # the copy of a study that came with the repository",
        f'ln -sfn "$HOME/study" {folder}',
        *([PROCESSES] if split else []),
        f'{shlex.join(training_command("python", ""))}"$HOME/programs/$PROGRAM.json"',
    ]
    return "".join(f"{line}\n" for line in lines)
