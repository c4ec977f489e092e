"""Small NORB (LeCun et al. 2004): 48,600 grey photographs of 50 toys, 96 x 96.

Category 5, instance 10, elevation 9, azimuth 18, lighting 6. The published training and test parts hold different
toys, so that only both together are a complete grid; `split` cuts that anew. The number of an instance means nothing
across categories: it is a nuisance, drawn at random and not scored, as Locatello et al. 2019 do, who also scale the
images to 64 x 64. Of each stereo pair TFDS calls the left one `image`, which is taken.
"""

from vae_jax import data
from vae_jax.data import Dataset, _stored_grids, tfds

FEATURES = {
    "category": "label_category",
    "instance": "instance",
    "elevation": "label_elevation",
    "azimuth": "label_azimuth",
    "lighting": "label_lighting",
}
NUISANCE, CATEGORICAL = ("instance",), ("category", "instance", "lighting")
SPLITS = ("train", "test")


def load(*, path: str = "", size: int = 64, split: str = "random 0.1", changed: int = 1) -> Dataset:
    """Small NORB, through TFDS or from an npz file.

    Args:
        path: an npz file of the format that dsprites reads, or its folder; one without an npz is where TFDS keeps the
            images, its own when empty.
        size: images are scaled to size x size, or left as they are for 0.
        split: which images are held out, as `data.from_factors` reads it.
        changed: in how many factors the two images of a pair differ; 0 draws from one to all but one for each pair.

    Raises:
        UserError: where the images cannot be read, or are not a complete grid of their factors.
    """
    file = _stored_grids.find_npz_file(path)
    if file:
        stored = _stored_grids.read_npz(file, tuple(FEATURES))
    else:
        stored = tfds.read_grid("smallnorb", path, FEATURES, SPLITS)
    grid = _stored_grids.to_factors(_stored_grids.resize_grid(stored, size), NUISANCE, CATEGORICAL)
    return data.from_factors(grid, split, changed)
