"""Type and shape names of every public signature, and the name of the device axis."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, Int, PyTree, UInt8
from jaxtyping import Key as KeyArray

AXIS = "devices"
"""The named axis that a batch is split over; every step runs under it, on one device or many."""

Key = KeyArray[Array, ""]
Keys = KeyArray[Array, "batch"]
Bytes = UInt8[Array, "batch height width channels"]
Images = Float[Array, "batch height width channels"]
StoredImages = Bytes | Images
"""As a dataset keeps them: grey levels from 0 to 255, or float32 of any size, where NaN stands for what is missing."""
Pixels = Float[Array, "batch height width parameters"]
"""Likelihood parameters: `Likelihood.channels` numbers for each channel of each pixel."""
Codes = Float[Array, "batch latent"]
PerExample = Float[Array, "batch"]
Indices = Int[Array, "batch"]
Scalar = Float[Array, ""]
Params = PyTree
Batch = Mapping[str, Any]
Metrics = dict[str, Any]


@runtime_checkable
class Config(Protocol):
    """A tree of plain values by name: a dict, or the ConfigDict it was saved from."""

    def __getitem__(self, name: str, /) -> Any:
        """The value, or the tree, called `name`."""

    def items(self) -> Any:
        """All names with their values."""
