"""Checkpoints of a run: asynchronous, checked on the way back, the last few and the best kept.

The only file that imports orbax. Orbax restores a file with a flipped byte without a word, so a
digest of every array is stored beside the arrays and compared on restoring. Of several processes that train a run
together all save and all restore: the first writes, and what one finds damaged is damaged for all.
"""

import contextlib
import gc
import hashlib
import logging
import math
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from vae_jax.errors import UserError
from vae_jax.files import read_json, reason
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup

logging.getLogger("absl").setLevel(logging.CRITICAL)  # what goes wrong is raised too, and said in a line


GRACE_SECONDS = 0.2
"""How long what Orbax has begun may fail in silence once something of it has failed."""

TEMPORARY = ".orbax-checkpoint-tmp"
"""How the folder of a checkpoint ends while Orbax writes it."""


def digest(tree: Any) -> str:
    """SHA-256 over the paths, dtypes, shapes and bytes of a tree's arrays."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};".encode())
        total.update(np.ascontiguousarray(leaf).data)
    return total.hexdigest()


def _short_reason(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:120] or type(error).__name__


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({reason(error)}); give another workdir") from None


@contextlib.contextmanager
def _silent_tasks() -> Iterator[None]:
    """Keeps Python from printing what Orbax's tasks raise beside the first of them, which is all that is said."""
    logger, hook = logging.getLogger("asyncio"), sys.unraisablehook
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda raised: None
    try:
        yield
    except Exception:  # it is printed as a task goes, and from TensorStore's threads a moment later
        gc.collect()
        time.sleep(GRACE_SECONDS)
        raise
    finally:
        logger.setLevel(level)
        sys.unraisablehook = hook


def _storage_reason(error: Exception) -> str:
    """Why something could not be written: what the operating system says, where Orbax repeats it in its own words."""
    known = re.search(
        r"(No space left on device|Disk quota exceeded|File too large|Read-only file system|"
        r"Permission denied|Input/output error)",
        str(error),
    )
    return known[0].lower() if known else reason(error)


@dataclass(frozen=True)
class NewestAndBest:
    """Which checkpoints Orbax leaves: the newest, the best by score, and the best of those at `regular` steps.

    The last is what a run that goes on beyond its last step would have kept.
    """

    newest: int
    score: Callable[[int], float]
    regular: Callable[[int], bool]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each checkpoint, oldest first, is left."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-self.newest :], self._best(steps), self._best([step for step in steps if self.regular(step)])}
        return [step in kept for step in steps]

    def _best(self, steps: Sequence[int]) -> int | None:
        """The step with the highest score, the later of two alike; None where none has any."""
        scored = [step for step in steps if math.isfinite(self.score(step))]
        return max(scored, key=lambda step: (self.score(step), step), default=None)


def any_step(step: int) -> bool:
    """Every step is a regular one."""
    return True


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (tuple(leaf.shape), str(leaf.dtype)), tree)


class Checkpoints:
    """The folder `checkpoints/` of a run of the processes of `group`.

    A score is higher for better; None cannot be the best. Scores lie beside the digests: of a file of Orbax's own that
    is damaged a manager would not even be made. Raises UserError where one of the group sees another folder.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 2,
        read_only: bool = False,
        group: ProcessGroup = SINGLE_PROCESS,
        regular: Callable[[int], bool] = any_step,
    ):
        self._scores: dict[int, float] = {}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else NewestAndBest(keep, self._score, regular),
            create=False,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            # With processes named, it waits for them through the coordination service and not through their devices.
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=set(range(group.count))),
        )
        self.folder, self._group = folder, group
        self._read_only = read_only
        if not read_only:
            group.broadcast_first(lambda: _make_folder(folder))
            group.assert_equal({f"--workdir: what all hosts must see in {folder}": self._listed()})
        self._manager = self._open_manager(options)
        # Each reads for itself: who fails would never come to Orbax's barrier, and the others wait there.
        self._reader = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(),
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=group.index, active_processes={group.index}
            ),
        )

    def _open_manager(self, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
        """Orbax's manager. What keeps it from being made is set aside, or named in a UserError where it may not be."""
        try:
            return ocp.CheckpointManager(self.folder.resolve(), options=options)
        except Exception as error:
            steps = [self.folder / name for name in self._listed()]
            damaged = [path for path in steps if not read_json(path / "_CHECKPOINT_METADATA")]
            if self._read_only or not damaged:
                names = ", ".join(path.name for path in damaged) or "what is damaged there"
                raise UserError(f"{self.folder}: cannot be read ({_short_reason(error)}); remove {names}") from None
        log = logging.getLogger(__name__)
        for path in damaged if self._group.index == 0 else ():
            log.warning("checkpoint %s in %s is damaged; set aside as %s.damaged", path.name, self.folder, path.name)
            path.replace(path.with_name(f"{path.name}.damaged"))
        self._group.all_gather(None)  # the others look once it is gone
        return self._open_manager(options)

    def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        return self._reader.restore(Path(self.folder).resolve() / str(step), args=ocp.args.Composite(**items))

    def _listed(self) -> list[str] | str:
        if not self.folder.is_dir():
            return "no such folder"
        return sorted(path.name for path in self.folder.iterdir() if path.name.isdecimal())

    def save(self, step: int, state: Any, score: float | None) -> None:
        """Starts to save; returns once the state is copied, so that its buffers may be donated."""
        host = jax.tree.map(lambda leaf: np.array(leaf), state)
        check = {"digest": digest(host), "score": score, "step": step}
        self._scores[step] = -math.inf if score is None else score
        with self._write_errors():
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(host), check=ocp.args.JsonSave(check))
            )

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Whatever keeps Orbax from writing, as an OSError of one line that says what to do."""
        try:
            with _silent_tasks():
                yield
        except Exception as error:
            for unfinished in self.folder.glob(f"*{TEMPORARY}") if self._group.index == 0 else ():
                shutil.rmtree(unfinished, ignore_errors=True)
            raise OSError(
                f"{self.folder}: cannot be written ({_storage_reason(error)}); once it can, the same command resumes "
                "from the last checkpoint there"
            ) from None

    def restore(self, shape: Any, which: str | int = "latest") -> tuple[int, Any] | None:
        """The newest whole state of this `shape` and its step, that of a step, or the best that has a score; else None.

        A damaged one is named in a warning, of the first process, and the one before it (or next best) is taken; in a
        folder open for writing it is deleted once another is found whole. Raises UserError where none is.
        """
        self.wait()
        steps = self.steps()[::-1]
        if which == "best":
            scored = [step for step in steps if math.isfinite(self._score(step))]
            steps = sorted(scored, key=lambda step: (self._score(step), step), reverse=True)
        elif which != "latest":
            steps = [step for step in steps if step == which]
        damaged: list[int] = []
        for step in steps:
            state, problem = self._try_restore(step, shape)
            if not problem:
                self._delete(damaged)
                return step, state
            if self._group.index == 0:
                logging.getLogger(__name__).warning(
                    "checkpoint %d in %s is damaged (%s); trying the one before it", step, self.folder, problem
                )
            damaged.append(step)
        if steps:
            raise UserError(
                f"{self.folder}: none of the checkpoints {sorted(steps)} can be restored ({problem}); "
                "all are left as they are, start in a new workdir"
            )
        return None

    def _delete(self, steps: list[int]) -> None:
        for step in () if self._read_only else steps:
            self._manager.delete(step)

    def _try_restore(self, step: int, shape: Any) -> tuple[Any, str]:
        """The state of a step, or why one of the group could not restore it."""
        state, problem = None, ""
        try:
            with _silent_tasks():
                state = self._restore(step, shape)
        except Exception as error:
            problem = _short_reason(error)
        return state, next(filter(None, self._group.all_gather(problem)), "")

    def _restore(self, step: int, shape: Any) -> Any:
        abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
        restored = self._read(step, state=ocp.args.StandardRestore(abstract), check=ocp.args.JsonRestore())
        if digest(restored.state) != restored.check["digest"]:
            raise ValueError("its arrays do not match their checksum")
        saved = int(restored.check.get("step", getattr(restored.state, "step", step)))
        if saved != step:
            raise ValueError(f"it holds the state of step {saved}")
        if _shapes(restored.state) != _shapes(abstract):
            raise ValueError("its arrays have not the shapes and dtypes that the config gives")
        return restored.state

    def _score(self, step: int) -> float:
        if step not in self._scores:
            try:
                score = self._read(step, check=ocp.args.JsonRestore()).check["score"]
            except Exception:
                score = None
            self._scores[step] = float(score) if type(score) in (int, float) else -math.inf
        return self._scores[step]

    def steps(self) -> list[int]:
        """The steps whose checkpoints are whole on disk, oldest first."""
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Blocks until what `save` started is on disk. Raises OSError where it cannot be."""
        with self._write_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        self._manager.close()
        self._reader.close()
