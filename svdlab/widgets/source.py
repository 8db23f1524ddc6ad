"""Python source that makes a clip again, or a sweep around it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svdlab.errors import RequestError
from svdlab.models import CATALOGUE
from svdlab.request import MAX_SEED, SETTINGS, Defaults, Request, SettingWarning, bounds

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline
    from svdlab.widgets.picture import Picture

ALWAYS = ("motion_bucket_id", "cond_aug", "steps", "fps", "seed")  # written also where they are the model's own
VARY = ("motion_bucket_id", "steps")
_WIDTH = 88


def load_code(pipe: Pipeline, given: str | None = None) -> str:
    """The call that loads a pipeline's model again.

    Args:
        pipe: the pipeline.
        given: the name or path that it was loaded by, if known.

    Example:
        >>> load_code(sl.load("tiny"))
        'sl.load("tiny")'
    """
    from svdlab.models.device import choose_device, choose_dtype

    if pipe.hosted:
        revision = pipe.describe()["revision"]
        return f"sl.load({literal(pipe.name)}{f', revision={literal(revision)}' if revision else ''})"
    info = pipe.components.info
    name = given or (pipe.name if pipe.name in CATALOGUE else str(info.folder or info.repo_id or pipe.name))
    arguments = [literal(name)]
    if choose_device("auto")[0].type != pipe.device.type:
        arguments.append(f"device={literal(str(pipe.device))}")
    if choose_dtype("auto", pipe.device)[0] != pipe.components.dtype:
        arguments.append(f"dtype={literal(pipe.dtype)}")
    return f"sl.load({', '.join(arguments)})"


def clip_code(*, load: str, picture: Picture, settings: Mapping[str, Any], defaults: Defaults, number: int) -> str:
    """Python source that makes a clip again.

    Args:
        load: the expression that loads the model (`load_code`).
        picture: of the clip.
        settings: of the resolved request.
        defaults: of the model; settings that are its own are left out, except the common ones (`ALWAYS`).
        number: of the clip, for the file that it is saved to.
    """
    head, image = _begin(load, picture)
    arguments = [image, *(f"{name}={literal(value)}" for name, value in shown(settings, defaults).items())]
    return "\n".join([*head, _call("clip = pipe", arguments), f'clip.save("clip-{number}.mp4")', ""])


def sweep_code(
    *,
    load: str,
    picture: Picture,
    settings: Mapping[str, Any],
    defaults: Defaults,
    vary: Iterable[str] = VARY,
    out: str | None = None,
) -> str:
    """Python source of a sweep around a clip: some settings get values below and above, and there are two seeds.

    Args:
        vary: names of settings with numbers.
        out: the run directory; by default one named after picture and seed.

    Raises:
        RequestError: a setting in `vary` is unknown or is not a number.
    """
    head, image = _begin(load, picture)
    axes = {name: around(name, settings) for name in vary}
    axes.setdefault("seed", _seeds(settings["seed"]))
    values = {name: axes.get(name, value) for name, value in {**shown(settings, defaults), **axes}.items()}
    folder = out or f"runs/around-{picture.file.rpartition('.')[0]}-{settings['seed']}"
    arguments = [
        "pipe",
        f"image=[{image}]",
        *(f"{name}={literal(value)}" for name, value in values.items()),
        f"out={literal(folder)}",
    ]
    return "\n".join([*head, _call("sweep = sl.sweep", arguments), "df = sweep.frame()", ""])


def shown(settings: Mapping[str, Any], defaults: Defaults) -> dict[str, Any]:
    """The settings worth naming: the common ones, and those that are not the model's own."""
    own = model_values(defaults)
    names = [name for name in SETTINGS if name in ALWAYS or settings[name] != own[name]]
    if "num_frames" in names and settings["decode_chunk"] == settings["num_frames"]:
        names = [name for name in names if name != "decode_chunk"]  # follows from num_frames by itself
    return {name: settings[name] for name in names}


def model_values(defaults: Defaults) -> dict[str, Any]:
    """Every setting as it is where nothing was chosen; the seed is 0."""
    return Request(image="unnamed", seed=0).resolve(defaults).settings()


def around(name: str, settings: Mapping[str, Any]) -> list[Any]:
    """Half of a setting's value, the value and its double, as far as requests take them without a warning.

    Raises:
        RequestError: it is not a setting with a number.

    Example:
        >>> around("steps", {**settings, "steps": 4})
        [2, 4, 8]
    """
    limits = bounds(name) if name in SETTINGS else None
    if limits is None or name == "seed":
        numbers = ", ".join(other for other in SETTINGS if other != "seed" and bounds(other))
        raise RequestError(f"vary = {name!r}: must be a setting with a number other than the seed: {numbers}.")
    value, kind = settings[name], type(settings[name])
    tried = [kind(min(max(factor * value, limits[0]), limits[1])) for factor in (0.5, 1, 2)]
    if value == 0:
        tried.append(kind(Request.model_fields[name].default or 0))
    return sorted({other for other in tried if other == value or _goes(settings, name, other)})


def _goes(settings: Mapping[str, Any], name: str, value: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SettingWarning)
        try:
            Request(image="unnamed", **{**settings, name: value})
        except (RequestError, SettingWarning):
            return False
    return True


def literal(value: Any) -> str:
    """A value as Python source; texts in double quotes, on one line.

    Example:
        >>> literal('a "kite".png')
        '"a \\\\"kite\\\\".png"'
    """
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _seeds(seed: int) -> list[int]:
    return [seed, seed + 1] if seed < MAX_SEED else [seed - 1, seed]


def _begin(load: str, picture: Picture) -> tuple[list[str], str]:
    """The first lines, and the expression that names the picture."""
    imports = ["import svdlab as sl"]
    if picture.example:
        return [
            *imports,
            "from svdlab import examples",
            "",
            f"pipe = {load}",
        ], f"examples.path({literal(picture.example)})"
    if picture.source is not None:
        return [*imports, "", f"pipe = {load}"], literal(picture.source)
    label, file = literal(picture.label), literal(picture.file)
    note = f"# The picture {label} is only in the Explorer: save it first, as {file} here, with"
    return [*imports, "", note, f"#     explorer.save_picture({file})", f"pipe = {load}"], file


def _call(function: str, arguments: Sequence[str]) -> str:
    """A call on one line if it fits, else filled over several."""
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= _WIDTH:
        return line
    lines = [""]
    for argument in arguments:
        if lines[-1] and len(lines[-1]) + len(argument) > _WIDTH - 4:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{argument},"
    return f"{function}(\n" + "".join(f"    {line}\n" for line in lines) + ")"
