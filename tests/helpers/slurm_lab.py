"""Studies on a SLURM cluster: their configs, how they are launched, and what they leave."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.slurm_cluster import wait_for
from vae_jax.sweeps import study
from vae_jax.training.writers import TIMINGS, read_metrics

ROOT = Path(__file__).parents[2]

CONFIG = """
from configs import digits
from launch.sweep import chain, grid, product

def get_config():
    config = digits.get_config()
    config.latent_dim = 2
    config.train.steps = 1800
    config.train.dispatch = config.log.every = 2
    config.evaluation.every = config.checkpoint.every = 300
    config.parallel.devices = 1
    return config

def sweep():
    return {sweep}
"""

TWO = 'grid(**{"net.hidden": [(6,), (8,)], "seed": range(2)})'

TWO_AND_A_CRASH = 'chain(grid(**{"net.hidden": [(6,)], "seed": range(2)}), [{"train.batch_size": 4096}], ' + TWO + ")"
"""The batch is larger than the data, which only the program itself finds out."""

ONE = 'grid(**{"net.hidden": [(8,)], "seed": range(2)})'

SPLIT = '[{"net.hidden": (8,), "parallel.mode": "data", "train.steps": 400}]'
"""A run whose batches are split over hosts."""

FAKE = '''
"""Stands in for experiments.population: counts until it is told to end by a file beside its study."""

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
(folder / "evaluation.json").write_text(json.dumps({"loss": 1.0, "step": 400}))
'''


class Lab:
    """A cluster, a folder, and how programs are launched there."""

    def __init__(self, folder, cluster):
        self.folder, self.cluster = folder, cluster
        self.environment = cluster.environment | {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder / "xla")),
            "XLA_FLAGS": "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true",
        }
        (folder / "fake.py").write_text(FAKE)
        for name, points in {"two": TWO, "crash": TWO_AND_A_CRASH, "one": ONE, "split": SPLIT}.items():
            (folder / f"{name}.py").write_text(CONFIG.replace("{sweep}", points))
        fakes = f"slurm.COMMAND = [sys.executable, {str(folder / 'fake.py')!r}]"
        for name, more in {"launcher": "", "faker": fakes}.items():
            (folder / f"{name}.py").write_text(
                "import sys\nfrom experiments import settings\nfrom launch import slurm\n"
                f"slurm.REFRESH, slurm.ASK, slurm.GONE = 0.2, 0.5, 1.0\n{more}\nsettings.start(slurm.main, '')\n"
            )

    def start(self, name, config, *words, program="launcher.py"):
        command = [sys.executable, program, f"--config={config}.py", f"--workdir={name}", "--cpus=2", "--memory=0.5"]
        return subprocess.Popen(
            [*command, *words], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def launch(self, expected, *arguments, **more):
        process = self.start(*arguments, **more)
        output = process.communicate(timeout=400)[0]
        assert process.returncode == expected, output + self.logs()
        return output

    def logs(self):
        files = [*self.folder.glob("*/programs/*.log"), *self.folder.glob("*/programs/slurm/*.out")]
        return "".join(f"\n{file}\n{file.read_text()[-1500:]}" for file in files)

    def numbers(self, name):
        """The SLURM job of each program of a study."""
        return study.submitted(self.folder / name)

    def begun(self, name, step=20):
        """Waits until all runs of a study have so many steps; its programs and their SLURM jobs."""
        planned = study.read_plan(self.folder / name)
        last = lambda: min(study.last_step(self.folder / name / run.id) for run in planned)  # noqa: E731
        wait_for(lambda: last() >= step, 300, self.logs)
        return self.numbers(name)

    def state(self, number):
        """How a job stands in the queue; empty where it is not there."""
        found = self.cluster.call("squeue", "-h", "-r", "-o", "%i %T").split("\n")
        return dict(line.split() for line in found if line).get(number, "")

    def results(self, name):
        """The evaluation and the records of each run of a study, without times."""
        folders = [self.folder / name / run.id for run in study.read_plan(self.folder / name)]
        keep = lambda record: {key: value for key, value in record.items() if key not in TIMINGS}  # noqa: E731
        return {
            folder.name: (
                study.read(folder / "evaluation.json"),
                list(map(keep, read_metrics(folder / "metrics.jsonl"))),
            )
            for folder in folders
            if (folder / "metrics.jsonl").exists()
        }

    def log(self, name, program):
        return (self.folder / name / "programs" / f"{program}.log").read_text()

    def locally(self, config):
        """The results of a study that launch.local runs here, which nothing disturbs."""
        words = [sys.executable, "-m", "launch.local", f"--config={config}.py", f"--workdir=local_{config}"]
        found = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=400
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return self.results(f"local_{config}")
