"""Artifacts: the folder of a finished cell, ``cells/<first two digits>/<key>/``, written whole or not at all.

It holds ``clip.mp4``, ``latents.safetensors`` (float32, exact; absent if a clip has none), ``thumb.jpg`` and
``manifest.json``, from which the cell's row in the ledger can be made again. A cell that is not decoded yet holds
latents and manifest, and where it was asked for ``preview.jpg``; the other files are added when its frames are made
(`svdlab.sweep.decode`). What is in place is never replaced but the manifest.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
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
    from torch import Tensor

    from svdlab.pipeline import Pipeline
    from svdlab.sample import Sample

MANIFEST_VERSION = 1
VIDEO, LATENTS, THUMB, MANIFEST = "clip.mp4", "latents.safetensors", "thumb.jpg", "manifest.json"
PREVIEW = "preview.jpg"  # frames of rough colours side by side, see `svdlab.sweep.strip`
TMP = ".tmp-"  # beginning of every name that is not in place yet


def cell_path(key: str) -> str:
    """Folder of a cell, relative to the run directory, with forward slashes.

    Raises:
        SweepError: `key` is none: a directory from elsewhere may say anything, and must not lead out of itself.
    """
    return f"cells/{_checked(key)[:2]}/{key}"


def image_path(digest: str) -> str:
    """The kept copy of a picture, relative to the run directory.

    Raises:
        SweepError: `digest` is none.
    """
    return f"images/{_checked(digest)[:16]}.png"


def _checked(key: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_-]+", key):
        raise SweepError(
            f"{key!r:.80}: is no key of a cell or picture, which are hexadecimal digits. The directory's ledger is"
            " damaged, or was made to mislead: run 'svdlab repair' on it, or do not use it."
        )
    return key


def encode(clip: Clip) -> dict[str, bytes]:
    """A clip as the files of a cell, but for the manifest: name -> bytes.

    Raises:
        VideoError: the frames cannot be held by an mp4.
    """
    files = encode_frames(clip)
    return files if clip.latents is None else files | {LATENTS: encode_latents(clip.latents)}


def encode_frames(clip: Clip) -> dict[str, bytes]:
    """The files of a cell that stand for its frames: the mp4 and a thumbnail."""
    from svdlab.video import contact_sheet, to_jpeg

    return {
        VIDEO: clip.to_mp4(),
        THUMB: to_jpeg(contact_sheet(clip.frames, count=5, max_width=640, labels=False)),
    }


def encode_latents(latents: Tensor) -> bytes:
    """Latents as a safetensors file, float32."""
    import safetensors.torch

    return safetensors.torch.save({"latents": latents.float().contiguous()})


def make_manifest(
    *,
    key: str,
    clip: Clip | Sample,
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

    Keys were only ever added: `key_version`, `noise_streams`, `machine`, `batch`, `low_memory`, `backfills` and
    `decoded` are missing in manifests of svdlab 0.1.0. Of a cell that is not decoded yet, `seconds` has neither
    `decode` nor `total`.

    Args:
        clip: the clip, or the sample of a cell that is not decoded yet.
    """
    assert clip.request is not None
    settings = clip.request.settings()
    return {
        "schema": MANIFEST_VERSION,
        "cell": key,
        "key_version": KEY_VERSION,
        "request": settings,
        "seed": clip.seed,
        "noise_streams": [] if model.get("hosted") else list(noise_streams(settings)),
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
        "files": _listed(files),
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


def add_files(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Put more files into the folder of a finished cell, and then their names into its manifest, which is returned.

    If this is cut short, files that no manifest names are left, and the next call writes them anew.

    Args:
        manifest: what the cell's manifest is to say, but for these files.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    place = folder / cell_path(manifest["cell"])
    for name, data in files.items():
        write_atomic(place / name, data)
    result = {**manifest, "files": {**manifest["files"], **_listed(files)}}
    write_atomic(place / MANIFEST, _json_bytes(result))
    return result


def _listed(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    return {name: {"bytes": len(data), "sha256": sha256_bytes(data)} for name, data in files.items()}


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
        SweepError: the cell's folder is not whole, `pipe` has other weights than the cell, or there is no `pipe` and
            the cell is not decoded yet.
    """
    from svdlab.images import load_image, prepare

    manifest, place = read_manifest(folder, key), folder / cell_path(key)
    request = quiet_request(str(folder / image_path(manifest["image"]["digest"])), manifest["request"])
    latents = None
    if LATENTS in manifest["files"]:
        import safetensors.torch

        latents = safetensors.torch.load_file(place / LATENTS)["latents"]
    if pipe is None and VIDEO not in manifest["files"]:
        raise SweepError(
            f"{key}: is not decoded yet, so it has no frames to read. Sweep.decode() makes and keeps them, also"
            f" `svdlab decode {folder}`; with pipe= they are decoded from its latents."
        )
    sliced = bool(manifest.get("low_memory", False))
    if pipe is None:
        from svdlab.video import read_video

        frames = read_video(place / VIDEO).frames
    elif latents is None or pipe.fingerprint != manifest["model"]["fingerprint"]:
        why = "it has no latents" if latents is None else f"it belongs to other weights than {pipe.name!r}"
        raise SweepError(f"{key}: cannot be decoded, {why}. Leave `pipe` out to take the frames of its mp4.")
    else:
        began = time.perf_counter()
        frames, sliced = pipe.decode_noted(latents, decode_chunk=request.decode_chunk)
        decode = time.perf_counter() - began
    seconds, spent = manifest["seconds"], manifest["seconds_spent"]
    if VIDEO not in manifest["files"]:  # decoded now for the first time
        seconds, spent = {**seconds, "decode": decode, "total": sum(seconds.values()) + decode}, spent + decode
    height, width = frames.shape[1:3]  # of a hosted clip the settings only assume them
    return Clip(
        frames=frames,
        fps=request.fps,
        latents=latents,
        request=request,
        image=_array(prepare(load_image(request.image), width=width, height=height)),
        seconds=seconds,
        seconds_spent=spent,
        vram_peak_mb=manifest["vram_peak_mb"],
        model=manifest["model"],
        low_memory=sliced,
    )


def read_mp4(folder: Path, key: str) -> bytes:
    """The mp4 of a cell, as it is on the disk.

    Raises:
        SweepError: it cannot be read.
    """
    path = Path(cell_path(key)) / VIDEO
    try:
        return (folder / path).read_bytes()
    except OSError as error:
        raise SweepError(
            f"{path.as_posix()}: cannot be read ({error.strerror}). `svdlab repair {folder}` says what is damaged."
        ) from None


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


def estimate_bytes(settings: Mapping[str, Any], *, frames: bool = True) -> float:
    """What a cell takes on disk before one has been stored: exact latents, and an mp4 at about 2 bits a pixel.

    Args:
        frames: whether it is decoded at once; without, there is no mp4.
    """
    pixels = math.prod(settings[name] for name in ("num_frames", "width", "height"))
    return pixels / 64 * 4 * 4 + (pixels / 4 if frames else 0) + 20_000
