import subprocess
import sys


def test_public_imports_are_cheap():
    heavy = ("wandb", "orbax", "matplotlib", "tensorflow_datasets", "tensorflow", "sklearn")
    code = f"import sys, vae_jax; print([name for name in {heavy} if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
