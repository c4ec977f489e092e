"""A SLURM array script, an element a program.

[--partition=P --time=HH:MM:SS --gpus=N --cpus=N --memory=GB (a node each) --nodes=N --max_parallel=N
--python=PATH]
"""

import shlex

from vae_jax.launch.emit._study_plan import StudyPlan, training_command
from vae_jax.phrases import plural

GRACE_SECONDS, REQUEUES = 120, 100
"""How long before its time limit a job is told to save, and how often it may come again."""

SCRIPT = """\
#!/bin/bash
# {count}, an array element each. From the repository's root: sbatch THIS_FILE
{options}
programs=(
{programs}
)
program=${{programs[$SLURM_ARRAY_TASK_ID]}}
{exports}\
# By srun: so it is told to stop at the start of a grace time, and not at its end.
{command}
status=$?
# It was stopped and has saved (128 + 15): it comes again, unless SLURM has ended the job itself.
# Its number in the array: the number that the last element has alone is that of the whole array.
element=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
if [ "$status" -eq 143 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ] &&
  [[ "$(scontrol show job -o "$element")" == *" JobState=RUNNING "* ]]; then
  scontrol requeue "$element" && sleep 3600
fi
exit "$status"
"""


def emit(
    plan: StudyPlan,
    *,
    partition: str = "",
    time: str = "",
    gpus: int = 0,
    cpus: int = 0,
    memory: int = 0,
    nodes: int = 1,
    max_parallel: int = 0,
    python: str = "",
) -> str:
    """An array script for sbatch, an element a program; a program that was told to stop requeues itself."""
    throttle = f"%{max_parallel}" if max_parallel else ""
    log = str(plan.folder / "programs").replace("%", "%%")
    always = {
        "job-name": plan.name,
        "array": f"0-{len(plan.groups) - 1}{throttle}",
        "output": f"{log}/slurm-%A_%a.out",
        "open-mode": "append",
        "requeue": None,
        "signal": f"TERM@{GRACE_SECONDS}",
        "nodes": nodes,
        "ntasks-per-node": 1,
    }
    chosen = {
        "partition": partition,
        "time": time,
        "gpus-per-node": gpus,
        "cpus-per-task": cpus,
        "mem": f"{memory}G" if memory else "",
    }
    options = always | {name: value for name, value in chosen.items() if value}
    return SCRIPT.format(
        count=plural(len(plan.groups), "program"),
        options="\n".join(f"#SBATCH --{name}{_option_value(value)}" for name, value in options.items()),
        programs="\n".join(f"  {shlex.quote(group.id)}" for group in plan.groups),
        exports="".join(f"export {name}={shlex.quote(value)}\n" for name, value in plan.environment().items()),
        command=_srun_command(plan, cpus, python),
        requeues=REQUEUES,
    )


def _srun_command(plan: StudyPlan, cpus: int, python: str) -> str:
    """How an element trains the program that the script's $program names."""
    srun = ["srun", "--kill-on-bad-exit=0", *([f"--cpus-per-task={cpus}"] if cpus else [])]
    *train, members = training_command(python, plan.members_file("PROGRAM"))
    quoted_members = '"$program"'.join(shlex.quote(part) for part in members.split("PROGRAM"))
    return f"{shlex.join([*srun, *train])} {quoted_members}"


def _option_value(value: object) -> str:
    """What stands behind an option's name; SLURM takes quotes as a shell does, but a backslash in them as an escape."""
    return "" if value is None else "=" + shlex.quote(str(value).replace("\\", "\\\\"))
