"""A plan as YAML: JobSets of Kubernetes, a SkyPilot task, the file of a W&B sweep."""

import json
import math
import shlex
from pathlib import PurePosixPath
from typing import Any

import yaml

from vae_jax.errors import UserError
from vae_jax.launch.emit.work import Work, cloud_name, needed, trainer
from vae_jax.sweeps import study
from vae_jax.sweeps.algebra import Program, Sweep

PORT = 8476
"""Where the processes of one program find each other."""

PLANS = "/programs"
"""Where a pod finds the lists of members."""

LARGEST = 1_000_000
"""Bytes that a ConfigMap may hold, or nearly so."""


class Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Dumper.add_representer(str, _text)


def _dump(*documents: dict[str, Any]) -> str:
    return yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=10_000)


def jobset(
    work: Work,
    *,
    image: str = "",
    claim: str = "",
    accelerator: str = "",
    topology: str = "",
    chips: int = 1,
    nodes: int = 1,
    root: str = "/vae_jax",
    namespace: str = "",
    restarts: int = 10,
) -> str:
    """A ConfigMap with the members of every program, and a JobSet for each: so that none ends with another."""
    needed("image", image, "the container image that has the repository and what it needs")
    needed("claim", claim, "the PersistentVolumeClaim that is to hold the study's folder")
    if accelerator.startswith("tpu"):
        needed("topology", topology, "how the chips of the slice are joined, as in 2x4")
        if nodes > 1 and not work.splits_batches():
            raise UserError(
                f"--nodes: {nodes} hosts of a TPU slice compute only as a whole; give --config.parallel.mode=data, or 1"
            )
    members = {f"{program.id}.json": json.dumps(work.members(program), indent=1) for program in work.programs}
    if (size := sum(map(len, members.values()))) > LARGEST:
        raise UserError(f"--to=jobset: {size:,} bytes of members are more than a ConfigMap holds; split the sweep")
    place = {"namespace": namespace} if namespace else {}
    plans = {"name": f"{cloud_name(work.name)}-programs", **place}
    folder = str(PurePosixPath(root) / work.folder.as_posix())
    volumes = {"study": ({"persistentVolumeClaim": {"claimName": claim}}, folder)}
    volumes["programs"] = ({"configMap": {"name": plans["name"]}}, PLANS)
    documents: list[dict] = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": plans, "data": members}]
    for program in work.programs:
        name = f"{cloud_name(work.name, 20)}-{program.id.rpartition('_')[2]}"
        container = {
            "name": "train",
            "image": image,
            "workingDir": root,
            "command": trainer("python", f"{PLANS}/{program.id}.json"),
            "env": [*_plain(work.environment()), *_processes(name, nodes, accelerator)],
            "resources": _resources(accelerator, chips),
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, (_, path) in volumes.items()],
        }
        container = {field: value for field, value in container.items() if value}
        pod = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 120,  # to save
            "nodeSelector": _selector(accelerator, topology),
            "containers": [container],
            "volumes": [{"name": volume, **source} for volume, (source, _) in volumes.items()],
        }
        metadata = {"name": name, **place, "labels": {"study": cloud_name(work.name)}}
        documents.append(_jobset(metadata, program, pod, nodes, restarts))
    return f"# {len(work.programs)} programs, a JobSet each: kubectl apply -f THIS_FILE\n{_dump(*documents)}"


def _jobset(metadata: dict, program: Program, pod: dict, nodes: int, restarts: int) -> dict[str, Any]:
    """All hosts start anew when one is lost, and go on from the last checkpoint; not when the program itself failed."""
    itself = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}}
    job = {
        "parallelism": nodes,
        "completions": nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [itself]},
        "template": {"metadata": {"annotations": {"program": program.id}}, "spec": pod},
    }
    rule = {"name": "program", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "failurePolicy": {"maxRestarts": restarts, "rules": [rule]},
            "replicatedJobs": [{"name": "host", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _processes(name: str, nodes: int, accelerator: str) -> list[dict[str, Any]]:
    """How the processes of a program find each other; on a TPU slice they know."""
    if nodes == 1 or accelerator.startswith("tpu"):
        return []
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    told = {"JAX_COORDINATOR_ADDRESS": f"{name}-host-0-0.{name}:{PORT}", "JAX_NUM_PROCESSES": str(nodes)}
    return [*_plain(told), {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}}]


def _plain(environment: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in environment.items()]


def _resources(accelerator: str, chips: int) -> dict[str, Any]:
    if not accelerator:
        return {}
    return {"limits": {"google.com/tpu" if accelerator.startswith("tpu") else "nvidia.com/gpu": chips}}


def _selector(accelerator: str, topology: str) -> dict[str, str]:
    """The nodes to take, by the labels that GKE gives them."""
    if accelerator.startswith("tpu"):
        return {"cloud.google.com/gke-tpu-accelerator": accelerator, "cloud.google.com/gke-tpu-topology": topology}
    return {"cloud.google.com/gke-accelerator": accelerator} if accelerator else {}


def skypilot(work: Work, *, bucket: str = "", accelerator: str = "", nodes: int = 1, spot: bool = False) -> str:
    """A task of which PROGRAM says what it trains, with the command that launches it once a program."""
    needed("bucket", bucket, "the URL of the storage that is to hold the study's folder, as in gs://NAME")
    extra = "tpu" if accelerator.startswith("tpu") else "cuda" if accelerator else ""
    if work.folder.is_absolute() or ".." in work.folder.parts:
        raise UserError(
            f"--workdir: {str(work.folder)!r} lies outside of what SkyPilot copies to a node, where the bucket takes "
            "its place; give a folder in the repository"
        )
    folder = shlex.quote(str(work.folder))
    run = [
        f"mkdir -p {shlex.quote(str(work.folder.parent))}",
        f"[ -L {folder} ] || rm -rf {folder}  # the copy of a study that came with the repository",
        f'ln -sfn "$HOME/study" {folder}',
        *([_SKY_PROCESSES] if nodes > 1 and extra != "tpu" else []),
        f'{shlex.join(trainer("python", ""))}"$HOME/programs/$PROGRAM.json"',
    ]
    task = {
        "name": cloud_name(work.name),
        "workdir": ".",
        "num_nodes": nodes,
        "resources": {
            **({"accelerators": accelerator} if accelerator else {}),
            "use_spot": spot,
            "job_recovery": {"max_restarts_on_errors": 0},
        },
        "envs": {"PROGRAM": work.programs[0].id, **work.environment()},
        "file_mounts": {
            "~/programs": str(work.folder / "programs"),
            "~/study": {"source": bucket, "mode": "MOUNT"},
        },
        "setup": f"pip install -q -c constraints.txt -e '.{f'[{extra}]' if extra else ''}'\n",
        "run": "".join(f"{line}\n" for line in run),
    }
    names = " ".join(program.id for program in work.programs)
    head = (
        f"# {len(work.programs)} programs, a managed job each. From the repository's root:\n"
        f"# for program in {names}; do sky jobs launch -y -d -n $program --env PROGRAM=$program THIS_FILE; done\n"
    )
    return head + _dump(task)


_SKY_PROCESSES = (
    f'export JAX_COORDINATOR_ADDRESS="$(echo "$SKYPILOT_NODE_IPS" | head -n 1):{PORT}" '
    'JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES" JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"'
)


def wandb(work: Work) -> str:
    """The file of a W&B sweep over the same points. Raises UserError where they are no grid."""
    columns, section = as_grid(work.points), work.programs[0].runs[0].config.wandb
    of_config = [f"--config={work.file}", *(f"--config.{field}={value}" for field, value in work.overrides)]
    agent = ["launch.wandb_agent", "ENTITY/PROJECT/ID", *of_config, f"--workdir={work.folder}"]
    sweep = {
        "name": work.name,
        **{field: section[field] for field in ("project", "entity") if section[field]},
        "program": "experiments/train.py",
        "method": "grid",
        "parameters": {field: {"values": [_value(value) for value in values]} for field, values in columns.items()},
    }
    return (
        "# wandb sweep THIS_FILE, then on each machine, in place of wandb agent:\n"
        f"# python -m {shlex.join(agent)}\n{_dump(sweep)}"
    )


def as_grid(points: Sweep) -> dict[str, list]:
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


def _value(value: Any) -> Any:
    """A value as YAML has it; what it has not, as on the command line."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)
