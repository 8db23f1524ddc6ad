"""Real models on a real disk: small folders, the hub's cache layout, and a hub that answers on localhost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from svdlab.files import sha256_file
from svdlab.models import load_components
from svdlab.models.components import Components
from svdlab.models.fingerprint import hash_tensors

PARTS = ("unet", "vae", "image_encoder", "feature_extractor")


def save(models: tuple, folder: Path, **how: object) -> Path:
    """Save components with the libraries' own save_pretrained."""
    for part, model in zip(PARTS, models, strict=True):
        model.save_pretrained(folder / part, **(how if part != "feature_extractor" else {}))
    return folder


def link_tree(source: Path, target: Path) -> Path:
    """A copy that costs nothing. Replace its files; do not write into them."""

    def link(one: str, other: str) -> None:
        if not Path(other).exists():
            os.link(one, other)

    return Path(shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True))


def replace_json(path: Path, **changes: object) -> None:
    config = {**json.loads(path.read_text()), **changes}
    path.unlink()
    path.write_text(json.dumps(config))


def files_in(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def load(where: str | os.PathLike[str], **how: object) -> Components:
    """load_components on the CPU."""
    return load_components(where, device="cpu", **how)  # type: ignore[arg-type]


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return hash_tensors(one) == hash_tensors(other)


def cache_repo(
    cache: Path, repo_id: str, files: dict[str, Path], *, commit: str = "a" * 40, revision: str = "main"
) -> Path:
    """Lay files out as the hub's client does: blobs by hash, a snapshot of links, a ref. The snapshot's folder."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        digest = sha256_file(source) if name.endswith(".safetensors") else git_hash(source)
        blob = repo / "blobs" / digest
        if not blob.exists():
            os.link(source, blob)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    ref = repo / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    return snapshot


def git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(ThreadingHTTPServer):
    """Enough of the hub's protocol for model_info and snapshot_download, over real HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repos: dict[str, dict[str, Path]] = {}
        self.gated: set[str] = set()
        self.commit = "b" * 40
        self.served: list[str] = []  # paths of the files whose bytes were asked for
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server
        hub.asked += 1
        path = self.path.split("?")[0].strip("/").split("/")
        api = path[:2] == ["api", "models"]
        repo_id = "/".join(path[2:4] if api else path[:2])
        rest = path[4:] if api else path[2:]
        if repo_id not in hub.repos:
            return self._refuse(401, "RepoNotFound")
        if len(rest) > 1 and rest[1] not in ("main", hub.commit):
            return self._refuse(404, "RevisionNotFound")
        files = hub.repos[repo_id]
        if api and rest[:1] == ["tree"]:
            return self._json([self._entry(name, file) for name, file in files.items()])
        if api:
            siblings = [{"rfilename": name, "size": file.stat().st_size} for name, file in files.items()]
            return self._json({"id": repo_id, "sha": hub.commit, "siblings": siblings})
        if repo_id in hub.gated:
            return self._refuse(403, "GatedRepo")
        name = "/".join(rest[2:])
        if name not in files:
            return self._refuse(404, "EntryNotFound")
        if self.command == "GET":
            hub.served.append(f"{repo_id}/{name}")
        digest = sha256_file(files[name]) if name.endswith(".safetensors") else git_hash(files[name])
        return self._send(files[name].read_bytes(), {"ETag": f'"{digest}"', "X-Repo-Commit": hub.commit})

    def _entry(self, name: str, file: Path) -> dict[str, object]:
        entry = {"type": "file", "path": name, "size": file.stat().st_size, "oid": git_hash(file)}
        if name.endswith(".safetensors"):
            entry["lfs"] = {"oid": sha256_file(file), "size": file.stat().st_size, "pointerSize": 134}
        return entry

    def _json(self, value: object) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"{}", {"X-Error-Code": code, "Content-Type": "application/json"}, status)

    def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
