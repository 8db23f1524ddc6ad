"""Regenerate: a finished cell made again from its manifest, and a comparison with what is stored."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import ModelError, SweepError
from svdlab.files import sha256_file
from svdlab.sweep.artifacts import LATENTS, MANIFEST, cell_path, image_path, read_manifest
from svdlab.sweep.cells import quiet_request
from svdlab.sweep.explain import find_cell
from svdlab.sweep.keys import KEY_VERSION
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.provenance import machine, versions

if TYPE_CHECKING:
    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Regenerated:
    """A cell made again. Prints as text.

    Attributes:
        cell: its key.
        clip: what was made now.
        same: whether the latents are those that are stored, to the bit; None if none are stored.
        largest: the largest difference between the two latents; None where they were not compared.
        differences: what is not as it was, one sentence each.
    """

    cell: str
    clip: Clip
    same: bool | None
    largest: float | None
    differences: tuple[str, ...]

    def __str__(self) -> str:
        if self.same:
            first = "latents bit-identical to the stored ones"
        elif self.same is None:
            first = "no latents are stored beside the manifest, so nothing was compared"
        else:
            first = f"latents differ from the stored ones by up to {self.largest:.3g}"
        about = [f"differs: {sentence}" for sentence in self.differences]
        return "\n".join([f"cell {self.cell}: {first}", *(about or ["nothing that was recorded differs"])])


def regenerate(
    cell: str | os.PathLike[str],
    *,
    image: Any = None,
    pipe: Pipeline | None = None,
    device: str = "auto",
    dtype: str = "auto",
    low_memory: str | bool = "auto",
) -> Regenerated:
    """Make a finished cell again from what its manifest records, and compare latents with the stored ones.

    The same code, packages, machine and number of threads give the same bits. What is not as it was is said, and the
    clip is made all the same; nothing is written.

    Args:
        cell: a ``manifest.json``, the folder it lies in, or run directory and key, as in ``"runs/first/3f2a"``.
        image: the picture, where the run directory with its copy is not around the manifest.
        pipe: used instead of loading the model that the manifest names.
        device, dtype: to load the model with; ``"auto"`` takes the cell's device, if it is there, and its precision.
        low_memory: see `svdlab.load`.

    Raises:
        SweepError: there is no such cell, its manifest is damaged, or the picture is missing or another one.
        ModelError: the model cannot be loaded.

    Example:
        >>> print(regenerate("runs/first/3f2a"))
        cell 3f2a0c1b9d8e7f60: latents bit-identical to the stored ones
        nothing that was recorded differs
    """
    place = _place(Path(cell))
    manifest = _manifest(place)
    picture = _picture(place, manifest, image)
    if pipe is None:
        pipe = _load(manifest, device, dtype, low_memory)
    clip = pipe(quiet_request(picture, manifest["request"]))
    same, largest = _compare(place, manifest, clip)
    return Regenerated(
        cell=manifest["cell"],
        clip=clip,
        same=same,
        largest=largest,
        differences=tuple(_differences(manifest, pipe)),
    )


def _place(path: Path) -> Path:
    """The folder of the cell, or the manifest that lies alone."""
    if path.is_dir() and (path / MANIFEST).is_file():
        return path
    if path.is_file():
        return path.parent if path.name == MANIFEST else path
    if not path.exists() and path.parent.is_dir():
        with Ledger(path.parent) as ledger:
            key = find_cell(ledger, path.name)
        if (path.parent / cell_path(key) / MANIFEST).is_file():
            return path.parent / cell_path(key)
        raise SweepError(f"{path}: the cell {key} is not done, so it has no manifest yet.")
    raise SweepError(
        f"{path}: is no cell. Give its manifest.json, the folder it is in, or run directory and key (runs/first/3f2a)."
    )


def _manifest(place: Path) -> dict[str, Any]:
    """The manifest, checked as a run checks it where the cell lies in its run directory, else as far as it goes."""
    if place.is_dir() and len(place.parents) > 2 and place == place.parents[2] / cell_path(place.name):
        return read_manifest(place.parents[2], place.name)
    file = place / MANIFEST if place.is_dir() else place
    try:
        manifest = json.loads(file.read_bytes())
        for name in ("cell", "request", "image", "model", "files"):
            manifest[name]
        manifest["image"]["digest"], manifest["model"]["name"], manifest["model"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SweepError(f"{file}: is not the manifest of a cell ({type(error).__name__}: {error}).") from None
    return manifest


def _picture(place: Path, manifest: Mapping[str, Any], image: Any) -> Any:
    """The cell's picture: the one given, or the copy that the run directory keeps."""
    from svdlab.images import image_digest, load_image

    if image is None:
        kept = [parent / image_path(manifest["image"]["digest"]) for parent in place.parents]
        image = next((path for path in kept if path.is_file()), None)
    if image is None:
        raise SweepError(f"{place}: its picture is not in a folder `images` above it. Give the picture too.")
    picture = load_image(image)
    if image_digest(picture) != manifest["image"]["digest"]:
        raise SweepError(f"{image}: has other pixels than the picture of this cell ({manifest['image'].get('label')}).")
    return picture


def _load(manifest: Mapping[str, Any], device: str, dtype: str, low_memory: str | bool) -> Pipeline:
    from svdlab.models import CATALOGUE
    from svdlab.pipeline import load

    model = manifest["model"]
    dtype = model.get("dtype", "auto") if dtype == "auto" else dtype
    revision = model.get("revision") if model["name"] in CATALOGUE or "/" in model["name"] else None
    revision = None if "+" in str(revision) else revision  # of a student and its base: there is no way to ask for both
    options: dict[str, Any] = {"dtype": dtype, "revision": revision, "low_memory": low_memory}
    if device == "auto" and model.get("device"):
        try:
            return load(model["name"], device=model["device"], **options)
        except ModelError as error:
            if "device =" not in str(error):
                raise
    return load(model["name"], device=device, **options)


def _compare(place: Path, manifest: Mapping[str, Any], clip: Clip) -> tuple[bool | None, float | None]:
    """Whether the latents are the stored ones, and the largest difference; None if none are stored."""
    path = place / LATENTS
    if LATENTS not in manifest["files"] or not place.is_dir() or not path.is_file():
        return None, None
    if sha256_file(path) != manifest["files"][LATENTS]["sha256"]:
        raise SweepError(f"{path}: has other bytes than were written. `svdlab repair` takes the cell out.")
    import safetensors.torch
    import torch

    stored = safetensors.torch.load_file(path)["latents"]
    assert clip.latents is not None
    return torch.equal(stored, clip.latents), float((stored - clip.latents).abs().max())


def _differences(manifest: Mapping[str, Any], pipe: Pipeline) -> Iterator[str]:
    """What is not as it was when the cell was made, as far as it is recorded."""
    before, now = manifest["model"], pipe.describe()
    if before["fingerprint"] != now["fingerprint"]:
        yield f"weights or precision: {before['fingerprint']} then, {now['fingerprint']} now"
    if before.get("device") != now["device"]:
        yield f"device: {before.get('device')} then, {now['device']} now"
    if manifest.get("batch", 1) != 1:
        yield f"batch: {manifest['batch']} cells together then, 1 now: latents are equal within rounding"
    if manifest.get("key_version", KEY_VERSION) != KEY_VERSION:
        yield f"key version: {manifest['key_version']} then, {KEY_VERSION} now: the same request gives other pixels"
    old = {**manifest.get("versions", {}), **manifest.get("machine", {})}
    new = {**versions(), **machine(now["device"])}
    for name in (*old, *(name for name in new if name not in old)):
        if old.get(name) != new.get(name):
            yield f"{name}: {old.get(name, 'not recorded')} then, {new.get(name, 'not there')} now"
