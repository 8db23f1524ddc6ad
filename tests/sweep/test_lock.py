"""Lock: one writer a directory, among processes and within one; free when its process dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from svdlab.errors import SweepError
from svdlab.sweep.lock import holder, locked

HOLD = """
import sys
from svdlab.sweep.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_writes(tmp_path, other):
    with pytest.raises(SweepError, match=rf"process {other.pid} on .* is writing there.*open_sweep"), locked(tmp_path):
        pytest.fail("two writers")
    other.communicate(input="", timeout=30)
    with locked(tmp_path):
        assert json.loads((tmp_path / "lock").read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_the_lock_of_a_killed_process_is_free(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    other.wait(timeout=30)
    assert str(other.pid) in (tmp_path / "lock").read_text(encoding="utf-8")  # its name is still there
    with locked(tmp_path):
        pass


def test_the_same_process_is_refused_too(tmp_path):
    with locked(tmp_path), pytest.raises(SweepError, match=f"process {os.getpid()} "), locked(tmp_path):
        pytest.fail("two writers")


def test_the_lock_is_free_after_an_error_and_its_file_is_empty(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    assert (tmp_path / "lock").read_bytes() == b""
    with locked(tmp_path):
        pass


def test_a_holder_that_is_not_known_is_called_another_process(tmp_path):
    assert holder(tmp_path) == "another process"
    for text in ("", "[]", '{"pid": 3}'):
        (tmp_path / "lock").write_text(text, encoding="utf-8")
        assert holder(tmp_path) == "another process"
