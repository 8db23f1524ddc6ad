from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import ModelError
from svdlab.models.cards import CARD, ModelInfo, read_card, weights_gb, write_card
from svdlab.request import SCHEDULES, Defaults

DEFAULTS = st.builds(
    Defaults,
    num_frames=st.integers(1, 200),
    width=st.integers(2, 512).map(lambda n: 8 * n),
    height=st.integers(2, 512).map(lambda n: 8 * n),
    size_factor=st.sampled_from([4, 8]),
    schedule=st.sampled_from(SCHEDULES),
    gamma=st.floats(0, 1),
    sigma_max=st.floats(0.1, 1e4),
    max_guidance=st.floats(1, 20),
    decode_chunk=st.none() | st.integers(1, 200),
    good_steps=st.integers(1, 100),
)
CARDS = st.builds(
    ModelInfo,
    name=st.text(min_size=1),
    title=st.text(),
    kind=st.sampled_from(["student", "teacher", "random"]),
    defaults=DEFAULTS,
    licence=st.text(),
    notes=st.text(),
    base=st.none() | st.from_regex(r"[a-z0-9][a-z0-9.-]{0,10}", fullmatch=True),
    memory_gb=st.just(0.0),
)


@given(card=CARDS)
def test_a_card_comes_back_as_it_was_written(card: ModelInfo, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("card")
    assert write_card(folder, card) == folder / CARD
    assert read_card(folder) == replace(card, folder=folder)


def test_no_card_is_no_error(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None


def test_a_short_card_takes_the_folders_name(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    defaults = {"num_frames": 8, "width": 64, "height": 32}
    (tmp_path / "mine" / CARD).write_text(json.dumps({"kind": "student", "defaults": defaults}))
    card = read_card(tmp_path / "mine")
    assert card is not None
    assert (card.name, card.licence, card.defaults) == ("mine", "not stated", Defaults(**defaults))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("[]", "a JSON object is expected, not a list"),
        ("{}", "'kind' is missing"),
        ('{"kind": "genius", "defaults": {}}', "kind = 'genius': must be 'student' or 'teacher' or 'random'"),
        ('{"kind": "student"}', "'defaults' is missing"),
        ('{"kind": "student", "base": "../other"}', "base = '../other': must be the name of a folder beside this one"),
        ('{"kind": "student", "defaults": {"width": 64, "height": 64}}', "num_frames"),
        ('{"kind": "student", "defaults": {"num_frames": 1, "width": 64, "height": 64, "colour": 1}}', "colour"),
        ('{"kind": "student", "defaults": null}', "mapping"),
        ('{"kind": "student", "defaults": {"num_frames": "8", "width": 64, "height": 64}}', "num_frames = '8'"),
        ('{"kind": "student", "defaults": {"num_frames": 8, "width": 60, "height": 64}}', "width = 60"),
        ('{"kind": "student", "defaults": {"num_frames": 8, "width": 64, "height": 64, "size_factor": "8"}}', "str"),
    ],
)
def test_a_bad_card_says_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / CARD).write_text(text)
    with pytest.raises(ModelError, match="cannot be used as a model's card") as caught:
        read_card(tmp_path)
    assert problem in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "num_frames, width and height" in str(caught.value)


def test_size_counts_each_part_once(tmp_path: Path) -> None:
    for name, size in (("unet/a.safetensors", 100), ("unet/a.fp16.safetensors", 50), ("vae/b.safetensors", 7)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
    assert weights_gb(tmp_path) == pytest.approx(57e-9)
