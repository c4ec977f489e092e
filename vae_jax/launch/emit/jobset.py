"""JobSets of Kubernetes, one a program, a process a host.

--image=IMAGE --claim=VOLUME [--accelerator=NAME --topology=AxB (tpu) --chips=N (a host) --nodes=N
--root=FOLDER (of the repository in the image) --namespace=NAME --restarts=N]
"""

import dataclasses
import json
from pathlib import PurePosixPath
from typing import Any

from vae_jax.errors import UserError
from vae_jax.launch.emit import _yaml
from vae_jax.launch.emit._study_plan import PORT, StudyPlan, cloud_name, require, training_command
from vae_jax.phrases import plural
from vae_jax.sweeps.groups import RunGroup

MEMBERS_FOLDER = "/programs"
"""Where a pod finds the lists of members."""

CONFIG_MAP_BYTES = 1_000_000
"""What a ConfigMap may hold, or nearly so."""

GRACE_SECONDS = 120
"""How long a pod has to save."""

INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
"""The field of a pod that says which host of its job it is."""

USER_ERRORS = [1, 2]
"""Exit statuses of a program that failed by itself."""


def emit(
    plan: StudyPlan,
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
    require("image", image, "the container image that has the repository and what it needs")
    require("claim", claim, "the PersistentVolumeClaim that is to hold the study's folder")
    hosts = Hosts(accelerator, topology, chips, nodes)
    hosts.check(plan)
    place = {"namespace": namespace} if namespace else {}
    config_map = {"name": f"{cloud_name(plan.name)}-programs", **place}
    volumes = [
        Volume(
            "study", str(PurePosixPath(root) / plan.folder.as_posix()), "persistentVolumeClaim", {"claimName": claim}
        ),
        Volume("programs", MEMBERS_FOLDER, "configMap", {"name": config_map["name"]}),
    ]
    jobsets = []
    for group in plan.groups:
        name = f"{cloud_name(plan.name, 20)}-{group.id.rpartition('_')[2]}"
        metadata = {"name": name, **place, "labels": {"study": cloud_name(plan.name)}}
        pod = _pod(_container(name, plan, group, image, root, hosts, volumes), hosts, volumes)
        jobsets.append(_jobset(metadata, group.id, pod, nodes, restarts))
    members = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": config_map, "data": _members(plan)}
    head = f"# {plural(len(plan.groups), 'program')}, a JobSet each: kubectl apply -f THIS_FILE\n"
    return head + _yaml.dump(members, *jobsets)


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume of a pod: its name, where it is mounted, and where it comes from."""

    name: str
    path: str
    kind: str
    source: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The hosts of one program: `nodes` of them, each with so many chips of an accelerator."""

    accelerator: str
    topology: str
    chips: int
    nodes: int

    @property
    def on_tpu(self) -> bool:
        """Whether they are of a TPU slice."""
        return self.accelerator.startswith("tpu")

    def check(self, plan: StudyPlan) -> None:
        """Raises UserError where a TPU slice cannot run the study."""
        if not self.on_tpu:
            return
        require("topology", self.topology, "how the chips of the slice are joined, as in 2x4")
        if self.nodes > 1 and not plan.splits_batches():
            raise UserError(
                f"--nodes: {self.nodes} hosts of a TPU slice compute only as a whole; give "
                "--config.parallel.mode=data, or 1"
            )

    def environment(self, name: str) -> list[dict[str, Any]]:
        """How the processes of the JobSet `name` find each other; on a TPU slice they know."""
        if self.nodes == 1 or self.on_tpu:
            return []
        return [
            *_variables({"JAX_COORDINATOR_ADDRESS": f"{name}-host-0-0.{name}:{PORT}"}),
            *_variables({"JAX_NUM_PROCESSES": str(self.nodes)}),
            {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}},
        ]

    def resources(self) -> dict[str, Any]:
        """What a container asks for."""
        resource = "google.com/tpu" if self.on_tpu else "nvidia.com/gpu"
        return {"limits": {resource: self.chips}} if self.accelerator else {}

    def node_selector(self) -> dict[str, str]:
        """The nodes to take, by the labels that GKE gives them."""
        if self.on_tpu:
            return {
                "cloud.google.com/gke-tpu-accelerator": self.accelerator,
                "cloud.google.com/gke-tpu-topology": self.topology,
            }
        return {"cloud.google.com/gke-accelerator": self.accelerator} if self.accelerator else {}


def _members(plan: StudyPlan) -> dict[str, str]:
    """The list of members of each program, by its file name."""
    members = {f"{group.id}.json": json.dumps(plan.members(group), indent=1) for group in plan.groups}
    if (size := sum(map(len, members.values()))) > CONFIG_MAP_BYTES:
        raise UserError(f"--to=jobset: {size:,} bytes of members are more than a ConfigMap holds; split the sweep")
    return members


def _container(
    name: str, plan: StudyPlan, group: RunGroup, image: str, root: str, hosts: Hosts, volumes: list[Volume]
) -> dict[str, Any]:
    container = {
        "name": "train",
        "image": image,
        "workingDir": root,
        "command": [_literal(word) for word in training_command("python", f"{MEMBERS_FOLDER}/{group.id}.json")],
        "env": [*_variables(plan.environment()), *hosts.environment(name)],
        "resources": hosts.resources(),
        "volumeMounts": [{"name": volume.name, "mountPath": volume.path} for volume in volumes],
    }
    return {field: value for field, value in container.items() if value}


def _pod(container: dict[str, Any], hosts: Hosts, volumes: list[Volume]) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": hosts.node_selector(),
        "containers": [container],
        "volumes": [{"name": volume.name, volume.kind: volume.source} for volume in volumes],
    }


def _jobset(metadata: dict, program: str, pod: dict[str, Any], nodes: int, restarts: int) -> dict[str, Any]:
    """All hosts start anew when one is lost, and go on from the last checkpoint; not when the program itself failed."""
    failed_by_itself = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": USER_ERRORS}}
    job = {
        "parallelism": nodes,
        "completions": nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [failed_by_itself]},
        "template": {"metadata": {"annotations": {"program": program}}, "spec": pod},
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


def _variables(environment: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": _literal(value)} for name, value in environment.items()]


def _literal(text: str) -> str:
    """Text in which Kubernetes finds no $(VARIABLE)."""
    return text.replace("$", "$$")
