import logging
import shutil

import jax
import numpy as np
import pytest
from helpers import tiny_vae

from vae_jax.errors import UserError
from vae_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("undrawn")


def states(count):
    """Distinguishable states: state i has i added to every parameter."""
    return [
        jax.tree.map(lambda leaf, i=i: leaf + np.asarray(i, leaf.dtype), tiny_vae.state(ema=0.9)) for i in range(count)
    ]


def saved(folder, scores, keep=2):
    checkpoints = Checkpoints(folder, keep)
    for i, (state, score) in enumerate(zip(states(len(scores)), scores, strict=True)):
        checkpoints.save(10 * i, state, score)
    checkpoints.wait()
    return checkpoints


def flip_a_byte(folder):
    """Changes one byte in the middle of the largest file: the arrays."""
    file = max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_what_is_saved_comes_back_to_the_bit(tmp_path):
    checkpoints = saved(tmp_path, [None, -3.0])
    step, restored = checkpoints.restore(tiny_vae.state(ema=0.9))
    assert step == 10
    jax.tree.map(np.testing.assert_array_equal, restored, states(2)[1])
    assert jax.tree.structure(restored) == jax.tree.structure(tiny_vae.state(ema=0.9))
    checkpoints.close()


def test_the_last_and_the_best_are_kept(tmp_path):
    checkpoints = saved(tmp_path, [-9.0, -1.0, -5.0, None, -4.0, -6.0])
    assert checkpoints.steps() == [10, 40, 50]
    assert checkpoints.restore(tiny_vae.state(ema=0.9), "best")[0] == 10
    assert checkpoints.restore(tiny_vae.state(ema=0.9), "latest")[0] == 50
    checkpoints.close()


def test_the_best_is_remembered_by_the_next_process(tmp_path):
    saved(tmp_path, [-1.0, -5.0]).close()
    checkpoints = Checkpoints(tmp_path)
    for step, score in ((20, None), (30, -7.0), (40, -9.0)):
        checkpoints.save(step, states(1)[0], score)
    checkpoints.wait()
    assert checkpoints.steps() == [0, 30, 40]
    checkpoints.close()


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_newest_falls_back_and_says_so(tmp_path, caplog, damage):
    saved(tmp_path, [-2.0, -1.0]).close()
    if damage == "flip":
        flip_a_byte(tmp_path / "10")
    else:
        for file in (tmp_path / "10" / "state").rglob("*"):
            if file.is_file():
                file.write_bytes(b"") if damage == "truncate" else file.unlink()
    checkpoints = Checkpoints(tmp_path)
    with caplog.at_level(logging.WARNING):
        step, restored = checkpoints.restore(tiny_vae.state(ema=0.9))
    assert step == 0
    jax.tree.map(np.testing.assert_array_equal, restored, states(1)[0])
    assert "checkpoint 10" in caplog.text
    assert "damaged" in caplog.text
    checkpoints.save(10, states(2)[1], None)  # the damaged one no longer stands in the way
    assert checkpoints.restore(tiny_vae.state(ema=0.9))[0] == 10
    checkpoints.close()


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore's threads, now and then
def test_whichever_file_of_the_newest_is_emptied_the_one_before_it_is_taken(tmp_path):
    saved(tmp_path / "whole", [-2.0, -1.0]).close()
    files = [file for file in (tmp_path / "whole" / "10").rglob("*") if file.is_file()]
    harmless = []
    for file in (file.relative_to(tmp_path / "whole") for file in files):
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        (tmp_path / "copy" / file).write_bytes(b"")
        checkpoints = Checkpoints(tmp_path / "copy", read_only=True)
        step, restored = checkpoints.restore(tiny_vae.state(ema=0.9))
        jax.tree.map(np.testing.assert_array_equal, restored, states(2)[step // 10])
        harmless += [file] if step == 10 else []
        checkpoints.close()
        shutil.rmtree(tmp_path / "copy")
    assert len(harmless) < len(files)


@pytest.mark.parametrize("content", ["[1, 2]", "[" * 100_000])
def test_what_keeps_orbax_from_opening_the_folder_is_set_aside(tmp_path, caplog, content):
    saved(tmp_path, [-2.0, -1.0]).close()
    (tmp_path / "10" / "_CHECKPOINT_METADATA").write_text(content)
    with pytest.raises(UserError, match="remove 10"):
        Checkpoints(tmp_path, read_only=True)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(tiny_vae.state(ema=0.9))[0] == 0
    assert "checkpoint 10 in" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "10.damaged"]
    checkpoints.close()


def test_a_checkpoint_under_the_name_of_another_step_is_not_believed(tmp_path, caplog):
    saved(tmp_path, [-2.0, -1.0]).close()
    (tmp_path / "10").rename(tmp_path / "30")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(tiny_vae.state(ema=0.9))[0] == 0
    assert "checkpoint 30 in" in caplog.text
    assert "it holds the state of step 10" in caplog.text
    checkpoints.close()


def test_the_best_of_the_regular_steps_is_kept_beside_the_best_of_all(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, regular=lambda step: step != 35)
    for step, score in ((10, -2.0), (20, -5.0), (30, -4.0), (35, -1.0), (40, -6.0)):
        checkpoints.save(step, states(1)[0], score)
    checkpoints.wait()
    assert checkpoints.steps() == [10, 35, 40]
    checkpoints.close()


def test_what_cannot_be_saved_is_said_in_a_line_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, [-2.0])
    checkpoints.save(10, states(2)[1], -1.0)
    checkpoints.wait()

    def fail(*arguments, **options):
        (tmp_path / "20.orbax-checkpoint-tmp").mkdir()
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 171 bytes to file 14: No space left on device [os=28]")

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(
        OSError, match=r"^.*cannot be written \(no space left on device\); once it can, the same command"
    ):
        checkpoints.save(20, states(1)[0], 0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "10"]
    assert checkpoints.restore(tiny_vae.state(ema=0.9))[0] == 10
    checkpoints.close()


@pytest.mark.full
def test_another_dtype_is_noticed(tmp_path):
    checkpoints = saved(tmp_path, [None])
    other = jax.tree.map(
        lambda leaf: leaf.astype("bfloat16") if leaf.dtype == "float32" else leaf, tiny_vae.state(ema=0.9)
    )
    for _ in range(2):  # nothing is deleted where nothing can be restored
        with pytest.raises(UserError, match=r"none of the checkpoints \[0\] can be restored"):
            checkpoints.restore(other)
    assert checkpoints.restore(tiny_vae.state(ema=0.9))[0] == 0
    checkpoints.close()


@pytest.mark.full
def test_another_shape_or_tree_is_noticed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {"a": np.ones(3, np.float32)}, None)
    checkpoints.wait()
    for other in ({"a": np.ones(5, np.float32)}, {"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)}):
        with pytest.raises(UserError, match="none of the checkpoints"):
            checkpoints.restore(other)
    checkpoints.close()


def test_an_empty_folder_holds_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(tiny_vae.state()) is None
    checkpoints.close()
