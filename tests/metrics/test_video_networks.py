"""Video networks as feature extractors: true ResNets of torchvision, with weights from files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.video import mc3_18
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet
from torchvision.transforms._presets import VideoClassification

from svdlab.errors import MetricError, WeightsError
from svdlab.metrics import clip_features, compare_sets, load_video_network
from svdlab.metrics.video_networks import video_network


def small(seed: int = 0) -> VideoResNet:
    """A quarter of r3d_18: one block a stage."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem).eval()


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 4, 48, 64, 3), dtype=np.uint8)


def test_features_are_what_stands_before_the_last_layer_with_torchvisions_preprocessing(clips):
    whole = small()
    kept: list[torch.Tensor] = []
    whole.fc.register_forward_hook(lambda module, given, out: kept.append(given[0]))
    prepare = VideoClassification(crop_size=(112, 112), resize_size=(128, 171))
    with torch.no_grad():
        whole(prepare(torch.from_numpy(clips[0]).permute(0, 3, 1, 2))[None])
    ours = video_network(small(), name="small")(clips[0])
    assert ours.shape == (512,)
    np.testing.assert_allclose(ours, kept[0][0].numpy(), rtol=1e-3, atol=1e-3)


def test_the_name_is_that_of_the_weights(clips):
    first, again, other = (video_network(small(seed), name="small") for seed in (0, 0, 1))
    assert first.name == again.name == f"small-{first.fingerprint[:8]}"
    assert first.name != other.name
    np.testing.assert_array_equal(first(clips[0]), again(clips[0]))
    assert not np.allclose(first(clips[0]), other(clips[0]))


def test_two_sets_of_clips_end_to_end(clips):
    network = video_network(small(), name="small")
    features = clip_features(clips, network, progress=False)
    assert features.shape == (4, 512)
    result = compare_sets(features, features + 1, network=network.name, min_clips=4, halves=10)
    assert result.distance == pytest.approx(512, rel=1e-6)
    assert result.name.startswith("Frechet distance on small-")
    with pytest.raises(MetricError, match="4 clips are too few"):
        compare_sets(features, features, network=network.name)


def test_weights_come_from_a_safetensors_file(clips, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mc3_18(weights=None)
    save_file(model.state_dict(), tmp_path / "mc3.safetensors")
    network = load_video_network("mc3_18", tmp_path / "mc3.safetensors")
    assert network.label == "mc3.safetensors"
    np.testing.assert_array_equal(network(clips[0]), video_network(model, name="mc3_18")(clips[0]))


def test_what_is_not_such_a_network_is_refused(tmp_path):
    save_file({"stem.0.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="the file is not torchvision's mc3_18: "):
        load_video_network("mc3_18", tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="is no file"):
        load_video_network("mc3_18", tmp_path / "none.safetensors")
    with pytest.raises(MetricError, match=r"'i3d': known are r3d_18, .* write a function frames -> vector"):
        load_video_network("i3d", tmp_path / "other.safetensors")
    with pytest.raises(MetricError, match="module is a Linear; allowed is torchvision's VideoResNet"):
        video_network(torch.nn.Linear(1, 1), name="mine")  # type: ignore[arg-type]
