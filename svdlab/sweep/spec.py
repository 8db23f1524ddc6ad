"""Spec: everything that a sweep is told, from a TOML file or from Python, checked by the same code.

A file looks like this; paths are relative to its folder::

    name = "first"
    model = "tiny"
    images = ["pictures/*.png", "rocket.jpg"]
    metrics = "default"                  # or a list of names; [] for none
    decode = "full"                      # or "preview" or "none": frames when somebody looks

    [grid]
    motion_bucket_id = "32..224:64"      # both ends included; or a list, or one value
    cond_aug = [0.02, 0.3]
    steps = [1, 2, 4, 8]
    seed = [0, 1]                        # without seeds, one is drawn for all cells

    [fixed]
    fps = 10

    [engine]
    kind = "local"                       # or "ray", see `svdlab.sweep.engine`
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from svdlab.errors import EndpointError, ImageError, MetricError, ModelError, SpecError, WeightsError
from svdlab.images import ImageSource
from svdlab.request import SETTINGS
from svdlab.sweep.engine import KEYS, Engine, make_engine
from svdlab.sweep.grid import Grid, make_grid
from svdlab.sweep.pictures import find_images

Timing = Literal["shared", "isolated"]
TIMINGS: tuple[str, ...] = get_args(Timing)
Decode = Literal["full", "preview", "none"]
DECODES: tuple[str, ...] = get_args(Decode)
_KEYS = ("name", "model", "images", "metrics", "timing", "decode", "preview_weights", "grid", "fixed", "engine")
_PARTS = ("model", "images", "metrics", "timing", "decode", "preview_weights")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A checked sweep specification. Build it with `read_spec`, `make_spec` or `stored_spec`.

    Attributes:
        name: of the sweep; the default run directory is ``runs/<name>``.
        model: catalogue name, folder or repository; None where a pipeline is given.
        images: paths, addresses, PIL images or arrays; see `svdlab.sweep.pictures.find_images`.
        grid: the axes and the fixed settings.
        metrics: names of metrics; None for the default table, empty for none.
        timing: ``"shared"`` makes once what cells have in common, ``"isolated"`` lets each cell pay for all it needs.
        decode: when frames are made: ``"full"`` at once, ``"preview"`` and ``"none"`` when somebody looks.
        preview_weights: folder of an `AutoencoderTiny` for previews; None for the linear map.
        engine: who computes the cells.
        file: the TOML file, or None.
    """

    name: str
    model: str | None
    images: tuple[ImageSource, ...]
    grid: Grid
    metrics: tuple[str, ...] | None = None
    timing: Timing = "shared"
    decode: Decode = "full"
    preview_weights: Path | None = None
    engine: Engine = field(default_factory=Engine)
    file: Path | None = field(default=None, compare=False)


def make_spec(
    *,
    name: str = "sweep",
    model: str | None = None,
    images: Any,
    grid: Mapping[str, Any],
    fixed: Mapping[str, Any] | None = None,
    metrics: Any = None,
    timing: Any = "shared",
    decode: Any = "full",
    preview_weights: Any = None,
    engine: Any = "local",
    base: str | os.PathLike[str] = ".",
    file: Path | None = None,
    where: Callable[[str, str], str] | None = None,
) -> Spec:
    """Check the parts of a specification and put them together.

    Args:
        metrics: a list of names, ``"default"`` or None for the default table, ``[]`` for none.
        engine: an `Engine`, its kind, or a table of its settings.
        base: the folder that relative pictures, and `preview_weights`, start from.
        where: (table, key) -> the beginning of an error's text; the table is "" at the top of a file.

    Raises:
        SpecError: naming the key, its value and what is allowed.
    """
    where = where or (lambda table, key: "")
    at = where
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecError(f"{at('', 'name')}name = {name!r}: must begin with a letter or digit, then also '.', '_', '-'.")
    if model is not None and (not isinstance(model, str) or not model):
        raise SpecError(f"{at('', 'model')}model = {model!r}: must be a model's name, a folder or a repository.")
    if timing not in TIMINGS:
        raise SpecError(f"{at('', 'timing')}timing = {timing!r}: must be one of {_listed(TIMINGS)}.")
    check_decode(decode, preview_weights, where=at)
    return Spec(
        name=name,
        model=model,
        images=find_images(images, base=Path(base).absolute(), where=at("", "images")),
        grid=make_grid(grid, fixed or {}, where=lambda key: at("grid" if key in grid else "fixed", key)),
        metrics=_metrics(metrics, at("", "metrics")),
        timing=timing,
        decode=decode,
        preview_weights=None if preview_weights is None else Path(base).absolute() / preview_weights,
        engine=make_engine(engine, where=lambda key: at("engine", key)),
        file=file,
    )


def check_decode(
    decode: Any, preview_weights: Any, *, where: Callable[[str, str], str] = lambda table, key: ""
) -> None:
    """Raise SpecError unless `decode` is one of `DECODES`, and `preview_weights` a path that goes with it, or None.

    Example:
        >>> check_decode("preview", "taesd")
    """
    if decode not in DECODES:
        raise SpecError(
            f"{where('', 'decode')}decode = {decode!r}: must be one of {_listed(DECODES)}: frames at once,"
            " a preview and frames when somebody looks, or just frames when somebody looks."
        )
    if preview_weights is None:
        return
    at = where("", "preview_weights")
    if not isinstance(preview_weights, str | os.PathLike) or not str(preview_weights):
        raise SpecError(f"{at}preview_weights = {preview_weights!r}: must be the folder of an AutoencoderTiny.")
    if decode != "preview":
        raise SpecError(
            f"{at}preview_weights = {str(preview_weights)!r}: is for decode = 'preview', here it is {decode!r}."
            " Leave one of the two out."
        )


def change_decode(spec: Spec, decode: str | None, preview_weights: str | os.PathLike[str] | None) -> Spec:
    """The spec with another `decode`; None leaves what it says. Weights of previews go if there are none any more.

    Raises:
        SpecError: as `check_decode`.

    Example:
        >>> change_decode(spec, "none", None).decode
        'none'
    """
    if decode is None and preview_weights is None:
        return spec
    chosen: Any = spec.decode if decode is None else decode
    weights = preview_weights
    if weights is None and chosen == "preview":
        weights = spec.preview_weights
    check_decode(chosen, weights)
    return dataclasses.replace(
        spec, decode=chosen, preview_weights=None if weights is None else Path(weights).absolute()
    )


def change_engine(spec: Spec, engine: Any) -> Spec:
    """The spec with another engine; None leaves what it says, and its kind alone keeps its settings.

    Raises:
        SpecError: as `svdlab.sweep.engine.make_engine`.

    Example:
        >>> change_engine(spec, "ray").engine.kind
        'ray'
    """
    if engine is None or engine == spec.engine.kind:
        return spec
    return dataclasses.replace(spec, engine=make_engine(engine))


def _metrics(given: Any, where: str) -> tuple[str, ...] | None:
    if given is None or given == "default":
        return None
    if isinstance(given, str) or not isinstance(given, Iterable) or not all(isinstance(name, str) for name in given):
        raise SpecError(f"{where}metrics = {given!r}: must be a list of metric names, 'default', or [] for none.")
    names = tuple(given)
    if twice := [name for name in names if names.count(name) > 1]:
        raise SpecError(f"{where}metrics: {twice[0]!r} is listed twice; each may be listed once.")
    return names


def read_spec(path: str | os.PathLike[str]) -> Spec:
    """Read and check a TOML file.

    Raises:
        SpecError: the file is missing or no TOML, a key is unknown or a value not allowed; names file, line and key.

    Example:
        >>> read_spec("experiments/quickstart.toml").grid.axes["steps"]
        (1, 2, 4)
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SpecError(f"{path}: cannot be read ({reason}). Give the path of a TOML file.") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: is not valid TOML: {error}.") from None

    def where(table: str, key: str) -> str:
        return _where(path, text, table, key)

    _check_keys(data, _KEYS, "", where)
    for table in ("grid", "fixed", "engine"):
        if not isinstance(data.get(table, {}), dict):
            raise SpecError(f"{where('', table)}{table} = {data[table]!r}: must be a table, [{table}].")
    _check_keys(data.get("engine", {}), KEYS, "engine", where)
    for key, purpose in (("model", "such as model = 'tiny'"), ("images", "such as images = ['*.png']")):
        if key not in data:
            raise SpecError(f"{path}: {key} is missing; a sweep needs it, {purpose}.")
    for key in ("images",):  # a table or a number would be read as one picture
        if not isinstance(data[key], str | list):
            raise SpecError(f"{where('', key)}{key} = {data[key]!r}: must be a path or pattern, or a list of them.")
    engine = data.get("engine", {})
    parts = {key: data[key] for key in _PARTS if key in data}
    name = data.get("name", path.stem)
    grid, fixed = data.get("grid", {}), data.get("fixed", {})
    return make_spec(
        name=name, grid=grid, fixed=fixed, engine=engine, base=path.parent, file=path, where=where, **parts
    )


def stored_spec(folder: str | os.PathLike[str]) -> Spec:
    """The specification that a run directory was last run with; its pictures are the copies kept there.

    Raises:
        SpecError: the directory has none.
    """
    path = Path(folder) / "spec.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        images = [Path(folder) / image["file"] for image in data["images"]]
        parts = {key: data[key] for key in ("name", "model", "grid", "fixed", "metrics", "timing", "engine")}
        parts |= {key: data[key] for key in ("decode", "preview_weights") if key in data}  # older ones lack them
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; {folder} is not the directory of a sweep.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{path}: cannot be read as a stored spec ({error}). Run the sweep's own spec again.") from None
    return make_spec(images=images, base=folder, where=lambda table, key: f"{path}: ", **parts)


def _check_keys(
    data: Mapping[str, Any], allowed: tuple[str, ...], table: str, where: Callable[[str, str], str]
) -> None:
    for key in data:
        if key not in allowed:
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            if key in SETTINGS:
                hint = " It is a setting: put it under [grid] or [fixed]."
            raise SpecError(f"{where(table, key)}{key}: there is no such key.{hint} Allowed are {', '.join(allowed)}.")


def place_of(spec: Spec, key: str) -> str:
    """The beginning of an error's text about a key of the spec: file, line and table; empty where there is no file.

    Example:
        >>> place_of(read_spec("experiments/quickstart.toml"), "steps")
        'experiments/quickstart.toml:12: [grid] '
    """
    if spec.file is None:
        return ""
    table = "grid" if key in spec.grid.axes else "fixed" if key in spec.grid.fixed else ""
    try:
        text = spec.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # it was read once; meanwhile it is gone
        text = ""
    return _where(spec.file, text, table, key)


@contextlib.contextmanager
def placed(spec: Spec, key: str) -> Iterator[None]:
    """Errors of the block, which reads what a key of the spec names, begin with the file and line of that key.

    Example:
        >>> with placed(spec, "model"):
        ...     pipe = load(spec.model)
    """
    try:
        yield
    except (ImageError, MetricError, ModelError, SpecError, WeightsError) as error:
        where = place_of(spec, key)
        if not where or isinstance(error, EndpointError):  # which carries more than its text
            raise
        raise type(error)(f"{where}{error}") from error


def _where(path: Path, text: str, table: str, key: str) -> str:
    line = _line_of(text, table, key)
    return f"{path}{f':{line}' if line else ''}: {f'[{table}] ' if table else ''}"


def _line_of(text: str, table: str, key: str) -> int | None:
    """The line on which a key is set in its table; None where it is written in another form (inline, dotted)."""
    current = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            current = header[1]
            if current == key and not table:  # the table itself is meant
                return number
        elif current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
