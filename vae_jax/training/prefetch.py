"""What is read on the host while the devices work: blocks of train steps, and windows of a split in evaluation."""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from vae_jax.data import Split
from vae_jax.data._splits import HeldImages, on_host, read_window
from vae_jax.files import reason

T = TypeVar("T")
U = TypeVar("U")

BLOCK_BYTES = 2**28
"""Bytes of images that are sent to a device at once, unless two batches are more; three such blocks are there at most.

Of two, because a program of a single batch has no loop, and other last digits.
"""


def batches_at_once(split: Split, batch_size: int, most: int) -> int:
    """How many batches of `batch_size` images are sent at once: `most`, or what BLOCK_BYTES hold."""
    image_bytes = split.fetch.nbytes // len(split.fetch)  # type: ignore[attr-defined, arg-type]
    return min(most, max(2, BLOCK_BYTES // (batch_size * image_bytes)))


def prefetch(read: Callable[[T], U], items: Iterable[T]) -> Generator[U]:
    """`read(item)` of each in order; a thread reads the next while the caller works on the one it has.

    Close it where it is left early: it then waits for what is being read. Raises what `read` raises, OSError with what
    could not be read.
    """
    with ThreadPoolExecutor(1, "prefetch") as pool:
        futures = (pool.submit(read, item) for item in items)
        future = next(futures, None)
        while future is not None:
            later = next(futures, None)
            yield _result(future)
            future = later


def _result(future: Future[U]) -> U:
    try:
        return future.result()
    except OSError as error:
        raise OSError(f"config.data: images cannot be read ({reason(error)})") from None


def read_block(split: Split, ids: np.ndarray, steps: int) -> Split:
    """The images and labels of the next steps alone, as a split of each device, by a leading axis of devices.

    Args:
        split: with its images on the host.
        ids: which of them each device reads, (device, stream, step, example).
        steps: for how many the block has room, or another program would be compiled; at least those of `ids`.
    """

    def rows_of(read: Callable[[np.ndarray], Any]) -> np.ndarray:
        rows = read(ids)
        if ids.shape[2] < steps:
            few, rows = rows, np.zeros((*ids.shape[:2], steps, *rows.shape[3:]), rows.dtype)
            rows[:, :, : ids.shape[2]] = few
        return rows.reshape(len(ids), -1, *rows.shape[4:])

    labels = None if split.labels is None else rows_of(np.asarray(split.labels).take)
    images = rows_of(split.fetch)
    return Split(HeldImages(images.reshape(*images.shape[:2], -1), images.shape[2:]), labels, split.size)


def block_positions(ids: np.ndarray, slots: np.ndarray, steps: int, batch_size: int) -> np.ndarray:
    """Where the examples of each member are in the blocks that `read_block` reads, (member, step, batch).

    Args:
        ids: as `read_block` takes them.
        slots: by which stream of its device each member goes.
        steps: for how many a block has room.
        batch_size: examples of a batch, over all devices that have a part of it.
    """
    taken, examples = ids.shape[2:]
    within = np.arange(steps * examples, dtype=np.int32).reshape(steps, examples)[:taken]
    over_devices = np.tile(within, (1, batch_size // examples))
    return slots[:, None, None].astype(np.int32) * np.int32(steps * examples) + over_devices


def send_whole(split: Any, send: Callable[[Any], Any]) -> Any:
    """The split on the devices, or as it is where its images stay on the host."""
    return split if on_host(split) else send(split)


@dataclass(frozen=True)
class BatchReader:
    """Batches of a split in compiled calls: one of all, or of as many as are read on the host at once.

    Attributes:
        split: with its images on the devices, or on the host.
        batches: their indices (batch, example), which follow one another.
        send: puts a tree on the devices.
    """

    split: Any
    batches: np.ndarray
    send: Callable[[Any], Any]

    def __iter__(self) -> Iterator[tuple[Any, np.ndarray, int]]:
        """(split, batches, how many of the last of them are new) of each call, all calls of one shape."""
        count, size = self.batches.shape
        if not on_host(self.split):
            yield self.split, self.batches, count
            return
        at_once = batches_at_once(self.split, size, count)
        ends = [*range(at_once, count, at_once), count]
        calls = [(self.batches[end - at_once : end], end - start) for start, end in itertools.pairwise([0, *ends])]
        yield from prefetch(self._read, calls)

    def map(self, call: Callable[[Any, np.ndarray], Any]) -> list[Any]:
        """`call(split, batches)` of each call, with results that lead with an axis of batches, every batch once."""
        results: list[Any] = []
        for split, batches, new in self:
            jax.block_until_ready(results[-2:-1])  # or what waits for the devices fills them
            rows = call(split, batches)
            results.append(rows if new == len(batches) else jax.tree.map(lambda leaf, new=new: leaf[-new:], rows))
        return results

    def _read(self, call: tuple[np.ndarray, int]) -> tuple[Any, np.ndarray, int]:
        batches, new = call
        window = read_window(self.split, int(batches[0, 0]), int(batches[-1, -1]) + 1)
        return self.send(window), batches, new
