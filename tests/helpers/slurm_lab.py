"""Studies on a SLURM cluster: their configs, how they are launched, and what they leave."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from helpers.slurm_cluster import Cluster, wait_for
from vae_jax.files import read_records
from vae_jax.launch.slurm_queue import submitted_jobs
from vae_jax.sweeps import study
from vae_jax.training.writers import TIMINGS

CONFIG = """
import os, time
from vae_jax.configs import digits
from vae_jax.sweeps.algebra import chain, grid, product

if "SLURM_JOB_ID" in os.environ:  # there is time to disturb a run, in which it works little
    from vae_jax.training import loop
    spans = getattr(loop, "spans", loop.dispatches)
    def slow_dispatches(*arguments):
        for span in spans(*arguments):
            time.sleep(0.1)
            yield span
    loop.spans, loop.dispatches = spans, slow_dispatches

def get_config():
    config = digits.get_config()
    config.latent_dim = 2
    config.log.pictures = False
    config.train.steps = 240
    config.train.dispatch = config.log.every = 2
    config.evaluation.every = config.checkpoint.every = 60
    config.parallel.devices = 1
    return config

def sweep():
    return {sweep}
"""

SPACE = """
from two import get_config
from vae_jax.sweeps.algebra import log_uniform

def search():
    return {"variant.beta": log_uniform(0.1, 10.0)}
"""

TWO = 'grid(**{"net.hidden": [(6,), (8,)], "seed": range(2)})'

TWO_AND_A_CRASH = 'chain(grid(**{"net.hidden": [(6,)], "seed": range(2)}), [{"train.batch_size": 4096}], ' + TWO + ")"
"""The batch is larger than the data, which only the program itself finds out."""

ONE = 'grid(**{"net.hidden": [(8,)], "seed": range(2)})'

SPLIT = '[{"net.hidden": (8,), "parallel.mode": "data", "train.steps": 120}]'
"""A run whose batches are split over hosts."""

FAKE = '''
"""Stands in for vae-jax population: counts until it is told to end by a file beside its study."""

import json, os, pathlib, signal, sys, time

(member,) = json.loads(pathlib.Path(sys.argv[1].partition("=")[2]).read_text())
folder = pathlib.Path(member["workdir"])
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
folder.mkdir(exist_ok=True)
with (folder / "starts").open("a") as file:
    names = ("CUDA_VISIBLE_DEVICES", "SLURM_CPUS_PER_TASK", "XLA_FLAGS", "WANDB_RUN_GROUP")
    file.write(json.dumps([os.environ.get(name) for name in names]) + chr(10))
while not folder.parent.with_name("end").exists():
    time.sleep(0.05)
(folder / "evaluation.json").write_text(json.dumps({"loss": 1.0, "step": 120}))
'''

LAUNCHER = """
import sys
from vae_jax import cli
from vae_jax.config.command_line import run_program
from vae_jax.launch import slurm
slurm.REFRESH_SECONDS, slurm.QUEUE_SECONDS, slurm.VANISHED_SECONDS = 0.2, 0.5, 1.0
{more}
run_program(cli.slurm)
"""


class Results(NamedTuple):
    """What a run has left, without times."""

    evaluation: dict
    records: list[dict]


class Lab:
    """A cluster, a folder, and how programs are launched there."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.folder, self.cluster = folder, cluster
        self.environment = cluster.environment | {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder / "xla")),
            "XLA_FLAGS": " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag),
        }
        (folder / "fake.py").write_text(FAKE)
        for name, points in {"two": TWO, "crash": TWO_AND_A_CRASH, "one": ONE, "split": SPLIT}.items():
            (folder / f"{name}.py").write_text(CONFIG.replace("{sweep}", points))
        fake_command = f"slurm.COMMAND = [sys.executable, {str(folder / 'fake.py')!r}]"
        for name, more in {"launcher": "", "faker": fake_command}.items():
            (folder / f"{name}.py").write_text(LAUNCHER.replace("{more}", more))
        (folder / "searcher.py").write_text(LAUNCHER.replace("{more}", "").replace("cli.slurm", "cli.search"))
        (folder / "space.py").write_text(SPACE)

    def start(self, study_name: str, config: str, *words: str, program: str = "launcher.py") -> subprocess.Popen:
        """A launch of the study on the cluster, which goes on."""
        command = [sys.executable, program, f"--config={config}.py", f"--workdir={study_name}"]
        return subprocess.Popen(
            [*command, "--cpus=2", "--memory=0.5", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def launch(self, expected: int, *arguments: str, **options: str) -> str:
        """What a launch prints that ends with the status `expected`."""
        process = self.start(*arguments, **options)
        output = process.communicate(timeout=400)[0]
        assert process.returncode == expected, output + self.logs()
        return output

    def logs(self) -> str:
        """The ends of all logs, for whoever looks for what went wrong."""
        files = [*self.folder.glob("*/programs/*.log"), *self.folder.glob("*/programs/slurm/*.out")]
        return "".join(f"\n{file}\n{file.read_text()[-1500:]}" for file in files)

    def jobs(self, study_name: str) -> dict[str, str]:
        """The SLURM job of each program of a study."""
        return submitted_jobs(self.folder / study_name)

    def step(self, study_name: str, program: str = "") -> int:
        """The step that all runs of a program have reached, or all of the study."""
        folder = self.folder / study_name
        runs = [run for run in study.read_plan(folder) if program in ("", run.program)]
        return min(study.last_step(folder / run.id) for run in runs)

    def wait_for_step(self, study_name: str, step: int = 20) -> dict[str, str]:
        """Waits until all runs of a study have so many steps; its programs and their SLURM jobs."""
        wait_for(lambda: self.step(study_name) >= step, 300, self.logs)
        return self.jobs(study_name)

    def state(self, job: str) -> str:
        """The state of a job in the queue; empty where it is not there."""
        lines = self.cluster.call("squeue", "-h", "-r", "-o", "%i %T").split("\n")
        return dict(line.split() for line in lines if line).get(job, "")

    def results(self, study_name: str) -> dict[str, Results]:
        """The results of each run of a study that has begun."""
        folders = [self.folder / study_name / run.id for run in study.read_plan(self.folder / study_name)]
        return {folder.name: _results(folder) for folder in folders if (folder / "metrics.jsonl").exists()}

    def log(self, study_name: str, program: str) -> str:
        """What a program has printed."""
        return (self.folder / study_name / "programs" / f"{program}.log").read_text()

    def locally(self, config: str) -> dict[str, Results]:
        """The results of a study that is run here, which nothing disturbs."""
        command = [sys.executable, "-m", "vae_jax", "sweep", f"--config={config}.py", f"--workdir=local_{config}"]
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=400
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return self.results(f"local_{config}")


def _results(folder: Path) -> Results:
    records = [
        {name: value for name, value in record.items() if name not in TIMINGS}
        for record in read_records(folder / "metrics.jsonl")
    ]
    return Results(study.read_json(folder / "evaluation.json"), records)
