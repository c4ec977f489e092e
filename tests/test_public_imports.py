import operator
import subprocess
import sys

import pytest

import vae_jax

HEAVY = ("jax", "flax", "rich", "wandb", "orbax", "matplotlib", "tensorflow_datasets", "tensorflow", "sklearn")


def imported(code, names):
    """Which of the modules a new Python has imported after `code`."""
    code = f"import sys\n{code}\nprint([name for name in {names} if name in sys.modules], file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return process.stderr.strip()


def test_public_imports_are_cheap():
    assert imported("import vae_jax", HEAVY) == "[]"


def test_help_waits_for_no_library():
    assert imported("from vae_jax import cli; cli.run(['--help'])", HEAVY) == "[]"


def test_public_functions_bring_no_library_that_they_may_not_need():
    assert imported("from vae_jax import train, evaluate, open_run, load_config", ("wandb", "tensorflow")) == "[]"


@pytest.mark.parametrize("name", vae_jax.__all__)
def test_public_names_are_there_and_documented(name):
    assert name in dir(vae_jax)
    assert getattr(vae_jax, name).__doc__


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="'vae_jax' has no attribute 'fly'"):
        operator.attrgetter("fly")(vae_jax)
