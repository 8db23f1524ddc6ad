from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svdlab.errors import ModelError
from svdlab.models import catalogue, fetch, is_local
from svdlab.models.cards import write_card
from tests.models.conftest import STUDENT, TEACHER
from tests.models.world import Hub, cache_repo, equal, files_in, link_tree, load

pytestmark = pytest.mark.usefixtures("cache")


def test_sizes_in_the_catalogue_are_those_of_the_architecture() -> None:
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    clip = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel()  # the defaults of the class are SVD's
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=[128, 256, 512, 512], down_block_types=["DownEncoderBlock2D"] * 4, layers_per_block=2
        )
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**clip, patch_size=14, projection_dim=1024))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (unet, vae, image_encoder)]
    teacher, pupil = catalogue.info("svd-xt"), catalogue.info("animatelcm-svd-xt-1.1")
    assert 2 * sum(sizes) / 1e9 == pytest.approx(teacher.memory_gb, abs=0.01)
    assert teacher.download_gb == teacher.memory_gb
    # The student's UNet comes in fp32, the rest of its base in fp16.
    assert (4 * sizes[0] + 2 * sum(sizes[1:])) / 1e9 == pytest.approx(pupil.download_gb, abs=0.01)


@pytest.mark.usefixtures("small")
def test_a_teacher_from_the_cache(parts: tuple, full: Path, cache: Path) -> None:
    snapshot = cache_repo(cache, TEACHER, files_in(full), commit="e" * 40)
    components = load("small-teacher")
    assert equal(components.unet, parts[0])
    assert components.revision == "e" * 40
    assert components.source == f"{TEACHER} at eeeeeeeeeeee"
    assert components.info == catalogue.CATALOGUE["small-teacher"]
    assert components.fingerprint == load(full).fingerprint
    assert load(TEACHER).info == components.info  # by its repository it is the same model
    assert fetch("small-teacher", dtype="fp32") == snapshot
    assert load("small-teacher", revision="e" * 40).revision == "e" * 40


def test_a_repository_that_the_catalogue_does_not_know(full: Path, cache: Path, tmp_path: Path) -> None:
    cache_repo(cache, "somebody/model", files_in(full))
    components = load("somebody/model", download=False)
    assert (components.name, components.info.repo_id) == ("somebody/model", "somebody/model")
    assert components.defaults == load(full).defaults
    folder = link_tree(full, tmp_path / "m")
    write_card(folder, replace(catalogue.info("tiny-random"), name="carded"))
    cache_repo(cache, "somebody/carded", files_in(folder))
    assert load("somebody/carded").name == "carded"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("variant", ["full", "half"])
def test_a_student_is_its_own_unet_in_its_bases_house(
    full: Path, half: Path, student: Path, cache: Path, variant: str
) -> None:
    files = files_in(full if variant == "full" else half)
    base = {name: path for name, path in files.items() if not (name.startswith("unet/") and "safetensors" in name)}
    cache_repo(cache, TEACHER, base, commit="1" * 40)
    snapshot = cache_repo(cache, STUDENT, files_in(student), commit="2" * 40)
    dtype = "fp32" if variant == "full" else "fp16"
    components = load("small-student", dtype=dtype)
    expected = load_file(student / "student.safetensors")
    state = components.unet.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[key], tensor.to(components.dtype)) for key, tensor in expected.items())
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in components.unet.parameters())
    assert not components.unet.training
    with torch.inference_mode():
        x = torch.zeros(1, 2, 8, 8, 8, dtype=components.dtype)
        ids = torch.zeros(1, 3, dtype=components.dtype)
        out = components.unet(x, 0.5, torch.zeros(1, 1, 32, dtype=components.dtype), ids).sample
    assert out.dtype == components.dtype
    assert torch.isfinite(out).all()
    assert components.revision == f"{'2' * 40}+{'1' * 40}"
    assert components.defaults.schedule == "animatelcm"
    assert fetch("small-student", dtype=dtype) == snapshot / "student.safetensors"


@pytest.mark.usefixtures("small")
def test_a_student_and_a_folder_with_its_weights_are_the_same_model(
    full: Path, student: Path, cache: Path, tmp_path: Path
) -> None:
    cache_repo(cache, TEACHER, files_in(full))
    cache_repo(cache, STUDENT, files_in(student))
    folder = link_tree(full, tmp_path / "assembled")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    os.link(student / "student.safetensors", weights)
    assert load(folder).fingerprint == load("small-student").fingerprint != load("small-teacher").fingerprint


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv_in.weight"), r"1 missing: conv_in\.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 unexpected: extra"),
        (lambda s: s.update({"conv_in.bias": torch.zeros(3)}), r"conv_in\.bias \[3\] instead of \[64\]"),
    ],
)
def test_a_student_that_does_not_fit_its_base(
    full: Path, student: Path, cache: Path, tmp_path: Path, change: object, message: str
) -> None:
    state = load_file(student / "student.safetensors")
    change(state)  # type: ignore[operator]
    save_file(state, tmp_path / "student.safetensors")
    cache_repo(cache, TEACHER, files_in(full))
    cache_repo(cache, STUDENT, {"student.safetensors": tmp_path / "student.safetensors"})
    with pytest.raises(ModelError, match=message) as caught:
        load("small-student")
    assert "student.safetensors: does not fit UNetSpatioTemporalConditionModel" in str(caught.value)


@pytest.mark.usefixtures("small")
def test_a_student_is_downloaded_without_its_bases_unet(
    hub: Hub, full: Path, half: Path, student: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.repos = {TEACHER: {**files_in(full), **files_in(half)}, STUDENT: files_in(student)}
    assert load("small-student", dtype="fp16").dtype == torch.float16
    weights = sorted(path for path in hub.served if path.endswith(".safetensors"))
    assert weights == [
        f"{STUDENT}/student.safetensors",
        f"{TEACHER}/image_encoder/model.fp16.safetensors",
        f"{TEACHER}/vae/diffusion_pytorch_model.fp16.safetensors",
    ]
    assert "licence: a student's licence" in caplog.text
    assert "licence: a teacher's licence" in caplog.text


@pytest.mark.usefixtures("small")
def test_nothing_is_downloaded_unasked(hub: Hub) -> None:
    with pytest.raises(ModelError, match="download=False"):
        load("small-student", download=False)
    assert hub.asked == 0


def test_a_folder_that_looks_like_a_repository_but_is_neither() -> None:
    with pytest.raises(ModelError, match=r"runs/pupil: not in the hub's cache.*no local folder 'runs/pupil' either"):
        load("runs/pupil")


@pytest.mark.usefixtures("small")
def test_real_models_offline_say_what_to_do() -> None:
    for name in ("animatelcm-svd-xt-1.1", "svd-xt-1.1", "small-teacher"):
        with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE=1.*svdlab weights NAME"):
            load(name)
        with pytest.raises(ModelError, match="HF_HUB_OFFLINE=1"):
            fetch(name)


@pytest.mark.usefixtures("small")
def test_whether_a_model_is_on_this_machine(full: Path, half: Path, student: Path, cache: Path) -> None:
    assert is_local("tiny-random")
    assert not any(is_local(name) for name in ("small-teacher", "small-student", "svd-xt"))
    cache_repo(cache, STUDENT, files_in(student))
    assert not is_local("small-student")  # its base is missing
    weights = "vae/diffusion_pytorch_model.fp16.safetensors"
    cache_repo(cache, TEACHER, {name: path for name, path in files_in(half).items() if name != weights})
    assert not is_local("small-teacher")
    cache_repo(cache, TEACHER, {weights: half / weights})
    assert is_local("small-teacher")
    assert is_local("small-student")
    with pytest.raises(ModelError, match="Did you mean 'svd-xt'"):
        is_local("svd_xt")


def test_there_is_nothing_to_fetch_for_tiny_random() -> None:
    assert fetch("tiny-random") is None


def test_a_catalogue_entry_without_files_has_none_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue.CATALOGUE, "in-memory", replace(catalogue.info("tiny-random"), name="in-memory"))
    with pytest.raises(ModelError, match="built in memory"):
        fetch("in-memory")
