"""3D Shapes (Kim & Mnih 2018, as Burgess & Kim 2018 published it): 480,000 images of an object in a room, 64 x 64 x 3.

Six factors, all of which score: the hues of floor, wall and object (10 each), scale 8, shape 4, orientation 15. TFDS
keeps the images of the published 3dshapes.h5. They take 5.9 GB, on the device; reading them takes minutes.
"""

from vae_jax import data
from vae_jax.data import Dataset, _stored_grids, tfds

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")


def load(*, path: str = "", split: str = "random 0.1", changed: int = 1) -> Dataset:
    """The grid through TFDS, kept in the folder `path` (TFDS's own when empty), or from an npz file there.

    The npz is of the format that dsprites reads, `split` and `changed` are those of `data.from_factors`. Raises
    UserError where the images cannot be read, or are not a complete grid of their factors.
    """
    file = _stored_grids.npz_file(path)
    features = {name: f"label_{name}" for name in NAMES}
    stored = _stored_grids.from_npz(file, NAMES) if file else tfds.grid("shapes3d", path, features)
    return data.from_factors(_stored_grids.look_up(stored), split, changed)
