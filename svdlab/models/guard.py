"""What a model's folder could do to whoever opens it, and may not: name code or other files, ask for more than it has.

The libraries' loaders follow what configs and tables of shards say: to a kernel that is fetched and run, a quantiser,
an adapter, a pickle. And they make room for a network as configured before they know that the weights fill it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import ModelError
from svdlab.models.weights import check_shapes, read_shapes

if TYPE_CHECKING:
    import torch

ADAPTER = "adapter_config.json"
# Other ways of attention are packages, or "org/name" of a kernel that is downloaded and run.
_ATTENTION = (None, "eager", "sdpa")


def check_part(
    folder: Path,
    config: Mapping[str, Any],
    files: Sequence[Path],
    build: Callable[[], torch.nn.Module],
    *,
    fix: str,
    index: Path | None = None,
    strict: bool = True,
) -> None:
    """Refuse a part of a model before its loader sees it: by its config, its table of shards and its files' headers.

    Args:
        folder: where the part lies.
        config: what its config says.
        files: the safetensors that will be read, and no others.
        build: makes the network as configured; called on the meta device, where it takes no memory.
        fix: what to do about weights that do not fit.
        index: the table of shards that the loader would read, if it is there.
        strict: see `check_shapes`.

    Raises:
        ModelError: naming the file, and what in it is refused.
    """
    import torch

    _check_config(config, folder)
    if (folder / ADAPTER).is_file():
        raise ModelError(
            f"{folder / ADAPTER}: adapters are not read, and the libraries' loader would. Merge it into the weights"
            " (merge_and_unload of peft), or move it elsewhere."
        )
    if index is not None and index.is_file():
        _check_index(index, {path.name for path in files})
    shapes = read_shapes(files)
    _check_depth(config, len(shapes), folder)
    with torch.device("meta"):
        model = build()
    check_shapes(shapes, model, where=str(files[0]), fix=fix, strict=strict)


def _check_config(config: Mapping[str, Any], folder: Path) -> None:
    for key, value in _entries(config):
        if key.removeprefix("_").startswith("attn_implementation") and value not in _ATTENTION:
            raise ModelError(
                f"{folder}: its config has {key} = {value!r:.100}, which may name code to be downloaded and run;"
                " allowed are 'eager' and 'sdpa'. Remove the key: it says how to compute, not what."
            )
        if key == "quantization_config" and value is not None:
            raise ModelError(f"{folder}: its config has {key}. Quantised weights need the original ones: fetch those.")


def _check_index(index: Path, files: set[str]) -> None:
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ModelError(f"{index}: is no table of shards ({type(error).__name__}). Fetch the model anew.") from error
    if stray := sorted(map(str, named - files)):
        raise ModelError(
            f"{index}: names {', '.join(stray[:3])!r:.200}, which is not among the safetensors of this part"
            f" ({', '.join(sorted(files))}). Nothing else is read. Fetch the model anew."
        )


def _check_depth(config: Mapping[str, Any], tensors: int, folder: Path) -> None:
    """A layer has a tensor at the least; of a hundred million layers even the empty shells fill the memory."""
    for group in (config, *(value for _, value in _entries(config) if isinstance(value, Mapping))):
        counts = {key: _largest(value) for key, value in group.items() if "layers" in key or key.endswith("_blocks")}
        if (layers := math.prod(count for count in counts.values() if count > 1)) > tensors:
            said = ", ".join(f"{key} = {count}" for key, count in counts.items() if count > 1)
            raise ModelError(
                f"{folder}: its config asks for {layers} layers ({said:.200}), and the weights hold {tensors} tensors."
                " The weights and the config are of two models: fetch them together."
            )


def _largest(value: Any) -> int:
    """The largest whole number in a value, or in the lists in it; 0 if there is none."""
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values of a config and of the configs in it."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from _entries(value)
