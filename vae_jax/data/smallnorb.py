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
NUISANCE = ("instance",)


def load(*, path: str = "", size: int = 64, split: str = "random 0.1", changed: int = 1) -> Dataset:
    """The grid through TFDS, kept in the folder `path` (TFDS's own when empty), or from an npz file there.

    Images are scaled to size x size, or left as they are for 0. The npz is of the format that dsprites reads,
    `split` and `changed` are those of `data.from_factors`. Raises UserError where the images cannot be read, or are
    not a complete grid of their factors.
    """
    file = _stored_grids.npz_file(path)
    both = ("train", "test")
    stored = _stored_grids.from_npz(file, tuple(FEATURES)) if file else tfds.grid("smallnorb", path, FEATURES, both)
    return data.from_factors(_stored_grids.look_up(tfds.resized(stored, size), NUISANCE), split, changed)
