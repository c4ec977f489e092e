"""Opens the folder of a run."""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax import model, registry
from vae_jax.config.parse import add_module_folders, check_values, tuples
from vae_jax.errors import UserError, errors_of
from vae_jax.files import parse_json, read_json, reason, user_path
from vae_jax.inference import TrainedModel
from vae_jax.jax_flags import pinned_flags
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.step import evaluation_params, initial_state


@pinned_flags()
def open_run(folder: str | Path, checkpoint: str = "latest") -> TrainedModel:
    """Opens the run in `folder` at its "latest" checkpoint, or the "best" by the bound on its validation split.

    What a variant fits after the last step (the mixture of rae, the tree of vq) is not in an earlier checkpoint:
    its prior there is the one that was trained with.

    Raises UserError where the folder holds no run, no checkpoint, or only damaged ones, and where the run was made of
    objects that this program has not been given.
    """
    with errors_of("folder: "):
        folder = user_path(folder)
    if checkpoint not in ("latest", "best"):
        raise UserError(f"checkpoint: {checkpoint!r} is unknown; known: best, latest")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no run here (no config.json); give the folder of a training run")
    if not (folder / "checkpoints").is_dir():
        raise UserError(f"{folder / 'checkpoints'}: no checkpoint here; let the run reach its first one")
    _check_objects(folder)
    config, image_shape = _read_config(folder)
    try:
        built = model.build(config, image_shape)
        shape = jax.eval_shape(lambda: initial_state(built, config, image_shape))
    except UserError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise _not_of_this_version(folder, error) from None
    checkpoints = Checkpoints(folder / "checkpoints", read_only=True)
    restored = checkpoints.restore(shape, checkpoint)
    checkpoints_left = checkpoints.steps()
    checkpoints.close()
    if restored is None:
        missing = "no checkpoint here; let the run reach its first one"
        unscored = "none was evaluated on a validation split, so that none is the best; take the latest"
        raise UserError(f"{folder / 'checkpoints'}: {unscored if checkpoints_left else missing}")
    step, state = restored
    params = jax.device_put(evaluation_params(state))
    return TrainedModel(config, image_shape, built, params, step, checkpoint)


def _check_objects(folder: Path) -> None:
    """Raises UserError where the run was made of objects that this program has not been given."""
    config = read_json(folder / "config.json").get("config")
    sections = config if isinstance(config, dict) else {}
    named = {name: sections.get(name) for name in model.SECTIONS}
    names = {name: str(section.get("name")) for name, section in named.items() if isinstance(section, dict)}
    missing = [section for section, name in names.items() if registry.is_object(name) and name not in registry.OBJECTS]
    if missing:
        words = ", ".join(f"{section}=..." for section in missing)
        raise UserError(
            f"{folder}: was made from objects that cannot be imported; give them again, in Python: "
            f"vae_jax.open_run({str(folder)!r}, {words})"
        )


def _read_config(folder: Path) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """The config of a run and the shape of its images. Raises UserError where config.json does not hold them."""
    try:
        saved = parse_json(folder / "config.json")
        config, image_shape = tuples(saved["config"]), tuple(saved["image_shape"])
        add_module_folders(folder)
        model.check_fields(config)
        check_values(ConfigDict(config))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _not_of_this_version(folder, error) from None
    if len(image_shape) != 3 or not all(type(size) is int and size > 0 for size in image_shape):
        raise _not_of_this_version(folder, ValueError(f"image_shape {image_shape!r}"))
    return config, image_shape


def _not_of_this_version(folder: Path, error: Exception) -> UserError:
    problem = f"no {error}" if isinstance(error, KeyError) else reason(error)
    return UserError(f"{folder / 'config.json'}: is not a config of this version ({problem})")
