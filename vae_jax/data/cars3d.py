"""Cars3D (Reed et al. 2015): 17,568 renderings of 183 cars from 4 elevations and 24 azimuths, 128 x 128 x 3.

Read from the published files, one car_*_mesh.mat a car: the folder data/cars of nips2015-analogy-data.tar.gz. TFDS has
no such dataset. Locatello et al. 2019 scale the images to 64 x 64. Their cars are numbered in whatever order the file
system lists them, here in the order of their names; the numbers mean nothing either way.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vae_jax import data
from vae_jax.data import Dataset, _splits, _stored_grids
from vae_jax.data._paths import data_path
from vae_jax.data._stored_grids import Chunk, StoredGrid
from vae_jax.errors import UserError
from vae_jax.files import reason

NAMES = ("elevation", "azimuth", "car")


def load(*, path: str = "", size: int = 64, split: str = "random 0.1", changed: int = 1) -> Dataset:
    """Cars3D, from its own .mat files or from an npz file.

    Args:
        path: the folder of .mat files, or an npz file of the format that dsprites reads, or its folder.
        size: images are scaled to size x size, or left as they are for 0.
        split: which images are held out, as `data.from_factors` reads it.
        changed: in how many factors the two images of a pair differ; 0 draws from one to all but one for each pair.

    Raises:
        UserError: where there are no such files, or they are of another format.
    """
    file = _stored_grids.find_npz_file(path)
    stored = _stored_grids.read_npz(file, NAMES) if file else _read_meshes(path)
    grid = _stored_grids.to_factors(_stored_grids.resize_grid(stored, size), categorical=("car",))
    return data.from_factors(grid, split, changed)


def _read_meshes(path: str) -> StoredGrid:
    files = sorted(data_path(path).glob("*.mat")) if path else []
    if not files:
        raise UserError(
            f"path: {path!r} has no .mat files and no npz; give the folder data/cars of Cars3D "
            "(nips2015-analogy-data.tar.gz, scottreed.info), which TFDS does not have"
        )
    first = _read_views(files[0])
    *sizes, height, width, channels = first.shape

    def chunks() -> Iterator[Chunk]:
        for car, file in enumerate(files):
            views = _read_views(file)
            if views.shape != first.shape:
                raise UserError(f"path: {str(file)!r} has views of {views.shape}, {files[0].name} of {first.shape}")
            images = views.reshape(-1, height, width, channels)
            yield images, np.arange(len(images)) * len(files) + car

    source = f"path: {path!r}"
    count = len(files) * sizes[0] * sizes[1]
    return StoredGrid(source, NAMES, (*sizes, len(files)), (height, width, channels), count, chunks())


def _read_views(file: Path) -> np.ndarray:
    """The images of one car, (elevation, azimuth, height, width, channels)."""
    views = _read_matrix(file)
    if views.dtype != np.uint8 or views.ndim != 5 or views.shape[2] != 3:
        raise UserError(
            f"path: {str(file)!r} has an im of {views.dtype} {views.shape}; give uint8 of (height, width, "
            "3, azimuths, elevations)"
        )
    return views.transpose(4, 3, 0, 1, 2)


def _read_matrix(file: Path) -> Any:
    """The matrix `im` of a .mat file, none of more than MAX_BYTES."""
    from scipy.io import loadmat, whosmat

    try:
        shapes = {name: shape for name, shape, _ in whosmat(file)}
        if "im" in shapes and math.prod(shapes["im"]) > _splits.MAX_BYTES:
            raise ValueError(f"its im is of {shapes['im']}, more than {_splits.MAX_BYTES // 2**30} GiB")
        return loadmat(file, variable_names=["im"])["im"]
    except Exception as error:  # a damaged file raises what comes
        raise UserError(f"path: {str(file)!r} is not in the format of Cars3D ({reason(error)})") from None
