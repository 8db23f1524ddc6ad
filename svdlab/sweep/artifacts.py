"""Artifacts: the folder of a finished cell, ``cells/<first two digits>/<key>/``, written whole or not at all.

It holds ``clip.mp4``, ``latents.safetensors`` (float32, exact; absent if a clip has none), ``thumb.jpg`` and
``manifest.json``, from which the cell's row in the ledger can be made again.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.clip import Clip
from svdlab.errors import NewerError, SweepError
from svdlab.files import sha256_bytes, sync_file, sync_folder, write_atomic
from svdlab.sweep.cells import quiet_request
from svdlab.sweep.keys import KEY_VERSION, cell_key
from svdlab.sweep.lock import now
from svdlab.sweep.provenance import machine, noise_streams, versions

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

MANIFEST_VERSION = 1
VIDEO, LATENTS, THUMB, MANIFEST = "clip.mp4", "latents.safetensors", "thumb.jpg", "manifest.json"
TMP = ".tmp-"  # beginning of every name that is not in place yet


def cell_path(key: str) -> str:
    """Folder of a cell, relative to the run directory, with forward slashes."""
    return f"cells/{key[:2]}/{key}"


def image_path(digest: str) -> str:
    """The kept copy of a picture, relative to the run directory."""
    return f"images/{digest[:16]}.png"


def encode(clip: Clip) -> dict[str, bytes]:
    """A clip as the files of a cell, but for the manifest: name -> bytes.

    Raises:
        VideoError: the frames cannot be held by an mp4.
    """
    from svdlab.video import contact_sheet, to_jpeg

    files = {VIDEO: clip.to_mp4()}
    if clip.latents is not None:
        import safetensors.torch

        files[LATENTS] = safetensors.torch.save({"latents": clip.latents.float().contiguous()})
    files[THUMB] = to_jpeg(contact_sheet(clip.frames, count=5, max_width=640, labels=False))
    return files


def make_manifest(
    *,
    key: str,
    clip: Clip,
    files: Mapping[str, bytes],
    metrics: Mapping[str, Mapping[str, Any]],
    image: Mapping[str, str],
    model: Mapping[str, Any],
    finished: str,
    elapsed: float,
    attempt: int,
    timing: str,
    batch: int = 1,
) -> dict[str, Any]:
    """Everything about a finished cell, ready for JSON; see `Ledger.finish`, which reads it.

    Keys were only ever added: `key_version`, `noise_streams`, `machine`, `batch`, `low_memory` and `backfills` are
    missing in manifests of svdlab 0.1.0.
    """
    assert clip.request is not None
    settings = clip.request.settings()
    return {
        "schema": MANIFEST_VERSION,
        "cell": key,
        "key_version": KEY_VERSION,
        "request": settings,
        "seed": clip.seed,
        "noise_streams": list(noise_streams(settings)),
        "image": dict(image),
        "model": dict(model),
        "metrics": {name: dict(metric) for name, metric in metrics.items()},
        "seconds": dict(clip.seconds),
        "seconds_spent": clip.seconds_spent,
        "vram_peak_mb": clip.vram_peak_mb,
        "elapsed": elapsed,
        "attempt": attempt,
        "timing": timing,
        "low_memory": getattr(clip, "low_memory", False),  # decoded in slices, by choice or since memory ran out
        "batch": batch,  # cells that were denoised together: another number gives latents equal within rounding
        "finished": finished,
        "versions": versions(),
        "machine": machine(model.get("device")),
        "files": {name: {"bytes": len(data), "sha256": sha256_bytes(data)} for name, data in files.items()},
    }


def store(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a cell's folder under a temporary name, sync it, and move it into place as a whole.

    Raises:
        OSError: the disk is full or cannot be written; the place is then as it was before.
    """
    target = folder / cell_path(manifest["cell"])
    for place in (folder / "cells", target.parent):  # and not the run directory itself, should someone have deleted it
        place.mkdir(exist_ok=True)
    tmp = folder / "cells" / f"{TMP}{manifest['cell']}-{uuid.uuid4().hex[:8]}"
    tmp.mkdir()
    try:
        for name, data in {**files, MANIFEST: _json_bytes(manifest)}.items():
            (tmp / name).write_bytes(data)
            sync_file(tmp / name)
        sync_folder(tmp)
        if target.exists():  # what is left of a folder that was not worth adopting
            target.replace(folder / "cells" / f"{TMP}old-{uuid.uuid4().hex[:8]}")
        tmp.replace(target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise


def update_manifest(folder: Path, key: str, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Add metrics to the manifest of a finished cell (those of the same name are replaced), and by which versions."""
    manifest = read_manifest(folder, key)
    manifest["metrics"] |= metrics
    added = {"finished": now(), "metrics": list(metrics), "versions": versions()}
    manifest["backfills"] = [*manifest.get("backfills", ()), added]
    write_atomic(folder / cell_path(key) / MANIFEST, _json_bytes(manifest))


def _json_bytes(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()


def read_manifest(folder: Path, key: str, *, sizes: bool = True) -> dict[str, Any]:
    """The manifest of a cell, if it is whole and belongs to this key, and its files are there.

    Args:
        sizes: look at the files too, each of which must have the size that the manifest names.

    Raises:
        NewerError: a newer svdlab wrote it.
        SweepError: it is not; the text says what is wrong.
    """
    place = folder / cell_path(key)
    try:
        manifest = json.loads((place / MANIFEST).read_bytes())
        if manifest["schema"] > MANIFEST_VERSION:
            raise NewerError(
                f"{place}: its manifest has version {manifest['schema']}, of a newer svdlab; this one reads"
                f" {MANIFEST_VERSION}. Use the svdlab that wrote it, or choose another directory. Nothing was changed."
            )
        if manifest["schema"] != MANIFEST_VERSION:
            raise SweepError(f"{place}: its manifest has version {manifest['schema']}, not {MANIFEST_VERSION}.")
        request, image, model = manifest["request"], manifest["image"]["digest"], manifest["model"]["fingerprint"]
        if key != manifest["cell"] or key != cell_key(request, image=image, model=model):
            raise SweepError(f"{place}: its manifest belongs to another cell.")
        files = manifest["files"].items() if sizes else ()
        wrong = [name for name, file in files if (place / name).stat().st_size != file["bytes"]]
        if wrong:
            raise SweepError(f"{place}: {', '.join(wrong)} is not of the size that the manifest names.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SweepError(f"{place}: is not a whole cell ({type(error).__name__}: {error}).") from None
    return manifest


def stored_keys(folder: Path) -> Iterator[str]:
    """Keys of all cells that have a folder in place."""
    for shelf in _entries(folder / "cells"):
        if not shelf.name.startswith(TMP) and shelf.is_dir():
            for entry in _entries(Path(shelf.path)):
                if entry.name.startswith(shelf.name):
                    yield entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    return sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else []


def sweep_up(folder: Path) -> int:
    """Remove everything that a crashed process left under a temporary name. Returns how many files and folders."""
    left = [path for path in folder.rglob(f"{TMP}*") if not path.parent.name.startswith(TMP)]
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return len(left)


def load_clip(folder: Path, key: str, *, pipe: Pipeline | None = None) -> Clip:
    """A stored cell as a clip. Its frames are those of the mp4 (lossy); with `pipe`, of the latents, decoded (exact).

    Raises:
        SweepError: the cell's folder is not whole, or `pipe` has other weights than the cell.
    """
    from svdlab.images import load_image, prepare

    manifest, place = read_manifest(folder, key), folder / cell_path(key)
    request = quiet_request(str(folder / image_path(manifest["image"]["digest"])), manifest["request"])
    latents = None
    if LATENTS in manifest["files"]:
        import safetensors.torch

        latents = safetensors.torch.load_file(place / LATENTS)["latents"]
    if pipe is None:
        from svdlab.video import read_video

        frames = read_video(place / VIDEO).frames
    elif latents is None or pipe.fingerprint != manifest["model"]["fingerprint"]:
        why = "it has no latents" if latents is None else f"it belongs to other weights than {pipe.name!r}"
        raise SweepError(f"{key}: cannot be decoded, {why}. Leave `pipe` out to take the frames of its mp4.")
    else:
        frames = pipe.decode(latents, decode_chunk=request.decode_chunk)
    assert request.width is not None
    assert request.height is not None
    return Clip(
        frames=frames,
        fps=request.fps,
        latents=latents,
        request=request,
        image=_array(prepare(load_image(request.image), width=request.width, height=request.height)),
        seconds=manifest["seconds"],
        seconds_spent=manifest["seconds_spent"],
        vram_peak_mb=manifest["vram_peak_mb"],
        model=manifest["model"],
        low_memory=bool(manifest.get("low_memory", False)),
    )


def _array(image: Any) -> Any:
    import numpy as np

    return np.asarray(image)


def portable(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`Pipeline.describe()` without absolute paths: a model from a folder is called by the folder's name."""
    result = dict(described)
    name = str(result.get("name", ""))
    if Path(name).is_absolute():
        result["name"] = Path(name).name
    if path := re.search(r"(?:^|(?<=\s))/.*", str(result.get("source") or "")):  # such as "folder /home/..."
        result["source"] = result["source"][: path.start()] + relative(path[0], folder)
    return result


def relative(path: str, folder: Path) -> str:
    """`path` as seen from the run directory, so that both can be moved together; unchanged on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path


def estimate_bytes(settings: Mapping[str, Any]) -> float:
    """What a cell takes on disk before one has been stored: exact latents, and an mp4 at about 2 bits a pixel."""
    pixels = math.prod(settings[name] for name in ("num_frames", "width", "height"))
    return pixels / 64 * 4 * 4 + pixels / 4 + 20_000
