from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest

from svdlab.errors import ModelError
from svdlab.models.hub import cached, obtain
from svdlab.models.layout import plan, plan_file
from tests.models.world import Hub, cache_repo, files_in

REPO = "laboratory/teacher"
CONFIG = "unet/config.json"


def fetch(*, half: bool = False, repo_id: str = REPO, **how: object) -> Path:
    return obtain(repo_id, partial(plan, half=half), probes=[CONFIG], half=half, **how)[0]  # type: ignore[arg-type]


@pytest.fixture
def both(full: Path, half: Path) -> dict[str, Path]:
    """Files of a repository with full weights, fp16 variants, and things that nobody needs."""
    files = {**files_in(half), **files_in(full)}
    return {**files, "README.md": full / CONFIG, "svd.safetensors": full / CONFIG, "unet/old.bin": full / CONFIG}


def wanted(both: dict[str, Path], *, half: bool) -> set[str]:
    return {
        name
        for name in both
        if name.endswith(".json") or (name.endswith(".safetensors") and "/" in name and (".fp16" in name) == half)
    }


def test_the_cache_is_found_by_any_probe(full: Path, cache: Path) -> None:
    assert cached(REPO, [CONFIG]) is None
    snapshot = cache_repo(cache, REPO, files_in(full), commit="c" * 40)
    assert cached(REPO, ["absent.json", CONFIG]) == snapshot
    assert cached(REPO, ["absent.json"]) is None
    assert cached(REPO, [CONFIG], "c" * 40) == snapshot
    assert cached(REPO, [CONFIG], "d" * 40) is None


def test_a_name_the_hub_cannot_know_is_refused(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"'a--b/c': not a name that the hub knows"):
        cached("a--b/c", [CONFIG])


@pytest.mark.parametrize("narrow", [True, False])
def test_what_is_cached_needs_no_network(hub: Hub, cache: Path, both: dict[str, Path], narrow: bool) -> None:
    snapshot = cache_repo(cache, REPO, both)
    assert fetch(half=narrow) == snapshot
    assert hub.asked == 0


def test_full_weights_in_the_cache_serve_half_precision_too(hub: Hub, cache: Path, full: Path) -> None:
    snapshot = cache_repo(cache, REPO, files_in(full))
    assert fetch(half=True) == snapshot
    assert hub.asked == 0


def test_the_cached_half_is_taken_for_more_only_if_the_network_may_not_be_used(
    hub: Hub, cache: Path, half: Path, both: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    snapshot = cache_repo(cache, REPO, files_in(half))
    assert fetch(download=False) == snapshot
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch() == snapshot
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.repos[REPO] = both
    folder = fetch()
    assert folder.name == hub.commit
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()


@pytest.mark.parametrize("narrow", [True, False])
def test_a_download_takes_what_is_needed_and_says_so_once(
    hub: Hub, cache: Path, both: dict[str, Path], narrow: bool, caplog: pytest.LogCaptureFixture
) -> None:
    hub.repos[REPO] = both
    with caplog.at_level(logging.INFO, "svdlab"):
        folder = fetch(half=narrow, licence="a licence")
        names = wanted(both, half=narrow)
        assert {path.removeprefix(f"{REPO}/") for path in hub.served} == names
        assert set(files_in(folder)) == names
        size = sum(both[name].stat().st_size for name in names) / 1e6
        messages = [record.getMessage() for record in caplog.records if record.name == "svdlab"]
        assert messages == [f"{REPO}: downloading {len(names)} files, {size:.1f} MB, into {cache} (licence: a licence)"]
        assert [record.levelname for record in caplog.records if record.name == "svdlab"] == ["WARNING"]

        asked = hub.asked
        assert fetch(half=narrow) == folder  # now it is here: no request, no word
        assert hub.asked == asked
        assert len(messages) == 1


def test_a_cache_that_lacks_a_file_is_completed(
    hub: Hub, cache: Path, both: dict[str, Path], full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = files_in(full)
    weights = "vae/diffusion_pytorch_model.safetensors"
    cache_repo(cache, REPO, {name: path for name, path in files.items() if name != weights}, commit=hub.commit)
    hub.repos[REPO] = both
    folder = fetch()
    assert set(files_in(folder)) == wanted(both, half=False)
    assert hub.served == [f"{REPO}/{weights}"]
    assert "downloading 1 files" in caplog.text


def test_a_repository_with_half_precision_only_serves_both(hub: Hub, cache: Path, half: Path) -> None:
    hub.repos[REPO] = files_in(half)
    folder = fetch()
    assert set(files_in(folder)) == set(files_in(half))
    served = len(hub.served)
    assert fetch() == folder
    assert len(hub.served) == served


def test_one_file_of_a_repository(hub: Hub, cache: Path, student: Path) -> None:
    hub.repos["laboratory/student"] = {**files_in(student), "other.safetensors": student / "student.safetensors"}
    folder, _ = obtain(
        "laboratory/student",
        lambda names: plan_file(names, "student.safetensors"),
        probes=["student.safetensors"],
        half=True,
    )
    assert [path.name for path in folder.iterdir()] == ["student.safetensors"]


def test_a_repository_without_a_whole_model_is_named(hub: Hub, cache: Path, full: Path) -> None:
    hub.repos[REPO] = {name: path for name, path in files_in(full).items() if not name.startswith("vae/")}
    with pytest.raises(ModelError, match=rf"{REPO}: not a whole model.*Missing: vae/config\.json, vae/diffusion"):
        fetch()
    assert hub.served == []


def test_a_repository_of_pickles_is_refused_before_anything_is_fetched(hub: Hub, cache: Path, full: Path) -> None:
    hub.repos[REPO] = {name.replace(".safetensors", ".bin"): path for name, path in files_in(full).items()}
    with pytest.raises(ModelError, match="unpickled"):
        fetch()
    assert hub.served == []


def test_download_false_says_what_is_missing(hub: Hub, cache: Path, full: Path) -> None:
    with pytest.raises(ModelError, match=rf"{REPO}: not in the hub's cache, and download=False.*svdlab weights NAME"):
        fetch(download=False)
    cache_repo(cache, REPO, {CONFIG: full / CONFIG})
    with pytest.raises(ModelError, match=r"the hub's cache lacks unet/diffusion\S+, vae/config\.json.*download=False"):
        fetch(download=False)
    assert hub.asked == 0


def test_offline_says_how_to_go_on(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE=1 forbids the network\. Unset it") as caught:
        fetch(revision="v2")
    assert f"{REPO} at revision 'v2'" in str(caught.value)
    assert str(cache) in str(caught.value)


def test_gated(hub: Hub, cache: Path, both: dict[str, Path]) -> None:
    hub.repos[REPO], hub.gated = both, {REPO}
    with pytest.raises(ModelError, match=r"is gated\. Accept its licence on http.*/laboratory/teacher.*hf auth login"):
        fetch()


def test_unknown_repository(hub: Hub, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"nobody/nothing: the hub knows no such repository.*hf auth login") as caught:
        fetch(repo_id="nobody/nothing")
    assert type(caught.value.__cause__).__name__ == "RepositoryNotFoundError"


def test_unknown_revision(hub: Hub, cache: Path, both: dict[str, Path]) -> None:
    hub.repos[REPO] = both
    with pytest.raises(ModelError, match=r"at revision 'v9': there is no such revision"):
        fetch(revision="v9")


def test_a_commit_is_a_revision_too(hub: Hub, cache: Path, both: dict[str, Path]) -> None:
    hub.repos[REPO] = both
    folder = fetch(revision=hub.commit)
    assert folder.name == hub.commit
    asked = hub.asked
    assert fetch(revision=hub.commit) == folder
    assert hub.asked == asked


def test_without_a_connection_the_spare_variant_is_offered(hub: Hub, cache: Path, half: Path) -> None:
    cache_repo(cache, REPO, files_in(half))
    hub.server_close()
    with pytest.raises(ModelError, match=r"Check the connection.*fp16 variant is in the cache: dtype='fp16'"):
        fetch()


def test_no_connection(hub: Hub, cache: Path) -> None:
    hub.server_close()  # nobody listens on the port any more
    with pytest.raises(ModelError, match=r"could not be fetched from http://127\.0\.0\.1.*Check the connection"):
        fetch()
