"""Commands for a Cloud TPU slice, from asking for it to giving it back.

--accelerator=TYPE --zone=ZONE [--runtime=VERSION --project=NAME --spot]
"""

import dataclasses
import shlex
import sys
from collections.abc import Sequence

from vae_jax import registry
from vae_jax.launch.emit._study_plan import StudyPlan, cloud_name, operand, require, training_command
from vae_jax.phrases import plural
from vae_jax.screen import wrap_text

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

CODE, STUDY = "/tmp/vae_jax.tar.gz", "/tmp/study.tar.gz"

INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[tpu]'"

SCRIPT = """\
#!/bin/bash
# {count}, one after another. From the repository's root: bash THIS_FILE
# After a stop, run its lines from the programs on: each goes on where it was. Where the slice is lost,
# give it back by the last command, and run all: each goes on from what is in the study's folder.
# {hosts}.
set -eu
{create}
until state=$({state}); [ "$state" = ACTIVE ]; do
  case $state in FAILED | SUSPENDED) echo "the slice is $state" >&2; exit 1 ;; esac
  sleep 30
done
# What is committed.
{pack}
{copy}
{install}
# The programs{fetched}; one that fails stops no other.
status=0
{programs}
# To give the slice back: {delete}
exit "$status"
"""


@dataclasses.dataclass(frozen=True)
class Slice:
    """A Cloud TPU slice, and the commands of gcloud that reach it."""

    name: str
    location: Sequence[str]

    def command(self, *words: str) -> str:
        """A command of gcloud compute tpus."""
        return shlex.join(["gcloud", "compute", "tpus", *words, *self.location])

    def run_on_all(self, code: str) -> str:
        """Runs shell code on every host."""
        return self.command("tpu-vm", "ssh", self.name, "--worker=all", f"--command={code}")

    def create(self, accelerator: str, runtime: str, spot: bool) -> str:
        """Asks for the slice."""
        ask = ["queued-resources", "create", self.name, f"--node-id={self.name}", f"--accelerator-type={accelerator}"]
        return self.command(*ask, f"--runtime-version={runtime}", *(["--spot"] if spot else []))


def emit(
    plan: StudyPlan,
    *,
    accelerator: str = "",
    zone: str = "",
    runtime: str = "",
    project: str = "",
    spot: bool = False,
) -> str:
    """A script that asks for a Cloud TPU slice, runs the programs there one after another, and says how to end it."""
    require("accelerator", accelerator, "the type of the slice, as in v5litepod-16")
    require("zone", zone, "the zone of the slice, as in us-west4-a")
    runtime = runtime or registry.choose("--accelerator", accelerator.partition("-")[0], RUNTIMES)
    tpu = Slice(cloud_name(plan.name), [f"--zone={zone}", *([f"--project={project}"] if project else [])])
    copied = not plan.folder.is_absolute()
    if copied or not plan.splits_batches():
        print(wrap_text(f"note: {HOSTS}", stream=sys.stderr), file=sys.stderr)
    archives = [CODE, STUDY] if copied else [CODE]
    unpack = " && ".join(f"tar -xzf {file} -C vae_jax" for file in archives)
    pack = [f"git archive --format=tar.gz --output={CODE} HEAD"]
    if copied:
        pack.append(f"tar -czf {STUDY} {shlex.quote(operand(plan.folder))}")
    return SCRIPT.format(
        count=plural(len(plan.groups), "program"),
        hosts=f"{HOSTS[0].upper()}{HOSTS[1:]}",
        create=tpu.create(accelerator, runtime, spot),
        state=tpu.command("queued-resources", "describe", tpu.name, "--format=value(state.state)"),
        pack="\n".join(pack),
        copy=tpu.command("tpu-vm", "scp", *archives, f"{tpu.name}:/tmp/", "--worker=all"),
        install=tpu.run_on_all(f"mkdir -p vae_jax && {unpack} && cd vae_jax && {INSTALL}"),
        fetched=", the results fetched after each" if copied else "",
        programs="\n".join(_program_lines(plan, tpu, copied)),
        delete=tpu.command("queued-resources", "delete", tpu.name, "--force"),
    )


def _program_lines(plan: StudyPlan, tpu: Slice, copied: bool) -> list[str]:
    """Trains each program; where the study was `copied` to the slice, its folder comes back after each."""
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in plan.environment().items())
    source, target = f"{tpu.name}:vae_jax/{plan.folder}", operand(plan.folder.parent)
    fetch = tpu.command("tpu-vm", "scp", "--recurse", "--worker=0", source, target)
    lines = []
    for group in plan.groups:
        train = [*training_command(".venv/bin/python", plan.members_file(group.id)), "--coordinator=auto"]
        lines.append(f"{tpu.run_on_all(f'cd vae_jax && {exports}{shlex.join(train)}')} || status=1")
        if copied:
            lines.append(f"{fetch} || status=1")
    return lines
