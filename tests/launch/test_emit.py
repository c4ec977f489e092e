"""Plans as text for other places: run where that can be done here, and looked through where it cannot."""

import contextlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import slurm_cluster

from vae_jax import cli
from vae_jax.errors import UserError
from vae_jax.launch import emit
from vae_jax.launch.emit import _yaml
from vae_jax.launch.emit._study_plan import cloud_name, operand
from vae_jax.sweeps import study

CONFIG = """
from vae_jax.configs import digits
from vae_jax.sweeps.algebra import grid, zipped

def get_config():
    config = digits.get_config()
    config.parallel.devices = 1
    config.train.steps = 20
    config.train.dispatch = config.log.every = 10
    config.evaluation.every = config.checkpoint.every = 20
    config.latent_dim = 2
    config.log.pictures = False
    return config

def sweep():
    return grid(**{"net.hidden": [(8,), (6,)], "seed": range(2)})
"""

STUDY = "it's a study; $HOME"
"""A folder that a shell would not read as one word unless it is quoted."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a config, which is the current one."""
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def emitted(capsys, to, *words, workdir=STUDY):
    """The text for a place."""
    assert cli.emit([f"--to={to}", "--config=config.py", f"--workdir={workdir}", *words]) == 0
    return capsys.readouterr().out


def refused(match, to, *words):
    with pytest.raises(UserError, match=match):
        cli.emit([f"--to={to}", "--config=config.py", "--workdir=study", *words])
    assert not Path("study").exists()


def programs(folder=STUDY):
    return list(dict.fromkeys(run.program for run in study.read_plan(Path(folder))))


def fake(folder, name, code):
    """A program of this name in `folder`, for PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\n{code}")
    (folder / name).chmod(0o755)


def shell(text, **variables):
    """Runs text as bash does a script; what it prints."""
    environment = os.environ | {"XLA_FLAGS": ""} | variables
    return subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, timeout=300)


RECORD = """
import json, os, subprocess, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + chr(10))
"""
"""A fake program that keeps its command line in the file CALLS."""


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.slow  # more than a minute; test_local has real programs in the full run
def test_commands_end_with_the_same_numbers_as_a_local_sweep(place, capsys):
    Path("config.py").write_text(CONFIG.replace("range(2)", "[1]"))
    text = emitted(capsys, "commands", f"--python={sys.executable}")
    assert len(text.splitlines()) == 2
    first = shell(text.splitlines()[0])
    assert first.returncode == 0, first.stderr
    rest = emitted(capsys, "commands", f"--python={sys.executable}")
    assert rest.splitlines() == text.splitlines()[1:]  # what has ended is left out
    second = shell(rest)
    assert second.returncode == 0, second.stderr
    assert emitted(capsys, "commands") == ""

    local = shell(shlex.join([sys.executable, "-m", "vae_jax", "sweep", "--config=config.py", "--workdir=local"]))
    assert local.returncode == 0, local.stdout
    assert [run._replace(words=[]) for run in study.read_plan(Path(STUDY))] == [
        run._replace(words=[]) for run in study.read_plan(Path("local"))
    ]
    for run in study.read_plan(Path("local")):
        emitted_run, local_run = (
            json.loads(Path(root, run.id, "evaluation.json").read_text()) for root in (STUDY, "local")
        )
        assert emitted_run.keys() == local_run.keys()
        for name, value in emitted_run.items():
            np.testing.assert_allclose(value, local_run[name], rtol=1e-5, err_msg=name)


def test_commands_name_the_members_of_each_program_to_a_shell(place, capsys):
    fake(place, "python", RECORD)
    text = emitted(capsys, "commands", f"--python={place / 'python'}")
    assert len(text.splitlines()) == 2
    ran = shell(text, CALLS=str(place / "calls"))
    assert ran.returncode == 0, ran.stderr
    calls = [json.loads(line) for line in (place / "calls").read_text().splitlines()]
    files = [f"--members={STUDY}/programs/{program}.json" for program in programs()]
    assert calls == [["python", "-m", "vae_jax", "population", file] for file in files]
    for run in study.read_plan(Path(STUDY)):
        if run.program == programs()[0]:
            Path(STUDY, run.id).mkdir()
            Path(STUDY, run.id, "evaluation.json").write_text('{"loss": 1.0, "step": 20}')
    remaining = emitted(capsys, "commands", f"--python={place / 'python'}")
    assert remaining.splitlines() == text.splitlines()[1:]  # what has ended is left out


def test_the_array_script_trains_the_program_of_its_element_and_asks_to_come_again(place, capsys):
    words = ["--time=01:00:00", "--gpus=1", "--cpus=2", "--memory=4", "--max_parallel=3"]
    script = emitted(capsys, "sbatch", *words, f"--python={place / 'python'}", "--config.wandb.mode=offline")
    options = [shlex.split(line)[1] for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"--array=0-1%3", "--signal=TERM@120", "--requeue", f"--job-name={STUDY}"} <= set(options)
    assert {"--time=01:00:00", "--gpus-per-node=1", "--cpus-per-task=2", "--mem=4G", "--nodes=1"} <= set(options)
    assert not [option for option in options if option.startswith("--partition")]
    fake(place / "bin", "srun", RECORD + 'assert os.environ["WANDB_RUN_GROUP"]; sys.exit(int(os.environ["STATUS"]))')
    fake(place / "bin", "scontrol", RECORD + 'print("JobId=7 JobState=RUNNING Reason=None ")')
    fake(place / "bin", "sleep", "")
    variables = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "SLURM_ARRAY_JOB_ID": "7",
        "CALLS": str(place / "calls"),
    }
    for status, restarts, requeued in (("143", "0", True), ("143", "100", False), ("1", "0", False)):
        ran = shell(script, STATUS=status, SLURM_RESTART_COUNT=restarts, SLURM_ARRAY_TASK_ID="1", **variables)
        assert ran.returncode == int(status), ran.stderr
        (name, *srun), *others = [json.loads(line) for line in (place / "calls").read_text().splitlines()]
        assert name == "srun"
        assert "--cpus-per-task=2" in srun
        assert srun[-1] == f"--members={STUDY}/programs/{programs()[1]}.json"
        assert (["scontrol", "requeue", "7_1"] in others) == requeued
        (place / "calls").unlink()


def test_the_manual_has_every_place_and_its_words(capsys):
    with pytest.raises(SystemExit):
        cli.emit(["--help"])
    text = capsys.readouterr().out
    for place, module in emit.places().items():
        assert f"    {place:<11}{module.__doc__.splitlines()[0].removesuffix('.')}\n" in text
        for word in emit.words_of(module):
            assert f"--{word}" in text


def test_runs_in_wandb_are_a_group(place, capsys):
    assert "WANDB_RUN_GROUP" not in emitted(capsys, "commands")
    words = shlex.split(emitted(capsys, "commands", "--config.wandb.mode=offline").splitlines()[0])
    assert words[:2] == ["env", f"WANDB_RUN_GROUP={STUDY}"]
    assert "WANDB_RUN_GROUP" not in emitted(
        capsys, "commands", "--config.wandb.mode=offline", "--config.wandb.group=mine"
    )


def test_the_members_are_those_of_a_local_sweep(place, capsys):
    from vae_jax.training.population import read_members

    emitted(capsys, "commands", "--config.variant.beta=2")
    for program in programs():
        members = read_members(Path(STUDY, "programs", f"{program}.json"))
        assert all(folder.name.endswith(study.run_suffix(config.to_dict())) for config, folder in members)
        assert {config.variant.beta for config, _ in members} == {2.0}


def test_output_goes_to_a_file(place, capsys):
    text = emitted(capsys, "commands")
    assert emitted(capsys, "commands", "--output=lines.sh") == ""
    assert (place / "lines.sh").read_text() == text
    with pytest.raises(UserError, match="--output: 'no/such/folder' cannot be written"):
        cli.emit(["--to=commands", "--config=config.py", "--workdir=other", "--output=no/such/folder"])
    assert not Path("other").exists()


# --- SLURM ----------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing())
def test_slurm_accepts_the_array_and_a_stopped_program_comes_again(place, capsys):
    stopped_once = """
import os, sys
came = f"came_{os.environ['SLURM_ARRAY_TASK_ID']}"
with open(came, "a") as file:
    file.write(sys.argv[-1] + chr(10))
sys.exit(143 if came == "came_1" and len(open(came).readlines()) == 1 else 0)
"""
    fake(place, "python", stopped_once)
    words = ["--partition=main", "--time=01:00:00", "--gpus=1", "--cpus=1", "--memory=1", "--max_parallel=1"]
    emitted(capsys, "sbatch", *words, f"--python={place / 'python'}", "--output=job.sh")
    with slurm_cluster.cluster() as cluster:
        assert "to start at" in accepted(cluster, "job.sh")
        number = cluster.call("sbatch", "--parsable", "job.sh").strip()
        limit = time.monotonic() + 60
        while len(lines("came_1")) < 2 or cluster.call("squeue", "-h", "-j", number).strip():
            assert time.monotonic() < limit, cluster.call("squeue")
            time.sleep(0.2)
    first, second = (f"--members={STUDY}/programs/{program}.json" for program in programs())
    assert lines("came_0") == [first]  # it had ended: who comes again comes alone
    assert lines("came_1") == [second] * 2


def accepted(cluster, script):
    """What the real sbatch says of a script that it only tests."""
    ran = subprocess.run(
        ["sbatch", "--test-only", script], env=cluster.environment, capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def lines(file):
    with contextlib.suppress(FileNotFoundError):
        return Path(file).read_text().splitlines()
    return []


# --- Cloud TPU ------------------------------------------------------------------------------------

GCLOUD = (
    RECORD
    + """
if "describe" in sys.argv:
    print("ACTIVE")
if "--recurse" in sys.argv and os.environ.get("FAIL") == "scp":
    sys.exit(1)
for word in sys.argv:
    if word.startswith("--command=") and "population" in word:
        sys.exit(subprocess.run(["bash", "-c", word.removeprefix("--command=")], cwd="remote").returncode)
"""
)


@pytest.mark.full
def test_the_commands_for_a_tpu_slice_reach_its_shell_whole(place, capsys):
    words = ["--accelerator=v5litepod-8", "--zone=us-west4-a", "--spot", "--config.wandb.mode=offline"]
    assert cli.emit(["--to=gcloud", "--config=config.py", f"--workdir={STUDY}", *words]) == 0
    script, warned = capsys.readouterr()
    assert "a slice of several hosts needs --config.parallel.mode=data" in warned
    for name, code in (("gcloud", GCLOUD), ("git", RECORD), ("tar", RECORD)):
        fake(place / "bin", name, code)
    (place / "remote/vae_jax/.venv/bin").mkdir(parents=True)
    trains = RECORD + 'sys.exit(int("s0" in os.environ.get("FAIL", "") or os.environ["WANDB_RUN_GROUP"] == ""))'
    fake(place / "remote/vae_jax/.venv/bin", "python", trains)
    calls, path = place / "calls", f"{place / 'bin'}:{os.environ['PATH']}"
    done = shell(script, PATH=path, CALLS=str(calls))
    assert done.returncode == 0, done.stderr
    called = [json.loads(line) for line in calls.read_text().splitlines()]
    trained = [words for words in called if words[0] == "python"]
    files = [f"--members={STUDY}/programs/{program}.json" for program in programs()]
    assert trained == [["python", "-m", "vae_jax", "population", file, "--coordinator=auto"] for file in files]
    create = called[0]
    assert create[:5] == ["gcloud", "compute", "tpus", "queued-resources", "create"]
    assert {"--accelerator-type=v5litepod-8", "--zone=us-west4-a", "--spot"} <= set(create)
    assert "--runtime-version=v2-alpha-tpuv5-lite" in create
    ssh = [words for words in called if words[:5] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh"]]
    assert len(ssh) == 3
    assert all("--worker=all" in words and "--zone=us-west4-a" in words for words in ssh)
    assert ["tar", "-czf", "/tmp/study.tar.gz", STUDY] in called  # to go on with what is here
    ends = [words for words in called if words[0] == "python" or "--recurse" in words]
    assert [words[0] for words in ends] == ["python", "gcloud"] * 2  # fetched after each
    assert all(f"it-s-a-study-home:vae_jax/{STUDY}" in back for back in ends[1::2])
    for fault in ("s0", "scp"):
        calls.unlink()
        assert shell(script, PATH=path, CALLS=str(calls), FAIL=fault).returncode == 1
        assert len([line for line in calls.read_text().splitlines() if '"python"' in line]) == 2  # one stops no other


def test_a_slice_with_a_disk_that_all_hosts_mount_is_neither_warned_of_nor_copied_to(place, capsys):
    words = ["--accelerator=v5litepod-16", "--zone=us-west4-a", "--config.parallel.mode=data"]
    assert cli.emit(["--to=gcloud", "--config=config.py", f"--workdir={place / 'study'}", *words]) == 0
    script, warned = capsys.readouterr()
    assert not warned
    assert "study.tar.gz" not in script
    assert "--recurse" not in script


@pytest.mark.parametrize(
    ("folder", "name"),
    [("digits_Beta", "digits-beta"), ("2026-11", "study-2026-11"), ("_", "study"), ("a" * 62 + "_b", "a" * 62)],
)
def test_clouds_take_the_name_of_any_folder(folder, name):
    assert cloud_name(folder) == name


# --- Kubernetes -----------------------------------------------------------------------------------

LABEL = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    "words",
    [
        ["--accelerator=nvidia-l4", "--chips=4", "--restarts=3"],
        ["--accelerator=tpu-v5-lite-podslice", "--topology=2x4", "--config.parallel.mode=data"],
        [],
    ],
    ids=["gpu", "tpu", "cpu"],
)
def test_jobsets_have_a_process_on_each_host_that_finds_its_members(place, capsys, words):
    text = emitted(capsys, "jobset", "--image=lab/vae_jax", "--claim=disk", "--nodes=2", "--namespace=lab", *words)
    plans, *jobsets = yaml.safe_load_all(text)
    assert (plans["apiVersion"], plans["kind"]) == ("v1", "ConfigMap")
    written = {f"{name}.json": json.loads(Path(STUDY, "programs", f"{name}.json").read_text()) for name in programs()}
    assert {name: json.loads(members) for name, members in plans["data"].items()} == written
    assert len({jobset["metadata"]["name"] for jobset in jobsets}) == len(programs()) == 2
    for jobset, program in zip(jobsets, programs(), strict=True):
        assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
        assert jobset["metadata"]["namespace"] == plans["metadata"]["namespace"] == "lab"
        name = jobset["metadata"]["name"]
        assert jobset["spec"]["failurePolicy"]["maxRestarts"] == (3 if "--restarts=3" in words else 10)
        (group,) = jobset["spec"]["replicatedJobs"]
        assert LABEL.fullmatch(name)
        assert len(f"{name}-{group['name']}-0-0-abcde") <= 63  # what a pod is called
        job = group["template"]["spec"]
        assert (job["completionMode"], job["parallelism"], job["completions"]) == ("Indexed", 2, 2)
        pod = job["template"]["spec"]
        (container,) = pod["containers"]
        assert container["command"] == ["python", "-m", "vae_jax", "population", f"--members=/programs/{program}.json"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume.pop("name"): volume for volume in pod["volumes"]}
        assert mounts == {"study": f"/vae_jax/{STUDY}", "programs": "/programs"}
        assert container["workingDir"] == "/vae_jax"
        assert volumes["programs"] == {"configMap": {"name": plans["metadata"]["name"]}}
        assert volumes["study"] == {"persistentVolumeClaim": {"claimName": "disk"}}
        environment = {variable.pop("name"): variable for variable in container.get("env", ())}
        on_tpu = "--topology=2x4" in words
        assert environment.keys() == (
            set() if on_tpu else {"JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"}
        )
        if not on_tpu:
            assert environment["JAX_NUM_PROCESSES"]["value"] == "2"
            host = environment["JAX_COORDINATOR_ADDRESS"]["value"].partition(":")[0]
            assert host == f"{name}-{group['name']}-0-0.{name}"
        limits = container.get("resources", {}).get("limits", {})
        assert limits == ({"google.com/tpu": 1} if on_tpu else {"nvidia.com/gpu": 4} if words else {})


# --- SkyPilot -------------------------------------------------------------------------------------


def test_a_skypilot_task_trains_the_program_that_it_is_given(place, capsys):
    text = emitted(capsys, "skypilot", "--bucket=gs://lab/study", "--accelerator=L4:1", "--nodes=2", "--spot")
    task = yaml.safe_load(text)
    assert task.keys() == {
        "name",
        "workdir",
        "num_nodes",
        "resources",
        "envs",
        "file_mounts",
        "setup",
        "run",
    }
    assert task["resources"] == {
        "accelerators": "L4:1",
        "use_spot": True,
        "job_recovery": {"max_restarts_on_errors": 0},
    }
    assert task["file_mounts"]["~/programs"] == f"{STUDY}/programs"
    assert all(program in text.splitlines()[1] for program in programs())
    home = place / "home"
    (home / "study").mkdir(parents=True)
    fake(place / "bin", "python", RECORD + 'print(os.environ["JAX_COORDINATOR_ADDRESS"], os.environ["JAX_PROCESS_ID"])')
    nodes = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    (place / "node" / STUDY / "programs").mkdir(parents=True)  # it came with the repository
    ran = shell(
        f"cd node\n{task['run']}",
        PATH=f"{place / 'bin'}:{os.environ['PATH']}",
        HOME=str(home),
        CALLS=str(place / "calls"),
        PROGRAM=programs()[1],
        **nodes,
    )
    assert ran.stdout.split() == ["10.0.0.1:8476", "1"], ran.stderr
    called = json.loads((place / "calls").read_text())
    assert called == ["python", "-m", "vae_jax", "population", f"--members={home}/programs/{programs()[1]}.json"]
    assert (place / "node" / STUDY).resolve() == home / "study"


# --- W&B ------------------------------------------------------------------------------------------


def test_the_file_of_a_wandb_sweep_is_the_same_grid(place, capsys):
    text = emitted(capsys, "wandb", "--config.wandb.project=lab")
    sweep = yaml.safe_load(text)
    assert (sweep["method"], sweep["project"], sweep["name"]) == ("grid", "lab", STUDY)
    lists = {field: entry["values"] for field, entry in sweep["parameters"].items()}
    points = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    assert points == [{"net.hidden": hidden, "seed": seed} for hidden in ("(8,)", "(6,)") for seed in (0, 1)]
    assert not Path(STUDY).exists()  # the agent writes the plan
    agent = shlex.split(text.splitlines()[1].removeprefix("# "))
    assert agent[:4] == ["vae-jax", "agent", "ENTITY/PROJECT/ID", "--config=config.py"]
    assert agent[4:] == ["--config.wandb.project=lab", f"--workdir={STUDY}"]


@pytest.mark.parametrize(
    ("points", "match"),
    [
        ('zipped(**{"latent_dim": [2, 3], "seed": [0, 1]})', r"no grid: 2 points, and 4 combinations of latent"),
        ("grid(seed=[0]) + grid(latent_dim=[3])", "set different fields"),
    ],
)
def test_a_sweep_that_is_no_grid_is_refused(place, points, match):
    Path("config.py").write_text(CONFIG.partition("def sweep")[0] + f"def sweep():\n    return {points}\n")
    refused(match, "wandb")


# --- What is refused ------------------------------------------------------------------------------


def test_what_is_wrong_is_said_before_anything_is_written(place):
    refused("--to: 'slurm' is unknown; known: commands, gcloud, jobset, sbatch, skypilot, wandb", "slurm")
    refused("--to=commands: --zone: 'zone' is unknown; known: config, output, python", "commands", "--zone=a")
    refused("did you mean 'partition'", "sbatch", "--partiton=main")
    refused("--nodes: '0' is not allowed; give a whole number of at least 1", "sbatch", "--nodes=0")
    refused("--restarts: '0' is not allowed; give a whole number of at least 1", "jobset", "--restarts=0")
    refused("--spot: 'yes' is not allowed; give true or false", "skypilot", "--bucket=gs://lab", "--spot=yes")
    refused("--workdir: '../study' lies outside", "skypilot", "--bucket=gs://lab", "--workdir=../study")
    slice_ = ["--accelerator=tpu-v5-lite-podslice", "--topology=2x4", "--nodes=2"]
    refused("--nodes: 2 hosts of a TPU slice compute only as a whole", "jobset", "--claim=d", "--image=i", *slice_)
    refused("--image: missing", "jobset", "--claim=disk")
    refused("--topology: missing", "jobset", "--claim=d", "--image=i", "--accelerator=tpu-v5-lite-podslice")
    refused("--accelerator: 'v9' is unknown", "gcloud", "--accelerator=v9-8", "--zone=a")
    refused("--bucket: missing", "skypilot")
    refused("4 of 4 points of the sweep are wrong", "commands", "--config.latent_dim=-1")
    with pytest.raises(UserError, match="--to: missing"):
        cli.emit([])


WORDS = {
    "commands": {},
    "sbatch": {},
    "gcloud": {"accelerator": "v5litepod-8", "zone": "us-west4-a"},
    "skypilot": {"bucket": "gs://lab"},
    "jobset": {"image": "lab/vae", "claim": "disk"},
    "wandb": {},
}
"""What each place cannot do without."""

TEXT_WORDS = [
    (place, word)
    for place, module in emit.places().items()
    for word, default in emit.words_of(module).items()
    if isinstance(default, str)
]


@pytest.mark.parametrize(("to", "word"), TEXT_WORDS)
def test_a_word_of_more_than_one_line_is_refused(place, to, word):
    for evil in ("gpu\ntouch stolen", "a\rb", "a\u2028b", "a\x1b[2J"):
        match = rf"--{word}: '.*\\.*' is not allowed; give text without line breaks"
        words = {**WORDS[to], word: evil}
        refused(match, to, *(f"--{name}={value}" for name, value in words.items()))
        with pytest.raises(UserError, match=match):
            emit.emit_sweep(to, words, "config.py", [], Path("study"))


def test_what_reaches_a_comment_is_one_line(place):
    refused("--config.wandb.group: .*is not allowed", "wandb", "--config.wandb.group=a\nb")
    with pytest.raises(UserError, match=r"--config: 'a.nb' is not allowed"):
        emit.emit_sweep("wandb", {}, "a\nb", [], Path("study"))
    with pytest.raises(UserError, match=r"--workdir: .*is not allowed"):
        emit.emit_sweep("wandb", {}, "config.py", [], Path("a\nb"))
    refused("--python: '--uid=root' is not allowed", "sbatch", "--python=--uid=root")


@pytest.mark.parametrize("to", ["commands", "sbatch"])
def test_a_home_that_no_shell_would_expand_is_refused(place, to):
    refused("--python: '~/venv/bin/python' is not allowed; give the whole path", to, "--python=~/venv/bin/python")


HOSTILE = ['a: b\'s "c" #d $(touch stolen) `touch stolen` !e \u00e4\u4e16\U0001f600 \\ *f {g}', "-x", "1e3"]
"""What a shell or YAML would take for something else."""


@pytest.mark.parametrize("evil", HOSTILE, ids=["all at once", "option", "number"])
@pytest.mark.parametrize("to", ["commands", "gcloud", "sbatch"])
def test_hostile_words_reach_the_programs_of_a_script_as_they_are(place, capsys, to, evil):
    text = hostile_text(capsys, to, evil)
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    for name in ("python", "gcloud", "git", "tar", "srun"):
        fake(place / "bin", name, RECORD + 'print("ACTIVE")')
    variables = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "0"}
    ran = shell(text, CALLS=str(place / "calls"), **variables)
    assert ran.returncode == 0, ran.stderr
    called = [word for line in (place / "calls").read_text().splitlines() for word in json.loads(line)]
    if to == "gcloud":
        assert {f"--zone={evil}", f"--project={evil}", f"--runtime-version={evil}"} <= set(called)
        assert operand(Path(evil)) in called  # what tar packs
        remote = [word.removeprefix("--command=") for word in called if "population" in word]
        called = [word for code in remote for word in shlex.split(code)]
    assert f"--members={evil}/programs/{programs(evil)[0]}.json" in called
    options = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    options = [re.sub(r"\\(.)", r"\1", shlex.split(line)[1]) for line in options]  # SLURM's backslash escapes in quotes
    assert to != "sbatch" or {f"--partition={evil}", f"--time={evil}", f"--job-name={evil}"} <= set(options)
    assert not list(place.glob("**/stolen"))


@pytest.mark.parametrize("evil", HOSTILE, ids=["all at once", "option", "number"])
@pytest.mark.parametrize("to", ["jobset", "skypilot", "wandb"])
def test_hostile_words_are_the_same_text_in_a_manifest(place, capsys, to, evil):
    text = hostile_text(capsys, to, evil)
    documents = list(yaml.safe_load_all(text))
    texts = list(scalars(documents))
    # Image, claim, root and namespace; the bucket; the study's name.
    assert texts.count(evil) >= {"jobset": 4, "skypilot": 1, "wandb": 1}[to]
    if to == "wandb":
        agent = shlex.split(text.splitlines()[1].removeprefix("# "))
        assert {"--config=a config.py", f"--workdir={evil}"} <= set(agent)
    if to == "skypilot":
        (place / "home/study").mkdir(parents=True)
        fake(place / "bin", "python", RECORD)
        variables = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HOME": str(place / "home")}
        ran = shell(documents[0]["run"], CALLS=str(place / "calls"), PROGRAM="p", **variables)
        assert ran.returncode == 0, ran.stderr
        assert (place / evil).resolve() == place / "home/study"
    assert not list(place.glob("**/stolen"))


def hostile_text(capsys, to, evil):
    """The text for a place of which every word of text is `evil`, the study's folder too."""
    named = {word: evil for name, word in TEXT_WORDS if name == to and word not in ("python", "accelerator")}
    Path("a config.py").write_text(CONFIG)
    words = [f"--{name}={value}" for name, value in {**WORDS[to], **named}.items()]
    assert cli.emit([f"--to={to}", "--config=a config.py", f"--workdir=./{evil}", *words]) == 0
    return capsys.readouterr().out


def scalars(tree):
    """The texts in a manifest."""
    if isinstance(tree, str):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from scalars(part)


def test_text_in_a_manifest_is_quoted_whatever_it_looks_like():
    values = ["1e3", "on", "0o17", "12:30:00", "null", "a", "~", "=", "a\nb", " a", "a: b", "\u00e4\u2028"]
    text = _yaml.dump({"values": values, "on": {"1e3": "x"}})
    assert yaml.safe_load(text) == {"values": values, "on": {"1e3": "x"}}
    items = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    assert all(item.startswith(('"', "|")) for item in items)
    assert "values:" in text.splitlines()


def test_kubernetes_finds_no_variable_in_what_is_text(place, capsys):
    words = ["--image=i", "--claim=c", "--config.wandb.mode=offline"]
    _, jobset, _ = yaml.safe_load_all(emitted(capsys, "jobset", *words, workdir="$(HOME) $$"))
    container = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "WANDB_RUN_GROUP", "value": "$$(HOME) $$$$"}]
