"""A plan as shell text: plain commands, a SLURM array script, the commands for a Cloud TPU slice."""

import shlex
import sys

from vae_jax import registry
from vae_jax.launch.emit.work import Work, cloud_name, needed, trainer

GRACE, REQUEUES = 120, 100
"""Seconds before its time limit that a SLURM job is told to save, and how often it may come again."""

RUNTIMES = {
    **dict.fromkeys(("v2", "v3", "v4"), "tpu-ubuntu2204-base"),
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
"""Software of a TPU VM, by its generation: what stands before the dash of its accelerator type."""

HOSTS = (
    "a slice of several hosts needs --config.parallel.mode=data and a --workdir on a disk that all of them mount, "
    "given as an absolute path"
)
"""What a study on a TPU slice cannot do without."""


def commands(work: Work, *, python: str = "") -> str:
    """A line a program."""
    before = [f"{name}={value}" for name, value in work.environment().items()]
    env = ["env", *before] if before else []
    lines = [shlex.join([*env, *trainer(python, work.members_file(program.id))]) for program in work.programs]
    return "".join(f"{line}\n" for line in lines)


def sbatch(
    work: Work,
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
    array = f"0-{len(work.programs) - 1}{f'%{max_parallel}' if max_parallel else ''}"
    log = str(work.folder / "programs").replace("%", "%%")
    options = {
        "job-name": work.name,
        "array": array,
        "output": f"{log}/slurm-%A_%a.out",
        "open-mode": "append",
        "requeue": None,
        "signal": f"TERM@{GRACE}",
        "nodes": nodes,
        "ntasks-per-node": 1,
        "partition": partition or False,
        "time": time or False,
        "gpus-per-node": gpus or False,
        "cpus-per-task": cpus or False,
        "mem": f"{memory}G" if memory else False,
    }
    lines = [f"#SBATCH --{name}{_value(value)}" for name, value in options.items() if value is not False]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in work.environment().items()]
    srun = ["srun", "--kill-on-bad-exit=0", *([f"--cpus-per-task={cpus}"] if cpus else [])]
    *train, members = trainer(python, work.members_file("PROGRAM"))
    members = '"$program"'.join(shlex.quote(part) for part in members.split("PROGRAM"))
    return "\n".join(
        [
            "#!/bin/bash",
            f"# {len(work.programs)} programs, an array element each. From the repository's root: sbatch THIS_FILE",
            *lines,
            "programs=(",
            *(f"  {shlex.quote(program.id)}" for program in work.programs),
            ")",
            "program=${programs[$SLURM_ARRAY_TASK_ID]}",
            *exports,
            "# By srun: so it is told to stop at the start of a grace time, and not at its end.",
            f"{shlex.join([*srun, *train])} {members}",
            "status=$?",
            "# It was stopped and has saved (128 + 15): it comes again, unless SLURM has ended the job itself.",
            "# Its number in the array: the number that the last element has alone is that of the whole array.",
            "element=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
            f'if [ "$status" -eq 143 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {REQUEUES} ] &&',
            '  [[ "$(scontrol show job -o "$element")" == *" JobState=RUNNING "* ]]; then',
            '  scontrol requeue "$element" && sleep 3600',
            "fi",
            'exit "$status"',
            "",
        ]
    )


def _value(value: object) -> str:
    """What stands behind an option's name; SLURM takes quotes as a shell does."""
    return "" if value is None else f"={shlex.quote(str(value))}"


def gcloud(
    work: Work,
    *,
    accelerator: str = "",
    zone: str = "",
    runtime: str = "",
    project: str = "",
    spot: bool = False,
) -> str:
    """A script that asks for a Cloud TPU slice, runs the programs there one after another, and says how to end it."""
    needed("accelerator", accelerator, "the type of the slice, as in v5litepod-16")
    needed("zone", zone, "the zone of the slice, as in us-west4-a")
    runtime = runtime or registry.choose("--accelerator", accelerator.partition("-")[0], RUNTIMES)
    name, at = cloud_name(work.name), [f"--zone={zone}", *([f"--project={project}"] if project else [])]
    tpus = lambda *words: shlex.join(["gcloud", "compute", "tpus", *words, *at])  # noqa: E731
    everywhere = lambda code: tpus("tpu-vm", "ssh", name, "--worker=all", f"--command={code}")  # noqa: E731
    asked = ["queued-resources", "create", name, f"--node-id={name}", f"--accelerator-type={accelerator}"]
    state = tpus("queued-resources", "describe", name, "--format=value(state.state)")
    here = not work.folder.is_absolute()
    if here or not work.splits_batches():
        print(f"note: {HOSTS}", file=sys.stderr)
    files = ["/tmp/vae_jax.tar.gz", *(["/tmp/study.tar.gz"] if here else [])]
    unpack = " && ".join(f"tar -xzf {file} -C vae_jax" for file in files)
    before = "".join(f"export {name}={shlex.quote(value)}; " for name, value in work.environment().items())
    train = lambda name: [*trainer(".venv/bin/python", work.members_file(name)), "--coordinator=auto"]  # noqa: E731
    back = tpus("tpu-vm", "scp", "--recurse", "--worker=0", f"{name}:vae_jax/{work.folder}", str(work.folder.parent))
    runs = []
    for program in work.programs:
        runs.append(everywhere(f"cd vae_jax && {before}{shlex.join(train(program.id))}") + " || status=1")
        runs.extend([f"{back} || status=1"] if here else [])
    return "\n".join(
        [
            "#!/bin/bash",
            f"# {len(work.programs)} programs, one after another. From the repository's root: bash THIS_FILE",
            "# After a stop, run its lines from the programs on: each goes on where it was. Where the slice is lost,",
            "# give it back by the last command, and run all: each goes on from what is in the study's folder.",
            f"# {HOSTS[0].upper()}{HOSTS[1:]}.",
            "set -eu",
            tpus(*asked, f"--runtime-version={runtime}", *(["--spot"] if spot else [])),
            f'until state=$({state}); [ "$state" = ACTIVE ]; do',
            '  case $state in FAILED | SUSPENDED) echo "the slice is $state" >&2; exit 1 ;; esac',
            "  sleep 30",
            "done",
            "# What is committed.",
            "git archive --format=tar.gz --output=/tmp/vae_jax.tar.gz HEAD",
            *([f"tar -czf /tmp/study.tar.gz {shlex.quote(str(work.folder))}"] if here else []),
            tpus("tpu-vm", "scp", *files, f"{name}:/tmp/", "--worker=all"),
            everywhere(
                f"mkdir -p vae_jax && {unpack} && cd vae_jax && python3 -m venv .venv && "
                ".venv/bin/pip install -q -c constraints.txt -e '.[tpu]'"
            ),
            f"# The programs{', the results fetched after each' if here else ''}; one that fails stops no other.",
            "status=0",
            *runs,
            f"# To give the slice back: {tpus('queued-resources', 'delete', name, '--force')}",
            'exit "$status"',
            "",
        ]
    )
