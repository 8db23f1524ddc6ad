"""Metrics on networks that the user brings: small true networks, saved as files and loaded as a user would."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models.optical_flow import raft_small
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

import svdlab as sl
from svdlab import metrics
from svdlab.clip import Clip
from svdlab.errors import MetricError, WeightsError
from svdlab.metrics import score, score_frames, vbench
from svdlab.metrics.feature_networks import load_image_encoder, load_raft
from svdlab.metrics.network_files import weights_in, weights_version
from svdlab.metrics.vbench_networks import how_to_have
from tests.metrics.conftest import frozen, pan

pytestmark = pytest.mark.usefixtures("own_registry")

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
DINO = ("dino_consistency", "dino_input", "dino_i2v")


def saved(model: torch.nn.Module, folder: Path) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def seeded(make, seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval()


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> dict[str, Path]:
    """Folders and files with small networks of the true classes and seeded random weights."""
    root = tmp_path_factory.mktemp("networks")
    vit = ViTConfig(**SMALL, image_size=64, patch_size=16)
    clip = CLIPVisionConfig(**SMALL, image_size=64, patch_size=16, projection_dim=16)
    found = {
        "dino": saved(seeded(lambda: ViTModel(vit, add_pooling_layer=False)), root / "dino"),
        "other": saved(seeded(lambda: ViTModel(vit, add_pooling_layer=False), seed=1), root / "other"),
        "dinov2": saved(
            seeded(lambda: Dinov2Model(Dinov2Config(**SMALL, image_size=70, patch_size=14))), root / "dinov2"
        ),
        "clip": saved(seeded(lambda: CLIPVisionModelWithProjection(clip)), root / "clip"),
        "raft": root / "raft_small.safetensors",
        "head": root / "head.safetensors",
    }
    save_file(seeded(raft_small).state_dict(), found["raft"])
    save_file({"weight": torch.linspace(-1, 1, 16)[None], "bias": torch.tensor([5.0])}, found["head"])
    return found


@pytest.fixture
def moving(photo) -> Clip:
    frames = pan(photo, step=6, count=4)
    return Clip(frames=frames, fps=8, image=frames[0])


def test_likeness_is_vbenchs_formula_on_vbenchs_pictures(networks, moving):
    """Resize to 224, scale, ImageNet's mean and deviation, class token: what VBench gives its DINO."""
    assert metrics.use_encoder("dino", networks["dino"]) == DINO
    x = torch.from_numpy(np.concatenate([moving.frames, moving.image[None]])).permute(0, 3, 1, 2).float()
    pictures = Compose([Resize(224, antialias=False), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])(x / 255)
    model = ViTModel.from_pretrained(networks["dino"], add_pooling_layer=False).eval()
    with torch.no_grad():
        tokens = model(pictures, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    unit = torch.nn.functional.normalize(tokens.double(), dim=-1).numpy()
    values = score(moving, names=DINO)
    assert values["dino_consistency"] == pytest.approx(vbench.consistency(unit[:-1]).mean(), abs=1e-6)
    assert values["dino_i2v"] == pytest.approx(vbench.i2v(unit[-1], unit[:-1]), abs=1e-6)
    assert values["dino_input"] == pytest.approx((unit[:-1] @ unit[-1]).mean(), abs=1e-6)
    assert values["dino_consistency"] < 1 - 1e-6


def test_clip_pictures_are_cropped_as_vbench_does(networks, moving):
    encoder = load_image_encoder(networks["clip"])
    x = torch.from_numpy(moving.frames).permute(0, 3, 1, 2).float()
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    resize = Resize(64, interpolation=InterpolationMode.BICUBIC, antialias=False)
    pictures = Normalize(mean, std)(CenterCrop(64)(resize(x)) / 255)
    with torch.no_grad():
        wanted = CLIPVisionModelWithProjection.from_pretrained(networks["clip"]).eval()(pictures).image_embeds
    np.testing.assert_allclose(encoder.embed(moving.frames), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["dino", "dinov2", "clip"])
def test_a_frozen_clip_is_perfect_with_any_encoder(networks, photo, kind):
    still = frozen(photo, 3)
    names = metrics.use_encoder("mine", networks[kind])
    assert names == ("mine_consistency", "mine_input", "mine_i2v")
    assert score(Clip(frames=still, fps=8, image=still[0]), names=names) == dict.fromkeys(
        names, pytest.approx(1, abs=1e-6)
    )


def test_an_encoder_can_stand_in_for_the_pipelines(networks, moving):
    dino = load_image_encoder(networks["dino"])
    metrics.use_encoder("dino", networks["dino"])
    values = score(moving, encoder=dino, names=["clip_input", "dino_input"])
    assert values["clip_input"] == pytest.approx(values["dino_input"], abs=1e-12)


def test_the_version_is_that_of_the_weights(networks, tmp_path):
    def version(folder: Path) -> int:
        metrics.use_encoder("dino", folder)
        return metrics.get("dino_i2v").version

    copy = shutil.copytree(networks["dino"], tmp_path / "elsewhere")
    first = version(networks["dino"])
    assert version(copy) == first  # wherever they lie
    assert version(networks["other"]) != first
    assert version(networks["dinov2"]) != first
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    assert version(copy) != first  # the same tensors in another network
    about = metrics.get("dino_i2v")
    assert about.settings["weights"].startswith(weights_in(about.version))
    assert about.settings["encoder"] == "elsewhere"  # a name, no path
    assert str(tmp_path) not in str(about.describe())


def test_every_optional_metric_is_described_and_on_the_page(networks):
    names = [
        *metrics.use_encoder("dino", networks["dino"]),
        *metrics.use_raft(networks["raft"]),
        *metrics.use_aesthetic(networks["clip"], networks["head"]),
        *metrics.use_vbench_forms(),
    ]
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    for about in metrics.describe(names):
        assert f"`{about['name']}`" in page, about["name"]
        assert len(about["description"]) > 80, about["name"]
        assert about["source"]
        assert about["family"] == "vbench"
        assert "vbench" not in about["name"]


def test_versions_hold_formula_and_weights_and_stay_exact_in_json():
    assert weights_version(1, "3fa2b1c0d4e5f607") == 1069967999456485
    assert weights_in(1069967999456485) == "3fa2b1c0d4e5"
    assert weights_in(weights_version(2, "0" * 16)) == "0" * 12
    assert weights_in(1) is None
    assert weights_version(8, "f" * 16) < 2**53


def test_values_of_other_weights_are_computed_again_and_never_mixed(networks, tmp_path):
    pipe = sl.load("tiny-random", device="cpu")
    sweep = sl.sweep(
        pipe, image=sl.examples.path("rocket"), steps=[1, 2], seed=0, num_frames=3, out=tmp_path / "run",
        metrics=["flicker"], progress=False,
    )  # fmt: skip
    metrics.use_encoder("dino", networks["dino"])
    sweep.backfill(["dino_consistency"], pipe=pipe, progress=False)
    first = sweep.frame()["dino_consistency"]
    clip = sweep.clip(sweep.frame()["cell"][1], pipe=pipe)
    assert first[1] == pytest.approx(score(clip, names=["dino_consistency"])["dino_consistency"], abs=1e-12)
    metrics.use_encoder("dino", networks["other"])
    sweep.backfill(["dino_consistency"], pipe=pipe, progress=False)
    rows = sweep.metric_table().query("name == 'dino_consistency'")
    assert set(rows["version"]) == {metrics.get("dino_consistency").version}
    assert not np.isclose(sweep.frame()["dino_consistency"], first, atol=1e-9).any()
    assert "dino_consistency" in (sweep.path / "results.csv").read_text("utf-8").splitlines()[0]


def test_raft_is_torchvisions_on_frames_that_it_can_take_as_they_are(networks, photo):
    first, second = pan(photo, step=2, count=2, height=128, width=136)
    raft = load_raft(networks["raft"])
    model = seeded(raft_small)
    a, b = (torch.from_numpy(f).permute(2, 0, 1)[None].float() / 127.5 - 1 for f in (first, second))
    with torch.no_grad():
        flow = model(a, b, num_flow_updates=20)[-1][0].numpy()
    np.testing.assert_allclose(raft.lengths(first, second), np.hypot(*flow), rtol=1e-4, atol=1e-3)


def test_raft_metrics_agree_with_each_other_on_small_frames(networks, photo):
    names = metrics.use_raft(networks["raft"])
    frames = pan(photo, step=2, count=4, height=50, width=66)  # neither 128 px nor a multiple of 8
    clip = Clip(frames=frames, fps=8)
    raft = load_raft(networks["raft"])
    fields = [raft.lengths(a, b) for a, b in pairwise(frames)]
    assert {field.shape for field in fields} == {(50, 66)}
    values = score(clip, names=names)
    assert values["raft_mean"] == pytest.approx(np.mean(fields), rel=1e-6)
    tops = np.array([vbench.top_lengths(field) for field in fields])
    assert values["raft_dynamic_ratio"] == pytest.approx(vbench.dynamic_ratio(tops, width=66, height=50))
    assert values["raft_dynamic"] == (values["raft_dynamic_ratio"] > 1)
    rarer = score(Clip(frames=frames, fps=24), names=["raft_dynamic_ratio"])["raft_dynamic_ratio"]
    lone = vbench.top_lengths(raft.lengths(frames[0], frames[3]))
    assert rarer == pytest.approx(lone / (6 * 50 / 256), rel=1e-6)


def test_the_rating_is_the_linear_head_on_unit_embeddings(networks, moving):
    assert metrics.use_aesthetic(networks["clip"], networks["head"]) == ("aesthetic_linear",)
    vectors = load_image_encoder(networks["clip"]).embed(moving.frames).astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted = (unit @ np.linspace(-1, 1, 16) + 5) / 10
    np.testing.assert_allclose(score_frames(moving, names=["aesthetic_linear"])["aesthetic_linear"], wanted, atol=1e-6)


def test_none_of_them_is_there_without_weights_and_it_is_known_how_to_have_them():
    optional = ["dino_consistency", "raft_dynamic", "aesthetic_linear", "clip_consistency", "dis_smoothness"]
    assert not set(optional) & set(metrics.names())
    for name, call in zip(
        optional, ["use_encoder('dino'", "use_raft(", "use_aesthetic(", "use_vbench_forms()", "use_vbench_forms()"],
        strict=True,
    ):  # fmt: skip
        assert call in how_to_have(name)
        with pytest.raises(MetricError, match=f"metric '{name}' is not in use: .*{re.escape(call)}"):
            metrics.get(name)
    assert "nothing is downloaded" in how_to_have("dino_input")
    assert "use_encoder('clipb32'" in how_to_have("clipb32_consistency")
    meaningless = ("flow_mean", "clip_input", "nonsense", "Dino_input", "raft_input", "ssimm_input", "dino_mean")
    assert not any(how_to_have(name) for name in meaningless)


@pytest.mark.parametrize(
    ("prefix", "words"), [("clip", "none of clip, dis"), ("Dino", "small letters"), ("a_b", "small"), (3, "prefix=3")]
)
def test_a_prefix_that_says_nothing_or_something_else_is_refused(networks, prefix, words):
    with pytest.raises(MetricError, match=words):
        metrics.use_encoder(prefix, networks["dino"])


def test_weights_that_are_not_there_are_refused_in_words_and_never_fetched(networks, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    shutil.copy(networks["dino"] / "config.json", tmp_path / "pickled")
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    for weights, options, words in [
        (tmp_path / "none", {}, "is no folder. Give a folder with config.json and model.safetensors"),
        (3, {}, "weights=3 must be the path of a folder, or a hub repository"),
        (tmp_path / "empty", {}, "lacks config.json and model.safetensors"),
        (tmp_path / "pickled", {}, "pytorch_model.bin is a pickle"),
        (networks["dino"], {"revision": "main"}, "is a folder, which has none"),
        ("svdlab-tests/no-such-model", {}, "Pass download=True to fetch it"),
        ("svdlab-tests/no-such-model", {"download": True}, "HF_HUB_OFFLINE=1 forbids the network"),
    ]:
        with pytest.raises(WeightsError, match=words):
            metrics.use_encoder("dino", weights, **options)
    assert "dino_input" not in metrics.names()


def test_a_network_is_never_left_at_random(networks, tmp_path):
    part = shutil.copytree(networks["dino"], tmp_path / "part")
    tensors = load_file(part / "model.safetensors")
    gone = next(name for name in tensors if "attention" in name)
    save_file({k: v for k, v in tensors.items() if k != gone}, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing: .*would be left at random"):
        metrics.use_encoder("dino", part)
    (part / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="is damaged"):
        metrics.use_encoder("dino", part)
    (part / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="holds a 'bert'; image encoders that are known: vit, dinov2"):
        metrics.use_encoder("dino", part)
    (part / "config.json").write_text("[")
    with pytest.raises(WeightsError, match="cannot be read as a config"):
        metrics.use_encoder("dino", part)


def test_files_that_are_not_what_they_should_be_are_named(networks, tmp_path):
    torch.save({}, tmp_path / "raft.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    raft = load_file(networks["raft"])
    first = next(iter(raft))
    for name, tensors in {
        "fewer": {k: v for k, v in raft.items() if k != first},
        "more": {**raft, "extra": torch.zeros(1)},
        "shape": {**raft, first: raft[first][:1].clone()},
        "nan": {**raft, first: torch.full_like(raft[first], torch.nan)},
    }.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    for name, words in [
        ("none.safetensors", "is no file"),
        ("raft.pth", r"only \.safetensors is read, since pickles can run code"),
        ("broken.safetensors", "cannot be read"),
        ("fewer.safetensors", "is missing"),
        ("more.safetensors", "extra is too many"),
        ("shape.safetensors", "must be finite and"),
        ("nan.safetensors", "must be finite and"),
    ]:
        with pytest.raises(WeightsError, match=words):
            metrics.use_raft(tmp_path / name)
    with pytest.raises(WeightsError, match=r"head=.*is not a linear head on clip, weight \[1, 16\]"):
        metrics.use_aesthetic(networks["clip"], networks["raft"])
    with pytest.raises(WeightsError, match="is a 'vit': the head stands on a CLIP"):
        metrics.use_aesthetic(networks["dino"], networks["head"])
    with pytest.raises(WeightsError, match=r"weights=None must be the path of a \.safetensors file"):
        metrics.use_raft(None)
    assert "raft_mean" not in metrics.names()


def test_a_device_that_is_not_here_is_refused(networks):
    for call in (lambda: metrics.use_raft(networks["raft"], device="cuda:77"),
                 lambda: metrics.use_encoder("dino", networks["dino"], device="nowhere")):  # fmt: skip
        with pytest.raises(MetricError, match=r"device='(cuda:77|nowhere)' cannot be used"):
            call()


def test_a_name_of_your_own_is_not_taken(networks):
    metrics.metric("raft_dynamic")(lambda scoring: 0.0)
    with pytest.raises(MetricError, match="'raft_dynamic' is taken"):
        metrics.use_raft(networks["raft"])
    assert "raft_mean" not in metrics.names()
