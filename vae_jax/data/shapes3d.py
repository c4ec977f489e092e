"""3D Shapes (Kim & Mnih 2018, as Burgess & Kim 2018 published it): 480,000 images of an object in a room, 64 x 64 x 3.

Six factors, all of which score: the hues of floor, wall and object (10 each), scale 8, shape 4, orientation 15. TFDS
keeps the images of the published 3dshapes.h5. They take 5.9 GB, on the device; reading them takes minutes.
"""

from vae_jax import data
from vae_jax.data import Dataset, _stored_grids, tfds

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")


def load(*, path: str = "", split: str = "random 0.1", changed: int = 1) -> Dataset:
    """3D Shapes, through TFDS or from an npz file.

    Args:
        path: an npz file of the format that dsprites reads, or its folder; one without an npz is where TFDS keeps the
            images, its own when empty.
        split: which images are held out, as `data.from_factors` reads it.
        changed: in how many factors the two images of a pair differ; 0 draws from one to all but one for each pair.

    Raises:
        UserError: where the images cannot be read, or are not a complete grid of their factors.
    """
    file = _stored_grids.find_npz_file(path)
    features = {name: f"label_{name}" for name in NAMES}
    stored = _stored_grids.read_npz(file, NAMES) if file else tfds.read_grid("shapes3d", path, features)
    return data.from_factors(_stored_grids.to_factors(stored, categorical=("shape",)), split, changed)
