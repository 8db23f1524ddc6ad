from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svdlab.errors import ModelError
from svdlab.models import catalogue, fetch, load_components
from svdlab.models.cards import write_card
from svdlab.models.tiny_random import build
from tests.models.world import PARTS, cache_repo, equal, files_in, link_tree, load, replace_json, save

pytestmark = pytest.mark.usefixtures("cache")
MODELS = PARTS[:3]


# --- tiny-random


def test_tiny_random_is_ready_to_run() -> None:
    components = load("tiny-random")
    assert components.name == components.info.name == "tiny-random"
    assert components.defaults == catalogue.info("tiny-random").defaults
    assert (components.device, components.dtype) == (torch.device("cpu"), torch.float32)
    assert components.revision is None
    assert "random" in components.source
    for part in MODELS:
        model = getattr(components, part)
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_number_format_is_in_the_networks_and_in_the_fingerprint() -> None:
    full, half = load("tiny-random"), load("tiny-random", dtype="fp16")
    assert {parameter.dtype for part in MODELS for parameter in getattr(half, part).parameters()} == {torch.float16}
    assert half.fingerprint == full.fingerprint.replace("fp32", "fp16")


def test_one_line_tells_what_was_loaded_where_and_why(caplog: pytest.LogCaptureFixture, full: Path) -> None:
    with caplog.at_level(logging.INFO, "svdlab"):
        load_components("tiny-random", device="cpu", dtype="bf16")
        load_components(full, device="cpu", low_memory="slices")
        load_components("tiny-random", device="cpu", dtype="bf16", low_memory="auto")  # it fits: nothing to be said
    lines = [record.getMessage() for record in caplog.records if record.name == "svdlab"]
    assert lines == [
        "tiny-random (random weights, seed 0; built in memory): device cpu (as asked), dtype bfloat16 (as asked)",
        f"{full.name} (folder {full}): device cpu (as asked), dtype float32 (half precision is slow or inexact on cpu),"
        " low_memory slices (as asked)",
        "tiny-random (random weights, seed 0; built in memory): device cpu (as asked), dtype bfloat16 (as asked)",
    ]


# --- local folders


def test_a_folder_loads_with_every_weight(parts: tuple, full: Path) -> None:
    components = load(full)
    for part, model in zip(MODELS, parts, strict=False):
        assert equal(getattr(components, part), model)
        assert not getattr(components, part).training
        assert not any(parameter.requires_grad for parameter in getattr(components, part).parameters())
    assert components.feature_extractor.to_dict() == parts[3].to_dict()
    assert components.vae.config.force_upcast is True
    assert (components.name, components.revision) == (full.name, None)
    defaults = components.defaults
    assert (defaults.num_frames, defaults.width, defaults.height, defaults.size_factor) == (25, 64, 64, 8)
    assert (defaults.schedule, components.info.kind) == ("karras", "teacher")


def test_the_same_folder_by_any_spelling(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(full.parent)
    monkeypatch.setenv("HOME", str(full.parent))
    spellings = [full, str(full), f"./{full.name}", f"~/{full.name}", full.name]
    assert len({load(where).fingerprint for where in spellings}) == 1


def test_loading_leaves_the_global_random_state_alone(full: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    load(full)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_card_gives_name_kind_and_defaults(full: Path, tmp_path: Path) -> None:
    folder = link_tree(full, tmp_path / "m")
    card = replace(catalogue.info("tiny-random"), name="pupil", kind="student")
    write_card(folder, card)
    components = load(folder)
    assert (components.name, components.info.kind, components.defaults) == ("pupil", "student", card.defaults)
    assert components.fingerprint == load(full).fingerprint  # how it is sampled is not what it is


def test_a_bundled_folder_loads_by_its_name(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = link_tree(full, tmp_path / "wee")
    write_card(folder, catalogue.info("tiny-random"))
    monkeypatch.setitem(catalogue.CATALOGUE, "wee", catalogue.bundled(tmp_path)["wee"])
    components = load("wee")
    assert (components.name, components.source) == ("wee", "wee, bundled")
    assert components.fingerprint == load(full).fingerprint
    assert fetch("wee") == folder
    with pytest.raises(ModelError, match="has no revisions"):
        load("wee", revision="main")


def test_a_unet_alone_takes_the_rest_from_the_folder_beside_it(parts: tuple, full: Path, tmp_path: Path) -> None:
    link_tree(full, tmp_path / "pupil")
    build(seed=4)[0].save_pretrained(tmp_path / "master/unet")
    write_card(tmp_path / "master", replace(catalogue.info("tiny-random"), name="master", base="pupil"))
    components = load(tmp_path / "master")
    assert components.source.endswith("all but the UNet from pupil beside it")
    assert equal(components.unet, build(seed=4)[0])
    assert equal(components.vae, parts[1])
    assert equal(components.image_encoder, parts[2])
    assert components.info.memory_gb == pytest.approx(load(full).info.memory_gb)
    assert components.fingerprint != load(full).fingerprint
    # A UNet of the lender is never taken for one that is missing.
    (tmp_path / "master/unet/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"Missing: unet/diffusion_pytorch_model.safetensors"):
        load(tmp_path / "master")


def test_a_lender_that_is_not_there(tmp_path: Path) -> None:
    build(seed=4)[0].save_pretrained(tmp_path / "master/unet")
    write_card(tmp_path / "master", replace(catalogue.info("tiny-random"), base="pupil"))
    with pytest.raises(ModelError, match=r"with what .*pupil lends: not a whole model .* Missing: vae/config.json"):
        load(tmp_path / "master")


def test_shards_load_as_a_whole(parts: tuple, tmp_path: Path) -> None:
    folder = save(parts, tmp_path / "sharded", max_shard_size="300KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 2
    assert (folder / "image_encoder" / "model.safetensors.index.json").is_file()
    components = load(folder)
    assert all(equal(getattr(components, part), model) for part, model in zip(MODELS, parts, strict=False))


def test_sharded_half_variants_load(tmp_path: Path) -> None:
    from svdlab.models.tiny_random import build

    models = build(seed=3)
    for model in models[:3]:
        torch.nn.Module.half(model)
    folder = save(models, tmp_path / "sharded", max_shard_size="300KB", variant="fp16")
    components = load(folder, dtype="fp16")
    assert all(equal(getattr(components, part), model) for part, model in zip(MODELS, models, strict=False))


def test_half_weights_are_taken_for_half_precision(full: Path, half: Path, tmp_path: Path) -> None:
    both = link_tree(half, link_tree(full, tmp_path / "both"))
    assert load(both, dtype="fp16").fingerprint == load(half, dtype="fp16").fingerprint
    assert load(both, dtype="fp32").fingerprint == load(full).fingerprint
    assert load(half, dtype="fp16").fingerprint != load(full, dtype="fp16").fingerprint  # other files
    assert equal(load(half, dtype="fp16").unet, load(full, dtype="fp16").unet)  # the same numbers


def test_half_weights_alone_are_widened_and_that_is_said(half: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "svdlab"):
        components = load(half)
    assert components.unet.dtype == torch.float32
    assert "only fp16 weights are there for unet, vae, image_encoder; widened to fp32" in caplog.text
    assert components.fingerprint.endswith("-fp32")


def test_a_folder_that_is_not_a_model(tmp_path: Path, full: Path) -> None:
    with pytest.raises(ModelError, match=r"not a whole model in the layout of diffusers\. Missing: unet/config\.json"):
        load(tmp_path)
    with pytest.raises(ModelError, match=r"There are: config\.json, diffusion_pytorch_model\.safetensors"):
        load(full / "unet")


def test_a_folder_of_pickles(full: Path, tmp_path: Path) -> None:
    folder = link_tree(full, tmp_path / "m")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"vae/diffusion_pytorch_model\.bin would have to be unpickled"):
        load(folder)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin"])
def test_a_pickled_checkpoint_is_refused_whether_it_is_there_or_not(tmp_path: Path, suffix: str) -> None:
    for name in (str(tmp_path / f"model{suffix}"), f"model{suffix}"):
        with pytest.raises(ModelError, match=rf"a \{suffix} file is a pickle, which can run any code"):
            load(name)


def test_a_lone_file_is_refused(full: Path) -> None:
    with pytest.raises(ModelError, match=r"a file\. Give the diffusers folder"):
        load(full / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "~/absent", "a/b/c", "../x/y"])
def test_a_path_that_leads_nowhere(name: str) -> None:
    with pytest.raises(ModelError, match=r"there is no such folder.*Check the path"):
        load(name)


@pytest.mark.parametrize("name", ["svd-xt-2", "", "no such model"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(ModelError, match="not in the catalogue"):
        load(name)


@pytest.mark.parametrize("name", ["tiny-random", "full"])
def test_revisions_are_for_the_hub(name: str, full: Path) -> None:
    with pytest.raises(ModelError, match=r"revision = 'main'.*Leave it out"):
        load(full if name == "full" else name, revision="main")


# --- weights that do not fit


def swap(folder: Path, part: str, change: object) -> Path:
    """Write a part's weights anew, changed by a function of its state dict."""
    path = next((folder / part).glob("*.safetensors"))
    state = load_file(path)
    change(state)  # type: ignore[operator]
    path.unlink()
    save_file(state, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("part", MODELS)
def test_another_shape_is_refused(full: Path, tmp_path: Path, part: str) -> None:
    def widen(state: dict) -> None:
        key = next(key for key in state if key.endswith("weight") and state[key].ndim > 1)
        state[key] = torch.cat([state[key], state[key]])

    with pytest.raises(ModelError, match=rf"{part}/.*1 of another shape: .*\] instead of \["):
        load(swap(link_tree(full, tmp_path / "m"), part, widen))


@pytest.mark.parametrize("part", MODELS)
def test_missing_weights_are_refused(full: Path, tmp_path: Path, part: str) -> None:
    lost: list[str] = []

    def lose(state: dict) -> None:
        lost.append(next(key for key in state if key.endswith("weight")))
        del state[lost[0]]

    with pytest.raises(ModelError, match=part) as caught:
        load(swap(link_tree(full, tmp_path / "m"), part, lose))
    assert lost[0] in str(caught.value)


def test_unexpected_weights_of_the_unet_are_refused(full: Path, tmp_path: Path) -> None:
    def add(state: dict) -> None:
        state["lora.up.weight"] = torch.zeros(1)

    with pytest.raises(ModelError, match=r"1 unexpected: lora\.up\.weight"):
        load(swap(link_tree(full, tmp_path / "m"), "unet", add))


def test_a_config_that_builds_no_network(full: Path, tmp_path: Path) -> None:
    folder = link_tree(full, tmp_path / "m")
    replace_json(folder / "unet" / "config.json", down_block_types=["NoSuchBlock", "NoSuchBlock"])
    with pytest.raises(ModelError, match=r"the unet cannot be built from it .*NoSuchBlock"):
        load(folder)


def test_a_damaged_feature_extractor(full: Path, tmp_path: Path) -> None:
    folder = link_tree(full, tmp_path / "m")
    replace_json(folder / "feature_extractor" / "preprocessor_config.json", size="enormous")
    with pytest.raises(ModelError, match="the feature_extractor cannot be built from it"):
        load(folder)


def test_a_device_that_is_too_small(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_up(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full_up)
    with pytest.raises(ModelError, match=r"device = 'cpu': out of memory while moving the unet.*dtype='fp16'"):
        load("tiny-random")


# --- fingerprints


def test_fingerprints_follow_content_not_place(full: Path, tmp_path: Path, cache: Path) -> None:
    one = load(full).fingerprint
    assert load(link_tree(full, tmp_path / "elsewhere")).fingerprint == one
    cache_repo(cache, "somebody/else", files_in(full))
    assert load("somebody/else").fingerprint == one


@pytest.mark.parametrize("part", MODELS)
def test_a_single_changed_number_changes_the_fingerprint(full: Path, tmp_path: Path, part: str) -> None:
    def nudge(state: dict) -> None:
        key = next(key for key in sorted(state) if state[key].is_floating_point())
        state[key].view(-1)[0] += 1e-3

    assert load(swap(link_tree(full, tmp_path / "m"), part, nudge)).fingerprint != load(full).fingerprint


@pytest.mark.parametrize(
    ("file", "change", "same"),
    [
        ("vae/config.json", {"scaling_factor": 1.0}, False),
        ("feature_extractor/preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.5]}, False),
        ("unet/config.json", {"_diffusers_version": "0.1", "_name_or_path": "/elsewhere"}, True),
        ("image_encoder/config.json", {"transformers_version": "4.34.0", "torch_dtype": "float16"}, True),
    ],
)
def test_configs_count_by_their_meaning(full: Path, tmp_path: Path, file: str, change: dict, same: bool) -> None:
    folder = link_tree(full, tmp_path / "m")
    replace_json(folder / file, **change)
    assert (load(folder).fingerprint == load(full).fingerprint) is same
