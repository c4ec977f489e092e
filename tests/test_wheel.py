"""What pip installs: one package, which trains from an empty folder beside packages named like those of the clone."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_the_package_is_installed():
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "vae_jax").rglob("*.py")}
    packages = {".".join(folder.parts) for folder in folders} | {"vae_jax.configs", "vae_jax.configs.papers"}
    assert PROJECT["tool"]["setuptools"]["packages"] == sorted(packages)


def test_every_folder_of_the_package_has_an_init():
    folders = {path.parent for path in (ROOT / "vae_jax").rglob("*.py")}
    folders |= {path.parent for path in (ROOT / "configs").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: pip leaves build/ behind, whose files of yesterday would be in the next one."""
    source = tmp_path_factory.mktemp("source")
    for name in ("vae_jax", "configs", "experiments", "launch", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", built, source, cwd=built)
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of a new environment, with the wheel, what it and a search ask for, nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["search"]]
    for requirement in requirements(wanted):
        link_distribution(requirement, site)
    python = folder / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel, cwd=folder)
    run(sys.executable, "-m", "pip", "--python", python, "check", cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """An empty folder, but for packages of the user's own."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("configs", "experiments", "launch", "tests"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('the package of the user')\n")
    return folder


def requirements(lines):
    """The names of all distributions that these requirement lines bring, those of their own requirements too."""
    from packaging.requirements import Requirement

    names, waiting = set(), [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name in names and not requirement.extras:
            continue
        names.add(name)
        for line in importlib.metadata.requires(name) or []:
            inner = Requirement(line)
            if not inner.marker or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                inner.marker = None
                waiting.append(inner)
    return names


def link_distribution(name, site):
    """Puts the files of a distribution that this environment has into another, as links."""
    distribution = importlib.metadata.distribution(name)
    for top in {file.parts[0] for file in distribution.files if file.parts[0] not in ("..", "__pycache__")}:
        if not (site / top).exists():
            (site / top).symlink_to(distribution.locate_file(top))


def run(*command, cwd):
    """What a program prints, without what this process tells Python about modules. Fails with it where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["XLA_FLAGS"] = environment["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    result = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.full
def test_the_wheel_holds_one_package(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    assert {file.partition("/")[0] for file in files} == {
        "vae_jax",
        f"vae_jax-{PROJECT['project']['version']}.dist-info",
    }
    expected = {path.relative_to(ROOT) for path in (ROOT / "vae_jax").rglob("*") if "__pycache__" not in path.parts}
    expected |= {Path("vae_jax") / path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py")}
    missing = {str(path) for path in expected if (ROOT / path).is_file()} - set(files)
    assert not missing


@pytest.mark.full
def test_an_installed_package_trains_from_an_empty_folder(installed, workplace):
    program = installed / "vae-jax"
    assert run(program, "--version", cwd=workplace) == f"vae_jax {PROJECT['project']['version']}\n"
    assert "--config" in run(program, "train", "--help", cwd=workplace)
    run(program, "train", "--config=digits", "--config.train.steps=2", cwd=workplace)
    run(program, "train", "--config.train.steps=2", "--config.log.pictures=False", "--workdir=default", cwd=workplace)
    run(program, "evaluate", "--workdir=runs/digits", cwd=workplace)
    assert "32 runs" in run(program, "sweep", "--config=digits", "--dry_run", cwd=workplace)
    few = ("--trials=2", "--at_once=2", "--config.train.steps=2", "--config.log.pictures=false")
    assert "2 trials: 2 complete" in run(program, "search", "--config=digits", *few, cwd=workplace)
    assert (workplace / "runs/digits_search/optuna_journal.log").exists()
    assert {path.name for path in (workplace / "runs/digits").iterdir()} >= {
        "config.json",
        "evaluation.json",
        "pictures",
    }
    assert (workplace / "default/evaluation.json").exists()
    draw = "import jax, vae_jax; print(vae_jax.open_run('runs/digits').sample(jax.random.key(0), 4).shape)"
    assert run(installed / "python", "-c", draw, cwd=workplace) == "(4, 8, 8, 1)\n"
