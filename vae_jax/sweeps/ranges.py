"""What a field of a random sweep or of a search is drawn from: ranges of numbers, and lists of options."""

import math
import random as python_random
from typing import Any, NamedTuple

from vae_jax.errors import UserError

Number = float | int


class Uniform(NamedTuple):
    """Numbers from `low` to `high`, to six digits, uniform in themselves or in their logarithm."""

    low: Number
    high: Number
    log: bool = False

    def __call__(self, stream: python_random.Random) -> float:
        """A number that is drawn."""
        share = stream.random()
        if self.log:
            return self.rounded(self.low * math.exp(math.log(self.high / self.low) * share))
        return self.rounded(self.low + (self.high - self.low) * share)

    def rounded(self, value: float) -> float:
        """The value as a run has it: the last bits of exp and log differ between machines, a run's id must not."""
        return min(max(float(f"{value:.6g}"), float(self.low)), float(self.high))

    def __str__(self) -> str:
        return f"{'log_uniform' if self.log else 'uniform'}({self.low!r}, {self.high!r})"


class Integer(NamedTuple):
    """Whole numbers from `low` to `high`, both included, each as likely."""

    low: int
    high: int

    def __call__(self, stream: python_random.Random) -> int:
        """A number that is drawn."""
        return self.low + int(stream.random() * (self.high - self.low + 1))

    def __str__(self) -> str:
        return f"integer({self.low}, {self.high})"


class Choice(NamedTuple):
    """One of the options, each as likely."""

    options: tuple[Any, ...]

    def __call__(self, stream: python_random.Random) -> Any:
        """An option that is drawn."""
        return self.options[int(stream.random() * len(self.options))]

    def __str__(self) -> str:
        return f"choice({', '.join(map(repr, self.options))})"


Range = Uniform | Integer | Choice


def uniform(low: Number, high: Number) -> Uniform:
    """Uniform on [low, high], to six digits. Raises UserError unless low < high."""
    _check_range("uniform", low, high)
    return Uniform(low, high)


def log_uniform(low: Number, high: Number) -> Uniform:
    """Uniform in the logarithm on [low, high], to six digits. Raises UserError unless 0 < low < high."""
    _check_range("log_uniform", low, high)
    if low <= 0:
        raise UserError(f"log_uniform: {low!r} has no logarithm; give positive bounds")
    return Uniform(low, high, log=True)


def integer(low: Any, high: Any) -> Integer:
    """Whole numbers from low to high, both included. Raises UserError unless low < high."""
    _check_range("integer", low, high)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise UserError(f"integer: ({low!r}, {high!r}) is not allowed; give two whole numbers")
    return Integer(low, high)


def choice(*options: Any) -> Choice:
    """One of the options, each as likely. Raises UserError for none."""
    if not options:
        raise UserError("choice: has no options")
    return Choice(options)


def _check_range(name: str, low: Any, high: Any) -> None:
    numbers = all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in (low, high))
    if not (numbers and math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}: ({low!r}, {high!r}) is not a range; give two numbers that rise")
