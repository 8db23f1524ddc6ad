from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import ModelError
from svdlab.models.layout import check_complete, general_defaults, listing, plan, plan_file, read_configs
from tests.models.world import files_in, link_tree, replace_json

CONFIGS = (
    "unet/config.json",
    "vae/config.json",
    "image_encoder/config.json",
    "feature_extractor/preprocessor_config.json",
)
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}


def single(part: str, variant: str | None) -> list[str]:
    return [f"{part}/{STEMS[part]}{'.fp16' if variant else ''}.safetensors"]


def sharded(part: str, variant: str | None, count: int, *, trailing: bool = False) -> list[str]:
    """Names as diffusers and transformers write them; `trailing` puts the variant last, as older versions did."""
    middle = ".fp16" if variant else ""
    inner, outer = ("", middle) if trailing else (middle, "")
    shards = [f"{part}/{STEMS[part]}{inner}-{i:05d}-of-{count:05d}{outer}.safetensors" for i in range(1, count + 1)]
    return [f"{part}/{STEMS[part]}.safetensors.index{middle}.json", *shards]


forms = st.one_of(
    st.builds(lambda v: (v, None), st.sampled_from([None, "fp16"])),
    st.builds(lambda v, n, t: (v, (n, t)), st.sampled_from([None, "fp16"]), st.integers(1, 4), st.booleans()),
)


def names_of(part: str, form: tuple) -> list[str]:
    variant, shards = form
    return single(part, variant) if shards is None else sharded(part, variant, shards[0], trailing=shards[1])


@given(forms=st.fixed_dictionaries(dict.fromkeys(STEMS, forms)), half=st.booleans())
def test_every_whole_form_is_found_whatever_was_preferred(forms: dict, half: bool) -> None:
    names = [*CONFIGS, *(name for part, form in forms.items() for name in names_of(part, form))]
    found = plan(names, half=half)
    assert not found.missing
    assert sorted(found.files) == sorted(names)
    assert found.variants == {part: form[0] for part, form in forms.items()}
    assert set(found.narrowed(half)) == ({part for part, form in forms.items() if form[0]} if not half else set())


@given(forms=st.fixed_dictionaries(dict.fromkeys(STEMS, forms)), half=st.booleans(), data=st.data())
def test_any_file_that_is_missing_is_missed(forms: dict, half: bool, data: st.DataObject) -> None:
    names = [*CONFIGS, *(name for part, form in forms.items() for name in names_of(part, form))]
    names.remove(data.draw(st.sampled_from(names)))
    found = plan(names, half=half)
    assert found.missing
    with pytest.raises(ModelError, match="Missing: "):
        check_complete(found, "somewhere", names)


@pytest.mark.parametrize("half", [True, False])
def test_the_preferred_variant_is_taken_where_both_are(half: bool) -> None:
    names = [*CONFIGS, *(name for part in STEMS for v in (None, "fp16") for name in single(part, v))]
    assert set(plan(names, half=half).variants.values()) == ({"fp16"} if half else {None})


def test_beside_each_other_shards_and_file_are_chosen_as_the_loaders_do() -> None:
    names = [*CONFIGS, *(name for part in STEMS for name in single(part, None) + sharded(part, None, 2))]
    weights = plan(names, half=False).weights
    assert [len(weights[part]) for part in STEMS] == [2, 2, 1]


def test_a_card_belongs_to_the_model() -> None:
    assert "svdlab.json" in plan(["svdlab.json"], half=False).files


def test_without_the_unets_weights_its_config_is_enough() -> None:
    names = [*CONFIGS, *single("vae", None), *single("image_encoder", None)]
    assert not plan(names, half=True, unet_weights=False).missing
    assert plan(names, half=True).missing == ("unet/diffusion_pytorch_model.safetensors",)


def test_plan_of_one_file() -> None:
    assert plan_file(["a.safetensors"], "a.safetensors").files == ("a.safetensors",)
    assert plan_file([], "a.safetensors").missing == ("a.safetensors",)


def test_pickles_are_refused_with_the_reason() -> None:
    names = [*CONFIGS, *single("vae", None), *single("image_encoder", None), "unet/diffusion_pytorch_model.bin"]
    with pytest.raises(ModelError, match=r"unet/diffusion_pytorch_model\.bin.*can run any code.*save_pretrained"):
        check_complete(plan(names, half=False), "here", names)


def test_an_empty_folder_says_so() -> None:
    with pytest.raises(ModelError, match=r"Missing: unet/config\.json.*It is empty.*unet, vae, image_encoder"):
        check_complete(plan([], half=False), "here", [])


def test_a_listing_has_two_levels(full: Path, tmp_path: Path) -> None:
    folder = link_tree(full, tmp_path / "m")
    (folder / "unet" / "deep").mkdir()
    (folder / "unet" / "deep" / "x").touch()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").touch()
    (folder / "unet" / ".x").touch()
    assert listing(folder) == set(files_in(full))


def test_configs_are_read(full: Path) -> None:
    configs = read_configs(full.joinpath)
    assert set(configs) == {"unet", "vae", "image_encoder", "feature_extractor"}
    assert configs["unet"]["num_frames"] == 25


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel.*must be 'UNetSpatioTemporal"),
        ("vae", {"_class_name": "AutoencoderKL"}, "AutoencoderKLTemporalDecoder"),
        ("image_encoder", {"model_type": "siglip"}, "clip_vision_model"),
        ("unet", {"in_channels": 9}, "unet in_channels = 9.*twice the vae's latent_channels, 8"),
        ("unet", {"out_channels": 3}, "unet out_channels = 3"),
        ("image_encoder", {"projection_dim": 48}, "unet cross_attention_dim = 32.*projection_dim, 48"),
        ("unet", {"addition_time_embed_dim": 64}, "three times addition_time_embed_dim, 192"),
    ],
)
def test_parts_that_do_not_fit_are_refused(full: Path, tmp_path: Path, part: str, changes: dict, message: str) -> None:
    folder = link_tree(full, tmp_path / "m")
    replace_json(folder / part / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        read_configs(folder.joinpath)


def test_equal_cross_attention_in_every_block_is_fine(full: Path, tmp_path: Path) -> None:
    folder = link_tree(full, tmp_path / "m")
    replace_json(folder / "unet" / "config.json", cross_attention_dim=[32, 32])
    assert read_configs(folder.joinpath)["unet"]["cross_attention_dim"] == [32, 32]


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read as JSON"), ("[1]", "is a list")])
def test_a_damaged_config_is_named(full: Path, tmp_path: Path, text: str, message: str) -> None:
    folder = link_tree(full, tmp_path / "m")
    (folder / "vae" / "config.json").unlink()
    (folder / "vae" / "config.json").write_text(text)
    with pytest.raises(ModelError, match=rf"vae/config\.json.*{message}"):
        read_configs(folder.joinpath)


@pytest.mark.parametrize(
    ("unet", "blocks", "size"),
    [
        ({"sample_size": 8, "num_frames": 25}, 4, (25, 64, 64, 8, None)),
        ({"sample_size": [8, 16], "num_frames": 6}, 3, (6, 64, 32, 4, None)),
        ({"sample_size": 96, "num_frames": 14}, 4, (14, 1024, 576, 8, 5)),
        ({"sample_size": None, "num_frames": 3}, 4, (3, 1024, 576, 8, 3)),
        ({}, 4, (25, 1024, 576, 8, 5)),
    ],
)
def test_general_defaults(unet: dict, blocks: int, size: tuple) -> None:
    d = general_defaults({"unet": unet, "vae": {"block_out_channels": [32] * blocks}})
    assert (d.num_frames, d.width, d.height, d.size_factor, d.decode_chunk) == size
    assert (d.schedule, d.gamma, d.max_guidance, d.good_steps) == ("karras", 0.0, 3.0, 25)
