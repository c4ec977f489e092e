"""JAX as a shell may set it up for other work: without promotion of dtypes."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def strict_promotion() -> Iterator[None]:
    """JAX's flag of that at "strict", for the whole process."""
    before = jax.config.jax_numpy_dtype_promotion
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    try:
        yield
    finally:
        jax.config.update("jax_numpy_dtype_promotion", before)
