"""A line a program, for a shell or GNU parallel.

[--python=PATH]
"""

import shlex

from vae_jax.launch.emit._study_plan import StudyPlan, training_command


def emit(plan: StudyPlan, *, python: str = "") -> str:
    """A line a program."""
    variables = [f"{name}={value}" for name, value in plan.environment().items()]
    env = ["env", *variables] if variables else []
    commands = [[*env, *training_command(python, plan.members_file(group.id))] for group in plan.groups]
    return "".join(f"{shlex.join(command)}\n" for command in commands)
