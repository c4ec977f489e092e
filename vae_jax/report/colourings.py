"""By what the dots of a map are coloured: the classes of their images, and each factor where factors are known."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from vae_jax.data import Dataset
from vae_jax.plots import palette


def colourings(dataset: Dataset, indices: np.ndarray) -> list[dict[str, Any]]:
    """The colourings of test images; none where they have neither labels nor factors that vary."""
    test, grid = dataset.test, dataset.factors
    classes = [] if test.labels is None else [class_colouring(np.asarray(test.labels)[indices])]
    if grid is None or test.factors is None:
        return classes
    values = np.asarray(test.factors(jnp.asarray(indices)))
    columns = zip(grid.names, grid.sizes, values.T, strict=True)
    varying = [(name, size, column) for name, size, column in columns if np.ptp(column) > 0]
    return classes + [factor_colouring(*factor, factor[0] not in grid.categorical) for factor in varying]


def class_colouring(labels: np.ndarray) -> dict[str, Any]:
    """The classes that occur, which have no order."""
    classes, indices = np.unique(labels, return_inverse=True)
    colours = palette.label_colours(len(classes))
    return colouring("class", [str(label) for label in classes], colours, indices, ordered=False)


def factor_colouring(name: str, size: int, classes: np.ndarray, ordered: bool) -> dict[str, Any]:
    """All values of a factor: along a ramp if they have an order, each with a colour of its own if they have none."""
    colours = palette.ramp_colours(size) if ordered else palette.label_colours(size)
    return colouring(name, [str(value) for value in range(size)], colours, classes, ordered)


def colouring(name: str, values: list[str], colours: list[str], indices: np.ndarray, ordered: bool) -> dict[str, Any]:
    """What a page reads of it: names and colours of the values, and which of them each image has."""
    return {"name": name, "values": values, "colours": colours, "indices": indices.tolist(), "ordered": ordered}
