"""Session: the state of an Explorer in plain Python: model, picture, settings, seed, and the clips that were made."""

from __future__ import annotations

import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab import models
from svdlab.errors import ImageError, WidgetError
from svdlab.images import ImageSource, prepare
from svdlab.request import SETTINGS, Defaults, Request, SettingWarning, check_settings
from svdlab.widgets import source
from svdlab.widgets.picture import Picture, open_picture
from svdlab.widgets.worker import Cancelled

if TYPE_CHECKING:
    from PIL.Image import Image

    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline
    from svdlab.preview import Preview

KEEP = 24  # clips; one of a real model takes 45 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """A clip that is to be made: everything checked, the seed drawn."""

    request: Request
    picture: Picture


@dataclass(kw_only=True, eq=False)
class Entry:
    """A clip in the history.

    Attributes:
        number: counts the clips of a session from 1; it stays when older clips are dropped.
        clip: the clip.
        picture: the picture it was made of.
        model: name of its model.
        settings: every setting of its request, the seed included.
        seconds: what making it took, from the order to the clip.
        pinned: pinned clips are never dropped.
    """

    number: int
    clip: Clip
    picture: Picture
    model: str
    settings: Mapping[str, Any]
    seconds: float
    defaults: Defaults = field(repr=False)
    load: str = field(repr=False)  # the expression that loads its model
    pinned: bool = False


class Session:
    """What an Explorer does, without a browser.

    A seed that was set or drawn by hand is used by the next clip. After that, every clip gets a new seed of its own
    unless the seed is `locked`.

    Args:
        pipe: a pipeline, the name or folder of a model, or None for the first model of the catalogue.
        image: whatever `svdlab.load_image` takes, or the name of a bundled example.
        keep: how many clips that are not pinned stay in the history.
        settings: settings of `svdlab.Request`.

    Raises:
        RequestError, ImageError, ModelError: as where they come from.

    Example:
        >>> session = Session("tiny", image="rocket", steps=2)
        >>> session.set(motion_bucket_id=200)
        >>> clip = session.generate()
        >>> print(session.code(-1))
    """

    def __init__(
        self, pipe: Pipeline | str | None = None, *, image: ImageSource | None = None, keep: int = KEEP, **settings: Any
    ) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise WidgetError(f"keep = {keep!r}: must be a whole number from 1, the clips that stay in the history.")
        self.keep = keep
        self.history: list[Entry] = []
        self.locked = False
        self.picture: Picture | None = None
        self._lock = threading.RLock()
        self._own: dict[str, Pipeline] = {}  # pipelines that were given as objects: they cannot be loaded by name
        self._settings: dict[str, Any] = {}
        self._seed = secrets.randbelow(2**32)
        self._seed_is_fresh = True
        self._count = 0
        self._model: str = ""
        self._pipe: Pipeline | None = None
        self._choose(models.names()[0] if pipe is None else pipe)
        if image is not None:
            self.use_picture(image)
        self.set(**settings)

    # The model.

    @property
    def model(self) -> str:
        """Name (or folder) of the model."""
        return self._model

    @property
    def pipe(self) -> Pipeline | None:
        """The pipeline, once it is loaded."""
        return self._pipe

    @property
    def defaults(self) -> Defaults:
        """What the model fills into settings that are left open."""
        return self._pipe.defaults if self._pipe else models.info(self._model).defaults

    def use_model(self, pipe: Pipeline | str) -> None:
        """Take another model. A name of the catalogue is loaded when it is needed, anything else at once.

        Raises:
            ModelError: there is no such model, or it cannot be loaded.
            RequestError: the settings that were chosen do not go with it; nothing is changed then.
        """
        before = self._model, self._pipe
        self._choose(pipe)
        try:
            self._quietly_resolved()
        except Exception:
            self._model, self._pipe = before
            raise

    def _choose(self, pipe: Pipeline | str) -> None:
        if not isinstance(pipe, str | os.PathLike):
            self._own[pipe.name] = pipe
            self._model, self._pipe = pipe.name, pipe
            return
        name = os.fspath(pipe)
        if name not in self._own and name not in models.names():
            self._model, self._pipe = name, _load(name)
        elif name != self._model:
            self._model, self._pipe = name, self._own.get(name)

    def load(self) -> Pipeline:
        """The pipeline, loaded if it is not yet.

        Raises:
            ModelError: it cannot be.
        """
        with self._lock:
            if self._pipe is None:
                self._pipe = _load(self._model)
            return self._pipe

    # The picture.

    def use_picture(self, source: ImageSource | Picture) -> Picture:
        """Take another picture; see `svdlab.widgets.picture.open_picture`.

        Raises:
            ImageError: it cannot be used; the former one stays.
        """
        self.picture = source if isinstance(source, Picture) else open_picture(source)
        return self.picture

    def prepared(self) -> Image | None:
        """The picture as the model will see it, scaled and cropped to the size of the clip; None without a picture."""
        if self.picture is None:
            return None
        values = self.values
        return prepare(self.picture.image, width=values["width"], height=values["height"])

    # The settings.

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that were chosen; all others are the model's own."""
        return dict(self._settings)

    @property
    def values(self) -> dict[str, Any]:
        """Every setting as the next clip would have it; the seed as it stands now."""
        return self._quietly_resolved().settings()

    @property
    def seed(self) -> int:
        """The seed as it stands: of the next clip if it is fresh or locked, else of the last one."""
        return self._seed

    def set(self, **settings: Any) -> tuple[str, ...]:
        """Change settings, all of them or none; None gives a setting back to the model. Returns warnings in words.

        Raises:
            RequestError: a setting is unknown, out of bounds, or does not go with the others or the model.

        Example:
            >>> session.set(motion_bucket_id=300)
            ('motion_bucket_id = 300: models were trained up to 255; ...',)
        """
        given = {name: value for name, value in settings.items() if value is not None or name not in SETTINGS}
        seed = settings.pop("seed", None)
        merged = {**self._settings, **settings}
        merged = {name: merged[name] for name in SETTINGS if merged.get(name) is not None}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SettingWarning)
            check_settings(given)
            values = self._resolved(merged, seed).settings()
        self._settings = {name: values[name] for name in merged}
        if seed is not None:
            self._seed, self._seed_is_fresh = values["seed"], True
        return tuple(dict.fromkeys(str(warning.message) for warning in caught))

    def draw_seed(self) -> int:
        """Draw a seed for the next clip."""
        self._seed, self._seed_is_fresh = secrets.randbelow(2**32), True
        return self._seed

    def _resolved(self, settings: Mapping[str, Any], seed: int | None = None, image: Any = "unnamed") -> Request:
        seed = self._seed if seed is None else seed
        return Request(image=image, seed=seed, **settings).resolve(self.defaults)

    def _quietly_resolved(self, image: Any = "unnamed") -> Request:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SettingWarning)  # was given when the setting was made
            return self._resolved(self._settings, image=image)

    # Making clips.

    def order(self) -> Order:
        """Check everything for the next clip and draw its seed, unless the seed is locked or not used yet.

        Raises:
            ImageError: there is no picture.
            RequestError: the settings do not go together.
        """
        if self.picture is None:
            raise ImageError("image: there is none yet. Drop or choose a picture, or give a path or an example's name.")
        if not (self.locked or self._seed_is_fresh):
            self.draw_seed()
        request = self._quietly_resolved(image=self.picture.image)
        return Order(request=request, picture=self.picture)

    def generate(
        self,
        order: Order | None = None,
        *,
        on_step: Callable[[Preview], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Clip:
        """Make one clip and put it into the history.

        Args:
            order: what to make; by default `order()`.
            on_step: gets a preview after each denoiser step.
            stop: asked before and after each step; once it says True, nothing more is computed.

        Raises:
            Cancelled: `stop` said so.
            RequestError, ImageError, ModelError: as where they come from.
        """
        order = order or self.order()
        began = time.perf_counter()
        pipe = self.load()
        _check(stop)
        for preview in pipe.stream(order.request):  # left in the middle, it computes nothing more
            if on_step is not None:
                on_step(preview)
            _check(stop)
        clip = preview.decode()
        assert clip.request is not None
        if clip.seed == self._seed:
            self._seed_is_fresh = False
        self._count += 1
        entry = Entry(
            number=self._count,
            clip=clip,
            picture=order.picture,
            model=self._model,
            settings=clip.request.settings(),
            seconds=time.perf_counter() - began,
            defaults=pipe.defaults,
            load=source.load_code(pipe, None if self._model in self._own else self._model),
        )
        self.history = self._kept([*self.history, entry])
        return clip

    def _kept(self, history: list[Entry]) -> list[Entry]:
        loose = [entry for entry in history if not entry.pinned]
        dropped = loose[: max(0, len(loose) - self.keep)]
        return [entry for entry in history if entry not in dropped]

    def decode_seconds(self) -> float | None:
        """What decoding took for the last clip of the same model and size; None if there is none."""
        values = self.values
        shape = ("num_frames", "width", "height", "decode_chunk")
        for entry in reversed(self.history):
            if entry.model == self._model and all(entry.settings[name] == values[name] for name in shape):
                return entry.clip.seconds.get("decode")
        return None

    # The history. An entry is named by its place (-1 is the last) or given itself.

    def entry(self, which: int | Entry = -1) -> Entry:
        """A clip of the history.

        Raises:
            WidgetError: there is no such clip.
        """
        if isinstance(which, Entry):
            return which
        if not self.history:
            raise WidgetError("history: there is no clip yet. Make one with generate().")
        if isinstance(which, bool) or not isinstance(which, int) or not -len(self.history) <= which < len(self.history):
            last = len(self.history) - 1
            raise WidgetError(f"i = {which!r}: must be a whole number from 0 to {last}, or -1 for the last clip.")
        return self.history[which]

    def pin(self, which: int | Entry = -1, pinned: bool = True) -> None:
        """Keep a clip in the history for good, or not any more."""
        self.entry(which).pinned = bool(pinned)

    def compare(self, one: int | Entry, other: int | Entry = -1) -> tuple[tuple[Clip, Clip], tuple[str, str]]:
        """Two clips, and for each a label that names what differs between them.

        Example:
            >>> clips, labels = session.compare(0)
            >>> labels
            ('#1 motion_bucket_id=32', '#3 motion_bucket_id=200')
        """
        first, second = self.entry(one), self.entry(other)
        a, b = _facts(first), _facts(second)
        differ = [name for name in a if a[name] != b[name]]
        labels = [
            " ".join([f"#{entry.number}", *(f"{name}={facts[name]}" for name in differ)])
            for entry, facts in ((first, a), (second, b))
        ]
        return (first.clip, second.clip), (labels[0], labels[1])

    def restore(self, which: int | Entry = -1) -> Entry:
        """Take model, picture, settings and seed of a clip; the next clip is the same one again.

        Raises:
            WidgetError: there is no such clip.
            ModelError: its model cannot be loaded any more.
        """
        entry = self.entry(which)
        if entry.model != self._model:
            self._choose(entry.model)
        own = source.model_values(entry.defaults)
        self._settings = {
            name: value for name, value in entry.settings.items() if name != "seed" and value != own[name]
        }
        self._seed, self._seed_is_fresh = entry.settings["seed"], True
        self.picture = entry.picture
        return entry

    def code(self, which: int | Entry = -1) -> str:
        """Python source that makes a clip of the history again."""
        entry = self.entry(which)
        return source.clip_code(
            load=entry.load,
            picture=entry.picture,
            settings=entry.settings,
            defaults=entry.defaults,
            number=entry.number,
        )

    def sweep_code(
        self, which: int | Entry = -1, *, vary: tuple[str, ...] = source.VARY, out: str | None = None
    ) -> str:
        """Python source of a sweep around a clip of the history; see `svdlab.widgets.source.sweep_code`."""
        entry = self.entry(which)
        return source.sweep_code(
            load=entry.load,
            picture=entry.picture,
            settings=entry.settings,
            defaults=entry.defaults,
            vary=vary,
            out=out,
        )

    def save_picture(self, path: str | os.PathLike[str], which: int | Entry = -1) -> Path:
        """Write the picture of a clip to a file, as it was uploaded; returns the path."""
        return self.entry(which).picture.save(path)


def _load(name: str) -> Pipeline:
    from svdlab.pipeline import load

    return load(name)


def _check(stop: Callable[[], bool] | None) -> None:
    if stop is not None and stop():
        raise Cancelled


def _facts(entry: Entry) -> dict[str, Any]:
    return {"model": entry.model, "image": entry.picture.label, **entry.settings}
