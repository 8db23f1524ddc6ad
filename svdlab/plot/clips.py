"""Clips given to a plot: one, several, or several by name; and the words that tell them apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from svdlab.clip import Clip
from svdlab.errors import ViewError
from svdlab.plot.labels import show


def named_clips(clips: Clip | Iterable[Clip] | Mapping[str, Clip], labels: Sequence[str] | None) -> dict[str, Clip]:
    """Label -> clip. Without labels, clips are called by the settings in which they differ, else by their number.

    Raises:
        ViewError: there are none, something is no clip, or the labels are not one a clip and all different.
    """
    if isinstance(clips, Mapping):
        if labels is not None:
            raise ViewError("labels: the clips come with names already; give clips as a list, or leave labels out.")
        found, names = list(clips.values()), [str(name) for name in clips]
    else:
        found = [clips] if isinstance(clips, Clip) else list(clips)
        names = [str(label) for label in labels] if labels is not None else differences(found)
    if not found:
        raise ViewError("clips: there are none; give a Clip, a list of them, or a dict of name -> Clip.")
    for clip in found:
        if not isinstance(clip, Clip):
            raise ViewError(
                f"clips: {type(clip).__name__} is not a Clip; sweep.clip(cell) and sl.Clip(frames=...) make one."
            )
    if len(names) != len(found) or len(set(names)) != len(names):
        raise ViewError(f"labels = {names!r}: give {len(found)} different ones, one a clip.")
    return dict(zip(names, found, strict=True))


def differences(clips: Sequence[Any]) -> list[str]:
    """A name for each clip: the settings that are not the same for all; a number where that does not tell them apart.

    Example:
        >>> differences([four_steps, eight_steps])
        ['steps=4', 'steps=8']
    """
    requests: list[Any] = [getattr(clip, "request", None) for clip in clips]
    if len(clips) == 1:
        return [""]
    if requests and all(request is not None for request in requests):
        settings = [request.settings() for request in requests]
        differing = [key for key in settings[0] if len({repr(of.get(key)) for of in settings}) > 1]
        names = [", ".join(f"{key}={show(of.get(key))}" for key in differing) for of in settings]
        if len(set(names)) == len(names):
            return names
    return [f"clip {number}" for number in range(1, len(clips) + 1)]
