"""Explain: a cell is traced from what is stored, and damage is named and survived."""

from __future__ import annotations

import re
import sqlite3

import pytest

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.sweep import artifacts
from svdlab.sweep.explain import explain, find_cell
from svdlab.sweep.ledger import FILE, Ledger


def test_everything_that_is_known_is_told(eight):
    sweep = sl.open_sweep(eight)
    row = sweep.frame().iloc[3]
    manifest = sweep.manifest(row["cell"])
    explained = sweep.explain(row["cell"])
    assert (explained.cell, explained.status, explained.problems) == (row["cell"], "done", ())
    titles = ["request", "picture", "model", "noise", "timings", "metrics", "environment", "history", "files"]
    assert list(explained.sections) == titles
    version = sl.metrics.get("flow_mean").version
    sections = {title: {line[0]: line[1:] for line in rows} for title, rows in explained.sections.items()}
    assert sections["request"]["steps"] == ("2",)
    assert sections["request"]["width"] == ("32 px",)
    assert sections["picture"]["label"] == ("rocket",)
    assert sections["picture"]["digest"] == (manifest["image"]["digest"],)
    assert sections["picture"]["kept as"][0].endswith(": whole")
    assert sections["model"]["fingerprint"] == (manifest["model"]["fingerprint"],)
    assert sections["model"]["revision"] == ("none",)
    assert sections["noise"]["seed"] == ("1",)
    assert sections["noise"]["streams"][0] == ", ".join(manifest["noise_streams"]) + " (as recorded)"
    assert sections["timings"]["total, alone"] == (f"{row['seconds']:.3f} s",)
    assert sections["metrics"]["flow_mean"] == (f"{row['flow_mean']:.6g} px/frame", f"version {version}, from memory")
    assert sections["environment"]["torch"] == (manifest["versions"]["torch"],)
    assert [what for _, what in explained.sections["history"]] == ["started", "done"]
    for name, size, state, digest in explained.sections["files"]:
        assert (size, state) == (f"{manifest['files'][name]['bytes']} bytes", "whole")
        assert digest == f"sha256 {manifest['files'][name]['sha256']}"


def test_the_commit_is_told_with_what_was_not_committed(copied):
    cell = copied.frame()["cell"][0]
    for commit, said in [("a" * 40, "a" * 40), ("b" * 40 + "-dirty", "b" * 40 + ", with changes that were not commi")]:
        rewrite(copied, cell, lambda manifest, commit=commit: manifest["versions"].update(commit=commit))
        assert dict(copied.explain(cell).sections["environment"])["code"].startswith(said)
    rewrite(copied, cell, lambda manifest: manifest["versions"].pop("commit"))
    assert dict(copied.explain(cell).sections["environment"])["code"] == "not recorded"


def rewrite(sweep, cell, change) -> None:
    """Change a manifest on the disk."""
    import json

    place = sweep.path / artifacts.cell_path(cell) / "manifest.json"
    manifest = json.loads(place.read_text())
    change(manifest)
    place.write_text(json.dumps(manifest))


def test_a_cell_is_named_by_a_beginning_that_is_its_own(eight):
    sweep = sl.open_sweep(eight)
    keys = sorted(sweep.frame()["cell"])
    with Ledger(eight) as ledger:
        for key in keys:
            lengths = [n for n in range(1, 17) if sum(other.startswith(key[:n]) for other in keys) == 1]
            assert find_cell(ledger, key[: lengths[0]]) == key == find_cell(ledger, key)
        for wrong in ("", "zz", keys[0] + "0"):
            with pytest.raises(SweepError, match=r"no cell that begins like this\. Take a key"):
                find_cell(ledger, wrong)


def test_a_beginning_of_several_cells_is_refused_with_their_names(tmp_path):
    """Keys are hashes; these are made up to begin alike."""
    with Ledger(tmp_path, write=True):
        pass
    keys = [f"ab{k}" for k in range(7)] + ["ab", "cd"]
    with sqlite3.connect(tmp_path / FILE) as db:
        db.executemany(
            "INSERT INTO cell (key, image, settings, model, fingerprint) VALUES (?, '', '', '', '')", zip(keys)
        )
    db.close()
    with Ledger(tmp_path) as ledger:
        with pytest.raises(SweepError, match=r"'a': 8 cells begin like this: ab, ab0, ab1, ab2, ab3, .... Give more"):
            find_cell(ledger, "a")
        assert find_cell(ledger, "ab") == "ab"  # a whole key, though others begin with it


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda place: (place / "clip.mp4").unlink(), "clip.mp4 is missing."),
        (lambda place: (place / "clip.mp4").write_bytes(b"short"), r"clip.mp4 is damaged: it has 5 bytes, not \d+."),
        (
            lambda place: (place / "latents.safetensors").write_bytes(
                (place / "latents.safetensors").read_bytes()[:-1] + b"\x00"
            ),
            "latents.safetensors is damaged: its SHA-256 is not the manifest's.",
        ),
        (lambda place: (place / "manifest.json").unlink(), "manifest.json is missing or damaged: .*"),
        (lambda place: (place / "manifest.json").write_text("{"), "manifest.json is missing or damaged: .*"),
    ],
)
def test_damage_is_named_and_the_rest_is_told(copied, harm, said):
    cell = copied.frame()["cell"][0]
    harm(copied.path / artifacts.cell_path(cell))
    explained = copied.explain(cell)
    assert len(explained.problems) == 1
    assert re.fullmatch(said, explained.problems[0])
    assert explained.problems[0] in str(explained)
    assert dict(explained.sections["request"])["seed"] == "0"
    assert "torch" in dict(explained.sections["environment"])


def test_a_picture_that_is_another_or_gone(copied):
    row = copied.frame().iloc[0]
    kept = copied.path / artifacts.image_path(copied.manifest(row["cell"])["image"]["digest"])
    other = next(path for path in kept.parent.iterdir() if path != kept)
    kept.write_bytes(other.read_bytes())
    assert "pixels are not those of the digest" in copied.explain(row["cell"]).problems[0]
    kept.write_bytes(b"no picture")
    assert "is damaged" in copied.explain(row["cell"]).problems[0]
    kept.unlink()
    assert copied.explain(row["cell"]).problems == (f"images/{kept.name} is missing.",)


def test_cells_that_failed_or_are_still_to_do(go, hook):
    def fail():
        raise RuntimeError("<b>broken</b>")

    hook(fail)
    sweep = go(steps=[1], seed=[0])
    explained = sweep.explain(sweep.frame()["cell"][0])
    assert explained.status == "failed"
    assert explained.sections["error"] == (("", "RuntimeError: <b>broken</b>"),)
    assert "torch" in dict(explained.sections["environment"])  # of the process that tried it
    assert "files" not in explained.sections
    page = explained._repr_html_()
    assert "&lt;b&gt;broken" in page
    assert "<b>broken" not in page
    with sqlite3.connect(sweep.path / FILE) as db:
        db.execute("UPDATE cell SET status = 'pending', error = NULL")
        db.execute("DELETE FROM event")
    db.close()
    assert sweep.explain(explained.cell).status == "pending"


def test_metrics_that_came_later_or_are_of_an_older_version(copied):
    cell = copied.frame()["cell"][0]
    copied.backfill(["flicker"], progress=False)
    rewrite(copied, cell, lambda manifest: manifest["metrics"]["flow_mean"].update(version=0, value=None))
    rows = {name: (value, about) for name, value, about in copied.explain(cell).sections["metrics"]}
    assert "from video, computed later, 20" in rows["flicker"][1]
    current = sl.metrics.get("flow_mean").version
    assert rows["flow_mean"] == (
        "not defined",
        f"version 0, from memory, the registry has version {current} by now",
    )


def test_the_text_is_aligned_and_the_function_is_the_method(eight):
    sweep = sl.open_sweep(eight)
    cell = sweep.frame()["cell"][0]
    text = str(explain(sweep, cell))
    assert text == str(sweep.explain(cell))
    lines = text[text.index("\nrequest") :].splitlines()
    starts = {re.match(r"  \w+ +", line).end() for line in lines[2:16]}  # type: ignore[union-attr]
    assert len(starts) == 1
