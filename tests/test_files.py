from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from svdlab.files import atomic_path, cache_dir, file_lock, sha256_bytes, sha256_file, write_atomic


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    for name in ("SVDLAB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path.home() / ".cache" / "svdlab"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "svdlab"
    monkeypatch.setenv("SVDLAB_CACHE", "~/mine")
    assert cache_dir() == Path.home() / "mine"


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def half_way():
        with atomic_path(path) as tmp:
            tmp.write_text("ne")
            assert tmp.suffix == path.suffix
            assert path.read_text() == "old"
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        half_way()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_hashes_are_sha256(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "data").write_bytes(data)
    assert sha256_file(tmp_path / "data") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_a_lock_has_one_holder_and_is_free_after_an_error(tmp_path):
    path = tmp_path / "lock"
    with file_lock(path) as fd:
        assert os.write(fd, b"mine") == 4
        with pytest.raises(BlockingIOError), file_lock(path):
            pytest.fail("two holders")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ZeroDivisionError), file_lock(path):
        raise ZeroDivisionError
    with file_lock(path):
        assert path.read_bytes() == b"mine"
    with pytest.raises(IsADirectoryError), file_lock(tmp_path):
        pytest.fail("a folder was locked")
