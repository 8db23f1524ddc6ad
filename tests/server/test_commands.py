"""`svdlab keys` and `svdlab serve` as a person types them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from svdlab.cli import app
from svdlab.errors import ServerError
from svdlab.server.keys import Doorkeeper
from svdlab.server.store import Store
from tests.server.running import APP
from tests.server.test_crash import served

RUN = CliRunner()


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "served")]
    assert "no keys; make one" in RUN.invoke(app, ["keys", "list", *data]).output
    made = RUN.invoke(app, ["keys", "add", "alice", *data])
    key = made.output.removeprefix("key: ").strip()
    id, _, secret = key.partition(":")
    with Store(tmp_path / "served" / "server.sqlite") as store:
        assert Doorkeeper(store).owner(f"Key {key}") == id
        listed = RUN.invoke(app, ["keys", "list", *data]).output
        assert id in listed
        assert "alice" in listed
        assert secret not in listed
        with pytest.raises(ServerError, match="there is a key of that name"):
            RUN.invoke(app, ["keys", "add", "alice", *data], catch_exceptions=False)
        assert RUN.invoke(app, ["keys", "revoke", "alice", *data]).output == "revoked: alice\n"
        assert Doorkeeper(store).owner(f"Key {key}") is None
        with pytest.raises(ServerError, match="no valid key"):
            RUN.invoke(app, ["keys", "revoke", id, *data], catch_exceptions=False)
    for name in ("", " ", "x" * 65, "a\nb", "<b>"):
        with pytest.raises(ServerError, match="name = "):
            RUN.invoke(app, ["keys", "add", name, *data], catch_exceptions=False)


def test_a_server_without_keys_prints_one_that_holds_until_it_ends(tmp_path: Path) -> None:
    printed = []
    for _ in range(2):
        with served(tmp_path) as (process, url):
            assert process.stdout is not None
            label, _, key = process.stdout.readline().strip().partition(": ")
            printed.append(key)
            assert (label, process.stdout.readline().strip()) == ("key", f"page: {url}/#key={key}")
            assert url.startswith("http://127.0.0.1:")
            codes = []
            for given in (key, f"{key}0", printed[0]):
                headers = {"Authorization": f"Key {given}"}
                codes.append(httpx.get(f"{url}/queue/{APP}/requests/none", headers=headers).status_code)
    assert codes == [404, 401, 401]  # the second server's own, a wrong one, the first server's
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert not any(key.partition(":")[2].encode() in kept for key in printed)


def test_serving_others_needs_keys_and_an_address(tmp_path: Path) -> None:
    serve = ["serve", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path)]
    with pytest.raises(ServerError, match="svdlab keys add"):
        RUN.invoke(app, serve, catch_exceptions=False)
    RUN.invoke(app, ["keys", "add", "alice", "--data", str(tmp_path)], catch_exceptions=False)
    with pytest.raises(ServerError, match="--public-url"):
        RUN.invoke(app, serve, catch_exceptions=False)
    with pytest.raises(ServerError, match="cannot be listened on"):
        RUN.invoke(
            app, ["serve", "--host", "not-here.invalid", "--public-url", "http://a", *serve[3:]], catch_exceptions=False
        )
