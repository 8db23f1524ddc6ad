"""Pictures: opened once, labelled uniquely, all problems at once."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image

from svdlab.errors import ImageError, SpecError
from svdlab.images import image_digest, load_image
from svdlab.sweep.pictures import find_images, open_pictures, source_text


def test_labels_are_stems_made_unique(pictures, tmp_path):
    other = tmp_path / "more" / "kite.png"
    other.parent.mkdir()
    Image.new("RGB", (20, 20), (1, 2, 3)).save(other)
    memory = Image.new("RGB", (20, 20), (4, 5, 6))
    array = np.full((8, 8, 3), 9, np.uint8)
    data = "data:image/png;base64," + base64.b64encode((pictures / "rocket.png").read_bytes()).decode()
    opened = open_pictures([str(pictures / "kite.png"), str(other), memory, array, data], labels={})
    assert [picture.label for picture in opened] == ["kite", "kite-2", "image", "image-2", "image-3"]
    assert [picture.source for picture in opened] == [str(pictures / "kite.png"), str(other), None, None, "data:"]
    assert opened[4].digest == image_digest(load_image(pictures / "rocket.png"))


def test_a_pil_image_that_was_opened_from_a_file_has_its_stem(pictures):
    with Image.open(pictures / "kite.png") as image:
        assert open_pictures([image], labels={})[0].label == "kite"


def test_a_picture_keeps_the_label_it_has(pictures):
    rocket, kite = (str(pictures / f"{name}.png") for name in ("rocket", "kite"))
    digest = image_digest(load_image(kite))
    opened = open_pictures([rocket, kite], labels={digest: "rocket", "0" * 64: "rocket-2"})
    assert [picture.label for picture in opened] == ["rocket-3", "rocket"]


def test_the_same_picture_twice_is_refused(pictures):
    copy = pictures / "copy.png"
    copy.write_bytes((pictures / "kite.png").read_bytes())
    with pytest.raises(SpecError, match=r"copy\.png and .*kite\.png show the same picture"):
        open_pictures([str(pictures / "kite.png"), str(copy)], labels={})


def test_all_bad_pictures_are_named(pictures):
    for name in ("a", "b"):
        (pictures / f"{name}.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(ImageError, match=r"(?s)a\.png.*b\.png"):
        open_pictures([str(pictures / "a.png"), str(pictures / "kite.png"), str(pictures / "b.png")], labels={})


def test_patterns_may_go_deep_and_name_only_files(pictures):
    (pictures / "deep" / "folder.png").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(pictures / "deep" / "x.png")
    found = find_images("**/*.png", base=pictures)
    assert [str(source).removeprefix(str(pictures)) for source in found] == ["/deep/x.png", "/kite.png", "/rocket.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(pictures):
    Image.new("RGB", (8, 8)).save(pictures / "a[1].png")
    assert find_images("a[1].png", base=pictures) == (str(pictures / "a[1].png"),)


def test_addresses_are_shown_without_secrets():
    assert source_text("https://me:pw@example.org:8443/a/b.png?token=1#x") == "https://example.org:8443/a/b.png"
    assert source_text("https://example.org/b.png") == "https://example.org/b.png"
    assert source_text("data:image/png;base64,AAAA") == "data:"
