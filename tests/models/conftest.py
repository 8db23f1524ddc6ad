"""Small models on disk, an empty hub cache, and a hub on localhost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from svdlab.models import catalogue
from svdlab.models.tiny_random import build
from tests.models.world import Hub, save
from tests.serving import answering

TEACHER = "laboratory/teacher"
STUDENT = "laboratory/student"


@pytest.fixture(scope="session")
def parts() -> tuple:
    return build(seed=3)


@pytest.fixture(scope="session")
def full(parts: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder with full weights."""
    return save(parts, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="session")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as fp16 variants, without the full ones."""
    models = build(seed=3)
    for model in models[:3]:
        torch.nn.Module.half(model)
    return save(models, tmp_path_factory.mktemp("half"), variant="fp16")


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of one UNet and nothing else, as AnimateLCM publishes them."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("student")
    save_file(build(seed=4)[0].state_dict(), folder / "student.safetensors")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, in use."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entries in the catalogue that small models can fill: "small-teacher" and its student "small-student"."""
    teacher = replace(catalogue.info("svd-xt"), name="small-teacher", repo_id=TEACHER, licence="a teacher's licence")
    pupil = replace(
        catalogue.info("animatelcm-svd-xt"),
        name="small-student",
        repo_id=STUDENT,
        base="small-teacher",
        unet_file="student.safetensors",
        licence="a student's licence",
    )
    monkeypatch.setitem(catalogue.CATALOGUE, "small-teacher", teacher)
    monkeypatch.setitem(catalogue.CATALOGUE, "small-student", pupil)


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on localhost that the client is allowed to use."""
    from huggingface_hub import constants

    with answering(Hub()) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
