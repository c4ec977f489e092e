"""A SLURM cluster on this machine: munged, slurmctld and four virtual nodes with two fake GPUs each, all in one folder.

Everything is started here and ended here, by its process id; every client has a limit.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NODES = ("n1", "n2", "n3", "n4")

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

CONFIG = """
ClusterName=ci
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/sock,cred_expire=5
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
GresTypes=gpu
{nodes}
PartitionName=main Nodes=n[1-4] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 State=UP
PartitionName=high Nodes=n[1-4] PriorityTier=10 PreemptMode=OFF State=UP
"""

NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=2000 Gres=gpu:2"


def missing() -> str:
    """The programs that a cluster needs and this machine does not have, in words; empty where all are there."""
    absent = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    return f"needs {', '.join(absent)} (apt install slurm-wlm munge)" if absent else ""


class Cluster:
    """A running cluster: `environment` is what its clients need, `folder` where its state and logs are."""

    def __init__(self, folder: Path):
        self.folder, self.daemons = folder, {}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": PATH,
        }

    def call(self, *words, seconds=30) -> str:
        """What a client of SLURM prints."""
        ran = subprocess.run(
            list(map(str, words)), env=self.environment, capture_output=True, text=True, timeout=seconds
        )
        assert ran.returncode == 0, f"{words}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def daemon(self, name, *words):
        """Starts a daemon that stays in the foreground."""
        with (self.folder / "log" / f"{name}.out").open("a") as output:
            self.daemons[name] = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def start_node(self, name):
        """Starts the daemon of a node."""
        self.daemon(name, "slurmd", "-D", "-N", name, "-f", self.environment["SLURM_CONF"])

    def kill_node(self, name):
        """Ends all that runs on a node at once, as when its power fails, and tells SLURM."""
        slurmd = self.daemons.pop(name)
        slurmd.kill()
        slurmd.wait()
        for pid in self.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.call("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=test")

    def processes(self, name="") -> list[int]:
        """What runs for jobs on a node, or on all: first those that watch over them, known by the log they write to."""
        watching, working = [], []
        log, conf = f"{self.folder}/log/slurmd-{name}", f"SLURM_CONF={self.folder}/slurm.conf"
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                if any(os.readlink(file).startswith(log) for file in (folder / "fd").iterdir()):
                    watching.append(int(folder.name))
                elif conf in words and any(word.startswith(f"SLURMD_NODENAME={name}") for word in words):
                    working.append(int(folder.name))
        return watching + working

    def stop(self):
        """Ends every daemon and what is left of their jobs."""
        for daemon in self.daemons.values():
            daemon.terminate()
        limit = time.monotonic() + 3
        for daemon in self.daemons.values():
            try:
                daemon.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:  # one that never registered ignores it
                daemon.kill()
                daemon.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def cluster():
    """A cluster that is ready, in a folder of its own that goes with it."""
    # Not pytest's folder: munged wants a way to its socket that is open to all.
    with tempfile.TemporaryDirectory(prefix="slurm_") as name:
        made = Cluster(Path(name))
        Path(name).chmod(0o711)
        try:
            start(made)
            yield made
        finally:
            made.stop()


def start(made: Cluster):
    """Writes the configuration and starts the daemons; returns when every node is idle."""
    folder, host = made.folder, socket.gethostname().partition(".")[0]
    for part in ("munge", "state", "log", "spool", *(f"spool/{name}" for name in NODES)):
        (folder / part).mkdir()
        (folder / part).chmod(0o711)
    port, *ports = free_ports(1 + len(NODES))
    nodes = [NODE.format(name=name, host=host, port=other) for name, other in zip(NODES, ports, strict=True)]
    text = CONFIG.format(host=host, user=getpass.getuser(), folder=folder, port=port, nodes="\n".join(nodes))
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("".join(f"NodeName={name} Name=gpu File=/dev/tty[0-1]\n" for name in NODES))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    made.daemon(
        "munged",
        "munged",
        "--foreground",
        f"--key-file={key}",
        f"--socket={folder}/munge/sock",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/log/munged.log",
        f"--seed-file={folder}/munged.seed",
    )
    wait_for((folder / "munge/sock").exists, 60, lambda: (folder / "log/munged.out").read_text())
    made.daemon("slurmctld", "slurmctld", "-D", "-c", "-f", str(folder / "slurm.conf"))
    for name in NODES:
        made.start_node(name)
    wait_for(lambda: idle(made) == len(NODES), 120, lambda: (folder / "log/slurmctld.log").read_text()[-3000:])


def idle(made: Cluster) -> int:
    """How many nodes are idle."""
    ran = subprocess.run(
        ["sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D"],
        env=made.environment,
        capture_output=True,
        text=True,
        timeout=15,
    )
    return int(ran.stdout.strip() or 0)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def wait_for(condition, seconds, details=lambda: ""):
    """What `condition` gives once it is true; AssertionError with `details` after so many seconds."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, details()
        time.sleep(0.05)
    return value


if __name__ == "__main__":  # a shell with a cluster to try things in
    with cluster() as running:
        sys.exit(subprocess.run([os.environ.get("SHELL", "bash"), *sys.argv[1:]], env=running.environment).returncode)
