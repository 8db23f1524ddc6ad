"""Where a model's files are: a name, a folder or a hub repository -> files on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from svdlab.errors import ModelError
from svdlab.models import catalogue
from svdlab.models.cards import ModelInfo, lender, read_card, weights_gb
from svdlab.models.hub import obtain
from svdlab.models.layout import (
    PARTS,
    PICKLES,
    Plan,
    check_complete,
    general_defaults,
    listing,
    plan,
    plan_file,
    read_configs,
    sensible,
)

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CONFIGS = tuple(f"{part.name}/{part.config}" for part in PARTS)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a model on this machine.

    `unet_file` takes the place of the UNet's weights in `folder`; `lent` that of `folder` for all but the UNet.
    """

    info: ModelInfo
    folder: Path
    plan: Plan
    unet_file: Path | None = None
    lent: Path | None = None
    revision: str | None = None
    text: str  # in words

    def folder_of(self, part: str) -> Path:
        """Where a part lies."""
        return (self.lent if self.lent and part != "unet" else self.folder) / part

    def weights(self, part: str) -> tuple[Path, ...]:
        """Weight files of a part."""
        if part == "unet" and self.unet_file:
            return (self.unet_file,)
        return tuple(self.folder_of(part).parent / name for name in self.plan.weights.get(part, ()))


def locate(
    name_or_path: str | os.PathLike[str], *, half: bool, revision: str | None = None, download: bool = True
) -> Source:
    """Find a model's files, downloading what is missing if `download` allows it.

    A name in the catalogue goes before a folder of that name ("./svd" is the folder), and an existing folder "org/name"
    before the hub's repository.

    Raises:
        ModelError: there is no such model, files are missing, or they cannot be fetched.
    """
    name = os.fspath(name_or_path)
    known = catalogue.CATALOGUE.get(name)
    if known is None:
        path = Path(name).expanduser()
        if name and path.is_dir():
            return _in_folder(path, half, revision)
        _refuse_file(path, name)
        if name.startswith(".") or not _REPO_ID.fullmatch(name):
            known = catalogue.info(name)  # raises, with the nearest name
        else:
            whole = (entry for entry in catalogue.CATALOGUE.values() if not entry.base)
            known = next((entry for entry in whole if entry.repo_id == name), None)
    if known is None:
        return _in_repository(name, None, half, revision, download)
    if known.folder:
        return replace(_in_folder(known.folder, half, revision), info=known, text=f"{known.name}, bundled")
    if not known.repo_id:
        raise ModelError(f"model = {known.name!r}: has no files; it is built in memory. There is nothing to fetch.")
    if known.base and known.unet_file:
        return _student(known, known.repo_id, known.unet_file, known.base, half, revision, download)
    return _in_repository(known.repo_id, known, half, revision, download)


def is_local(name: str) -> bool:
    """Whether a model of the catalogue would load without the network, in one precision at least.

    Looks at names of files only; costs no torch and no network.

    Raises:
        ModelError: there is no such name.

    Example:
        >>> is_local("tiny")
        True
    """
    entry = catalogue.info(name)
    if not entry.repo_id and not entry.folder:
        return True
    try:
        locate(name, half=True, download=False)
    except ModelError:
        return False
    return True


def _in_repository(repo_id: str, known: ModelInfo | None, half: bool, revision: str | None, download: bool) -> Source:
    try:
        folder, found = obtain(
            repo_id,
            lambda names: plan(names, half=half),
            probes=_CONFIGS,
            half=half,
            revision=revision or (known.revision if known else None),
            download=download,
            licence=known.licence if known else "see its page",
        )
    except ModelError as error:
        if known:
            raise
        raise ModelError(f"{error} (There is no local folder {repo_id!r} either.)") from error
    info = known or _describe(folder, read_card(folder), name=repo_id, repo_id=repo_id)
    return Source(info=info, folder=folder, plan=found, revision=folder.name, text=f"{repo_id} at {folder.name[:12]}")


def _student(
    info: ModelInfo, repo_id: str, file: str, base_name: str, half: bool, revision: str | None, download: bool
) -> Source:
    """A UNet of its own, and everything else from the model that it was distilled from."""
    base = catalogue.info(base_name)
    own, _ = obtain(
        repo_id,
        lambda names: plan_file(names, file),
        probes=[file],
        half=half,
        revision=revision or info.revision,
        download=download,
        licence=info.licence,
    )
    folder, found = obtain(
        str(base.repo_id),
        lambda names: plan(names, half=half, unet_weights=False),
        probes=_CONFIGS,
        half=half,
        revision=base.revision,
        download=download,
        licence=base.licence,
    )
    return Source(
        info=info,
        folder=folder,
        plan=found,
        unet_file=own / file,
        revision=f"{own.name}+{folder.name}",
        text=f"{repo_id}/{file} at {own.name[:12]}, the rest from {base.repo_id} at {folder.name[:12]}",
    )


def _in_folder(folder: Path, half: bool, revision: str | None) -> Source:
    if revision is not None:
        raise ModelError(f"revision = {revision!r}: {folder} is a local folder, which has no revisions. Leave it out.")
    card = read_card(folder)
    names, lent = listing(folder), None
    text = f"folder {folder}"
    if card and card.base:
        lent = lender(folder, card.base)
        names = {name for name in names if name.startswith("unet/")} | {
            name for name in listing(lent) if not name.startswith("unet/")
        }
        text += f", all but the UNet from {card.base} beside it"
    found = plan(names, half=half)
    check_complete(found, f"{folder} with what {lent} lends" if lent else str(folder), names)
    info = _describe(folder, card, name=folder.resolve().name, repo_id=None)
    return Source(info=info, folder=folder, lent=lent, plan=found, text=text)


def _describe(folder: Path, card: ModelInfo | None, *, name: str, repo_id: str | None) -> ModelInfo:
    """What is known of a model that the catalogue does not list: its card, or what its configs say."""
    if card:
        return replace(card, repo_id=repo_id)
    configs = read_configs(folder.joinpath)
    with sensible(folder):
        defaults = general_defaults(configs)
    return ModelInfo(
        name=name,
        title=name,
        kind="teacher",
        defaults=defaults,
        licence="see its page" if repo_id else "not stated",
        memory_gb=weights_gb(folder),
        repo_id=repo_id,
        folder=None if repo_id else folder,
        notes="No svdlab.json: sampled as a teacher unless a request says otherwise.",
    )


def _refuse_file(path: Path, name: str) -> None:
    if path.suffix in PICKLES:
        raise ModelError(
            f"model = {name!r}: a {path.suffix} file is a pickle, which can run any code while it loads. Only"
            " safetensors are read: convert it to a diffusers folder with save_pretrained, in a place that you trust."
        )
    if path.is_file():
        raise ModelError(
            f"model = {name!r}: a file. Give the diffusers folder that holds unet, vae, image_encoder and"
            " feature_extractor, or a name from the catalogue."
        )
    if name.startswith(("/", ".", "~")) or os.sep in name.replace("/", "", 1):
        raise ModelError(
            f"model = {name!r}: there is no such folder. Check the path ({Path.cwd()} is the current one)."
        )
