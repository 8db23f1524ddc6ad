"""Files from the Hugging Face hub: from its own cache if they are there, otherwise fetched, announced and explained.

The hub's own rules hold: `HF_HOME` and `HF_HUB_CACHE` say where the cache is, `HF_HUB_OFFLINE` forbids the network,
`HF_TOKEN` or `hf auth login` says who is asking.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath

from svdlab.errors import ModelError
from svdlab.models.layout import Plan, check_complete, listing

log = logging.getLogger("svdlab")

_SPARE = " The fp16 variant is in the cache: dtype='fp16', download=False or HF_HUB_OFFLINE=1 takes it."

Chooser = Callable[[Collection[str]], Plan]


def obtain(
    repo_id: str,
    choose: Chooser,
    *,
    probes: Sequence[str],
    half: bool,
    revision: str | None = None,
    download: bool = True,
    licence: str = "see its page",
) -> tuple[Path, Plan]:
    """Snapshot folder of a repository that holds the files that `choose` picks from a listing, and that choice.

    The cache is asked first, and if it has what is wanted, nothing goes over the network. It is also enough if only
    the full weights are there where half precision is wanted (they are rounded). Only the fp16 variant where more is
    wanted is taken if the network may not be used, or if the repository has nothing else.

    Args:
        repo_id: "org/name".
        choose: picks from names of files; called with the cache's listing and, if need be, the repository's.
        probes: names of files by one of which the snapshot is found in the cache.
        half: half precision is wanted.
        revision: branch, tag or commit; None: the main branch.
        download: False never uses the network.
        licence: for the announcement.

    Raises:
        ModelError: the files are not there and cannot be fetched; says why and what to do.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    folder = cached(repo_id, probes, revision)
    local = choose(listing(folder)) if folder else None
    if folder and local and not local.missing:
        may_fetch = download and not constants.HF_HUB_OFFLINE
        if not (local.narrowed(half) and may_fetch):
            return folder, local
    if not download:
        raise ModelError(f"{_named(repo_id, revision)}: {_lacks(local)}, and download=False. {_ahead()}")
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{_named(repo_id, revision)}: {_lacks(local)}, and HF_HUB_OFFLINE=1 forbids the network."
            f" Unset it to download. {_ahead()}"
        )
    spare = "" if local is None or local.missing else _SPARE
    with _explained(repo_id, revision, spare):
        found = HfApi().model_info(repo_id, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
    remote = choose(sizes)
    check_complete(remote, _named(repo_id, revision), sizes)
    new = [name for name in remote.files if not cached(repo_id, [name], found.sha)]
    if new:  # a warning, because nobody should find out afterwards that gigabytes were fetched
        log.warning(
            "%s: downloading %d files, %s, into %s (licence: %s)",
            repo_id,
            len(new),
            _size(sum(sizes[name] for name in new)),
            constants.HF_HUB_CACHE,
            licence,
        )
    with _explained(repo_id, revision, spare):
        # By the revision's name, not by its commit: that is how the cache learns what the name stands for.
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(remote.files)))
    return folder, remote


def cached(repo_id: str, probes: Sequence[str], revision: str | None = None) -> Path | None:
    """Snapshot folder of a repository in the hub's cache, found by any of the files `probes`; None if none is there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for probe in probes:
        try:
            found = try_to_load_from_cache(repo_id, probe, revision=revision)
        except HFValidationError as error:
            raise ModelError(f"model = {repo_id!r}: not a name that the hub knows ('org/name'): {error}") from error
        if isinstance(found, str):
            return Path(found).parents[len(PurePosixPath(probe).parts) - 1]
    return None


@contextlib.contextmanager
def _explained(repo_id: str, revision: str | None, more: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into a sentence with what to do. Nothing of ours runs inside."""
    try:
        yield
    except Exception as error:
        raise ModelError(f"{_named(repo_id, revision)}: {_advice(error, repo_id)}{more}") from error


def _advice(error: Exception, repo_id: str) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo_id}"
    match error:
        case errors.GatedRepoError():
            return (
                f"is gated. Accept its licence on {page}, log in with 'hf auth login' (or set HF_TOKEN) as the same"
                " person, and try again."
            )
        case errors.RevisionNotFoundError():
            return f"there is no such revision. See the branches and commits on {page}/tree/main."
        case errors.RepositoryNotFoundError():
            return (
                "the hub knows no such repository, or shows it only to those who may see it. Check the name on"
                f" {page}; if it is private or gated, log in with 'hf auth login' (or set HF_TOKEN)."
            )
    return (
        f"could not be fetched from {constants.ENDPOINT} ({type(error).__name__}: {str(error).splitlines()[0]:.200})."
        f" Check the connection and try again; what has arrived is kept. {_ahead()}"
    )


def _named(repo_id: str, revision: str | None) -> str:
    return f"{repo_id} at revision {revision!r}" if revision else repo_id


def _lacks(local: Plan | None) -> str:
    return f"the hub's cache lacks {', '.join(local.missing)}" if local else "not in the hub's cache"


def _ahead() -> str:
    from huggingface_hub import constants

    return (
        "To fetch weights ahead, run 'svdlab weights NAME' where there is a network; the cache"
        f" ({constants.HF_HUB_CACHE}) may be copied, and HF_HUB_CACHE says where it is."
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
