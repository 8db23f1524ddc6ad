"""Clips as a player takes them, each with a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from svdlab.clip import Clip
from svdlab.errors import WidgetError


def read_clips(clips: Any, labels: Any = None) -> tuple[tuple[Clip, ...], list[str]]:
    """A Clip, several, or a dict label -> Clip, as clips and their labels.

    Raises:
        WidgetError: none at all, something that is no Clip, or labels that do not fit.

    Example:
        >>> read_clips({"few": few, "many": many})[1]
        ['few', 'many']
    """
    if isinstance(clips, Mapping):
        if labels is not None:
            raise WidgetError("labels: the dict of clips has its labels already; leave labels out, or give a list.")
        clips, labels = list(clips.values()), list(clips)
    elif isinstance(clips, Clip):
        clips = [clips]
    elif not isinstance(clips, Iterable) or isinstance(clips, str | bytes):
        raise WidgetError(f"clips: got {type(clips).__name__}; give a Clip, a list of them, or a dict label -> Clip.")
    shown = tuple(clips)
    if not shown:
        raise WidgetError("clips: there are none; give at least one Clip.")
    for position, clip in enumerate(shown):
        if not isinstance(clip, Clip):
            raise WidgetError(
                f"clips: number {position} is of type {type(clip).__name__}, not a Clip. "
                "Frames become one by svdlab.Clip(frames=..., fps=...), a cell of a sweep by sweep.clip(...)."
            )
    return shown, default_labels(shown) if labels is None else _checked(labels, len(shown))


def default_labels(clips: Iterable[Clip]) -> list[str]:
    """What tells the clips apart: the settings in which their requests differ, else their positions.

    Example:
        >>> default_labels([few, many])
        ['steps=4', 'steps=25']
    """
    clips = list(clips)
    plain = [f"clip {position}" for position in range(len(clips))]
    settings = [clip.request.settings() for clip in clips if clip.request]
    if len(settings) < len(clips):
        return plain
    differing = [name for name in settings[0] if any(each[name] != settings[0][name] for each in settings)]
    labels = [", ".join(f"{name}={each[name]}" for name in differing) for each in settings]
    return labels if len(set(labels)) == len(clips) > 1 else plain


def _checked(labels: Any, count: int) -> list[str]:
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise WidgetError(f"labels = {labels!r}: must be a list with one text a clip.")
    labels = list(labels)
    for label in labels:
        if not isinstance(label, str):
            kind = type(label).__name__
            raise WidgetError(f"labels: {label!r} is of type {kind}; labels must be text, such as {str(label)!r}.")
    if len(labels) != count:
        raise WidgetError(f"labels = {labels!r}: got {len(labels)}, wanted {count}, one a clip.")
    return labels
