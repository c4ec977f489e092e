"""What runs did before there was a field whose default does something else. Imports no jax."""

from typing import Any

EARLIER: dict[str, Any] = {"data.validation": 0, "data.validation_split": "none", "likelihood.mean": "linear"}
"""Its value where a saved config lacks the field, by dotted name."""
