from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from svdlab.errors import ModelError
from svdlab.models import catalogue, info, names
from svdlab.models.cards import write_card
from svdlab.request import Request

REAL = ["animatelcm-svd-xt-1.1", "animatelcm-svd-xt", "svd-xt-1.1", "svd-xt", "svd"]


def test_names_are_those_promised() -> None:
    assert [name for name in names() if name in REAL] == REAL
    assert {"tiny", "tiny-teacher", "tiny-random"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_entries_are_whole(name: str) -> None:
    entry = info(name)
    assert entry.name == name
    assert entry.title
    assert entry.licence
    assert entry.memory_gb > 0
    assert bool(entry.base) == (bool(entry.unet_file) or name == "tiny-teacher")  # its folder holds a UNet alone
    if entry.base:
        lender = info(entry.base)
        assert bool(lender.repo_id) == bool(entry.repo_id)
        assert not lender.base
        assert lender.defaults.num_frames == entry.defaults.num_frames
    assert (entry.download_gb > 0) == bool(entry.repo_id)


@pytest.mark.parametrize("name", names())
def test_defaults_make_a_valid_request(name: str) -> None:
    defaults = info(name).defaults
    request = Request(image="a.png").resolve(defaults)
    assert (request.num_frames, request.width, request.height) == (
        defaults.num_frames,
        defaults.width,
        defaults.height,
    )
    assert request.num_frames % request.decode_chunk == 0  # no chunk of a lone frame


@pytest.mark.parametrize("name", REAL)
def test_students_and_teachers_are_sampled_differently(name: str) -> None:
    entry = info(name)
    d = entry.defaults
    sampling = (d.schedule, d.gamma, d.min_guidance, d.max_guidance, d.good_steps)
    expected = {"student": ("animatelcm", 1.0, 1.0, 1.0, 4), "teacher": ("karras", 0.0, 1.0, 3.0, 25)}
    assert sampling == expected[entry.kind]
    assert (d.num_frames, d.width, d.height) == (14 if name == "svd" else 25, 1024, 576)


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"'svd-xt-1\.2'.*Did you mean 'svd-xt-1\.1'\?.*Names: .*tiny-random"):
        info("svd-xt-1.2")
    with pytest.raises(ModelError, match=r"'qqq': not in the catalogue.*'org/name'") as caught:
        info("qqq")
    assert "Did you mean" not in str(caught.value)


def test_a_bundled_folder_is_in_the_catalogue_by_being_there(tmp_path: Path) -> None:
    (tmp_path / "wee").mkdir()
    (tmp_path / "no-card").mkdir()
    (tmp_path / "README.md").touch()
    write_card(tmp_path / "wee", replace(info("tiny-random"), name="called otherwise", kind="student"))
    found = catalogue.bundled(tmp_path)
    assert list(found) == ["wee"]
    assert found["wee"].name == "wee"
    assert found["wee"].folder == tmp_path / "wee"
    assert catalogue.bundled(tmp_path / "absent") == {}


def test_the_catalogue_loads_no_torch() -> None:
    code = (
        "import sys, svdlab.models as m; m.names(); m.info('svd'); m.ModelInfo; m.write_card;"
        "m.is_local('tiny-random');"
        "print([n for n in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_public_names_resolve_and_others_do_not() -> None:
    import svdlab.models as models

    assert set(models.__all__) <= set(dir(models))
    assert all(getattr(models, name) is not None for name in models.__all__)
    with pytest.raises(AttributeError, match="no attribute 'weights_of_tomorrow'"):
        models.weights_of_tomorrow  # noqa: B018
