"""A person's files: paths as they are typed, JSON whatever it holds, writes that are whole or none."""

import errno
import os
from pathlib import Path

import pytest

from vae_jax.errors import UserError, message_of
from vae_jax.files import cache_folder, parse_json, read_json, replacement, user_path, write_json, write_text


def test_a_path_is_read_as_a_shell_would(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/runs/x") == Path("/home/me/runs/x")
    assert user_path(Path("runs/~x")) == Path("runs/~x")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "has no value"),
        ("a\nb", "without line breaks"),
        ("a\x1b[2Jb", "without line breaks"),
        ("~nobody_here/x", "knows no user 'nobody_here'"),
    ],
)
def test_what_is_no_path_is_said(path, message):
    with pytest.raises(UserError, match=message):
        user_path(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000])
def test_damaged_json_is_empty_or_a_line(tmp_path, content):
    file = tmp_path / "x.json"
    file.write_bytes(content)
    assert read_json(file) == {}
    with pytest.raises(UserError, match=r"x\.json: cannot be read \("):
        parse_json(file)
    assert read_json(tmp_path) == read_json(tmp_path / "missing") == {}


def fail_halfway(file):
    with replacement(file) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    with pytest.raises(OSError, match="space") as failed:
        fail_halfway(file)
    assert message_of(failed.value) == (
        f"{file}: no space left on device; free some space and give the same command again"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert read_json(file) == {"a": 1}
    with pytest.raises(OSError, match="directory") as failed:
        write_text(tmp_path / "nowhere" / "x", "text")
    assert message_of(failed.value).startswith(f"{tmp_path / 'nowhere' / 'x'}: ")


def test_a_name_that_is_no_text_can_be_written(tmp_path):
    write_text(tmp_path / "x", "a\udcffb")
    assert (tmp_path / "x").read_text() == "a\\udcffb"


def test_caches_lie_below_the_users_own_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder("xla") == Path("/cache/vae_jax/xla")
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # which is no path, and not the folder one stands in
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder("xla") == Path("/home/me/.cache/vae_jax/xla")
