"""Describe: the JSON fits its schema, and every file, hash, unit and count in it is true."""

from __future__ import annotations

import json

import jsonschema
import pandas as pd
import pytest

from svdlab.errors import SweepError
from svdlab.files import sha256_file
from svdlab.sweep import artifacts
from svdlab.sweep.describe import description_schema
from svdlab.sweep.ledger import Ledger


def check(content: dict) -> None:
    validator = jsonschema.Draft202012Validator
    validator.check_schema(description_schema())
    validator(description_schema()).validate(content)


def test_every_line_is_true(copied):
    path = copied.describe_json(license="CC-BY-4.0", progress=False)
    assert path == copied.path / "description.json"
    content = json.loads(path.read_text())
    check(content)
    assert (content["name"], content["license"]) == ("run", "CC-BY-4.0")
    assert content["axes"] == {"image": ["rocket", "kite"], "seed": [0, 1], "steps": [1, 2]}
    assert content["fixed"]["width"] == 32
    assert content["model"] == copied.model
    assert "2 pictures" in content["description"]
    assert "8 of 8 cells" in content["description"]
    for file in content["distribution"]:
        place = copied.path / file["contentUrl"]
        assert place.stat().st_size == file["contentSize"]
        assert sha256_file(place) == file["sha256"]
    listed = {file["contentUrl"] for file in content["distribution"]}
    there = {path.relative_to(copied.path).as_posix() for path in copied.path.rglob("*") if path.is_file()}
    assert there - listed == {"description.json", "ledger.sqlite", "lock"} & there
    [records] = content["recordSet"]
    frame = copied.frame()
    assert records["records"] == len(frame)
    assert [field["name"] for field in records["fields"]] == list(frame.columns)
    fields = {field["name"]: field for field in records["fields"]}
    assert fields["flow_mean"]["unit"] == "px/frame"
    assert fields["flow_mean"]["dataType"] == "Float"
    assert (fields["steps"]["dataType"], fields["cell"]["dataType"]) == ("Integer", "Text")


def test_it_names_no_path_of_the_machine(copied, tmp_path):
    text = copied.describe_json(tmp_path / "elsewhere.json", progress=False).read_text()
    assert str(tmp_path) not in text
    content = json.loads(text)
    check(content)
    assert content["license"] is None


def test_the_tables_are_written_anew(copied):
    copied.backfill(["flicker"], progress=False)
    (copied.path / "results.csv").write_text("old")
    content = json.loads(copied.describe_json(description="Two shapes.", progress=False).read_text())
    assert content["description"] == "Two shapes."
    assert "flicker" in {field["name"] for field in content["recordSet"][0]["fields"]}
    assert len(pd.read_csv(copied.path / "results.csv")) == 8


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("license"),
        lambda content: content["distribution"][0].update(sha256="0"),
        lambda content: content["distribution"][0].update(contentUrl="/home/me/results.parquet"),
        lambda content: content["recordSet"][0]["fields"][0].update(kind="other"),
        lambda content: content.update(author="nobody"),
    ],
)
def test_the_schema_can_say_no(copied, change):
    content = json.loads(copied.describe_json(progress=False).read_text())
    change(content)
    with pytest.raises(jsonschema.ValidationError):
        check(content)


def test_damage_is_not_published(copied, tmp_path):
    cell = copied.frame()["cell"][0]
    latents = copied.path / artifacts.cell_path(cell) / "latents.safetensors"
    latents.write_bytes(latents.read_bytes()[:-1] + b"\x00")
    with pytest.raises(SweepError, match=r"latents.safetensors: is damaged; its SHA-256"):
        copied.describe_json(progress=False)
    assert not (copied.path / "description.json").exists()
    with Ledger(copied.path, write=True) as ledger:
        ledger.release([cell])
    content = json.loads(copied.describe_json(progress=False).read_text())
    assert "7 of 8 cells" in content["description"]
    assert cell not in {file.get("cell") for file in content["distribution"]}
    next((copied.path / "images").iterdir()).unlink()
    with pytest.raises(SweepError, match="is missing, so the sweep cannot be described"):
        copied.describe_json(progress=False)


def test_nothing_to_describe_and_nowhere_to_write(copied, tmp_path):
    with pytest.raises(SweepError, match="cannot be described"):
        copied.describe_json(tmp_path / "nowhere" / "description.json", progress=False)
    with Ledger(copied.path, write=True) as ledger:
        ledger.release(list(copied.frame()["cell"]))
    with pytest.raises(SweepError, match="no cell is done"):
        copied.describe_json(progress=False)
