"""Checkpoints of a run: asynchronous, checked on the way back, the last few and the best kept.

The only file that imports orbax. Orbax restores a file with a flipped byte without a word, so a
digest of every array is stored beside the arrays and compared on restoring. Of several processes that train a run
together all save and all restore: the first writes, and what one finds damaged is damaged for all.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from vae_jax.errors import UserError
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup

logging.getLogger("absl").setLevel(logging.ERROR)


def digest(tree: Any) -> str:
    """SHA-256 over the paths, dtypes, shapes and bytes of a tree's arrays."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};".encode())
        total.update(np.ascontiguousarray(leaf).data)
    return total.hexdigest()


def _reason(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:120] or type(error).__name__


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (tuple(leaf.shape), str(leaf.dtype)), tree)


class Checkpoints:
    """The folder `checkpoints/` of a run of the processes of `group`.

    A score is higher for better; None cannot be the best. Raises UserError where one of the group sees another folder.
    """

    def __init__(self, folder: Path, keep: int = 2, read_only: bool = False, group: ProcessGroup = SINGLE_PROCESS):
        best = BestN(get_metric_fn=lambda metrics: metrics["score"], n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if read_only else AnyPreservationPolicy([LatestN(keep), best]),
            # The policy decides; without best_fn too, scores are not written and a restart forgets them.
            best_fn=lambda metrics: metrics["score"],
            best_mode="max",
            create=False,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            # With processes named, it waits for them through the coordination service and not through their devices.
            multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes=set(range(group.count))),
        )
        self.folder, self._group = folder, group
        self._read_only = read_only
        if not read_only:
            group.broadcast_first(lambda: folder.mkdir(parents=True, exist_ok=True))
            group.assert_equal({f"--workdir: what all hosts must see in {folder}": self._listed()})
        self._manager = ocp.CheckpointManager(Path(folder).resolve(), options=options)
        # Each reads for itself: who fails would never come to Orbax's barrier, and the others wait there.
        self._reader = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(),
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=group.index, active_processes={group.index}
            ),
        )

    def _read(self, step: int, **items: ocp.args.CheckpointArgs) -> Any:
        return self._reader.restore(Path(self.folder).resolve() / str(step), args=ocp.args.Composite(**items))

    def _listed(self) -> list[str] | str:
        if not self.folder.is_dir():
            return "no such folder"
        return sorted(path.name for path in self.folder.iterdir() if path.name.isdecimal())

    def save(self, step: int, state: Any, score: float | None) -> None:
        """Starts to save; returns once the state is copied, so that its buffers may be donated."""
        host = jax.tree.map(lambda leaf: np.array(leaf), state)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(host), check=ocp.args.JsonSave({"digest": digest(host), "score": score})
        )
        self._manager.save(step, args=arguments, metrics=None if score is None else {"score": score})

    def restore(self, shape: Any, which: str | int = "latest") -> tuple[int, Any] | None:
        """The newest whole state of this `shape` and its step, the best by score, or that of a step; None where none.

        A damaged one is named in a warning, of the first process, and the one before it (or next best) is taken; in a
        folder open for writing it is deleted once another is found whole. Raises UserError where none is.
        """
        self.wait()
        steps = self.steps()[::-1]
        if which == "best":
            steps = sorted(steps, key=lambda step: (self._score(step), step), reverse=True)
        elif which != "latest":
            steps = [step for step in steps if step == which]
        damaged: list[int] = []
        for step in steps:
            state, reason = self._try_restore(step, shape)
            if not reason:
                self._delete(damaged)
                return step, state
            if self._group.index == 0:
                logging.getLogger(__name__).warning(
                    "checkpoint %d in %s is damaged (%s); trying the one before it", step, self.folder, reason
                )
            damaged.append(step)
        if steps:
            raise UserError(
                f"{self.folder}: none of the checkpoints {sorted(steps)} can be restored ({reason}); "
                "all are left as they are, start in a new workdir"
            )
        return None

    def _delete(self, steps: list[int]) -> None:
        for step in () if self._read_only else steps:
            self._manager.delete(step)

    def _try_restore(self, step: int, shape: Any) -> tuple[Any, str]:
        """The state of a step, or why one of the group could not restore it."""
        state, reason = None, ""
        try:
            state = self._restore(step, shape)
        except Exception as error:
            reason = _reason(error)
        return state, next(filter(None, self._group.all_gather(reason)), "")

    def _restore(self, step: int, shape: Any) -> Any:
        abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
        restored = self._read(step, state=ocp.args.StandardRestore(abstract), check=ocp.args.JsonRestore())
        if digest(restored.state) != restored.check["digest"]:
            raise ValueError("its arrays do not match their checksum")
        if _shapes(restored.state) != _shapes(abstract):
            raise ValueError("its arrays have not the shapes and dtypes that the config gives")
        return restored.state

    def _score(self, step: int) -> float:
        try:
            score = self._read(step, check=ocp.args.JsonRestore()).check["score"]
        except Exception:
            score = None
        return -np.inf if score is None else score

    def steps(self) -> list[int]:
        """The steps whose checkpoints are whole on disk, oldest first."""
        return sorted(self._manager.all_steps())

    def wait(self) -> None:
        """Blocks until what `save` started is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        self._manager.close()
        self._reader.close()
