"""Form: a session's model and settings on a page, and what somebody types there back in the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import traitlets

from svdlab import models
from svdlab.errors import SvdlabError
from svdlab.widgets.fields import build_fields, read_value, shown_values
from svdlab.widgets.parts import Part, page
from svdlab.widgets.session import Session


class Form(Part):
    """The model, one row a setting, and the seed with dice and lock.

    A value that is refused stays as it was typed, with the reason below it, and the session keeps what it had; it is
    tried again with the next change, since two values may be right only together.

    Args:
        session: what is shown and changed.
        changed: called after each change that the session took.

    Attributes:
        refused: setting -> why its value was refused.
        notes: what deserves a second look, in words.
    """

    _esm = page("form")
    fields = traitlets.List(traitlets.Dict()).tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    refused = traitlets.Dict().tag(sync=True)
    models: Any = traitlets.List().tag(sync=True)
    model = traitlets.Unicode().tag(sync=True)
    locked = traitlets.Bool(False).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)

    def __init__(self, session: Session, changed: Callable[[], None]) -> None:
        super().__init__()
        self.session = session
        self.notes: tuple[str, ...] = ()
        self._changed = changed
        self._tried: dict[str, Any] = {}
        self.on("set", lambda message, _: self.try_value(str(message.get("name")), message.get("value")))
        self.on("model", lambda message, _: self.try_model(str(message.get("name"))))
        self.on("dice", lambda *_: self.dice())
        self.on("lock", lambda message, _: self.lock(bool(message.get("locked"))))
        self.on("reset", lambda *_: self.reset())
        self.show()

    def show(self) -> None:
        """Show the session as it is."""
        session = self.session
        known = [name for name, _ in self.models]
        if session.model not in known:
            self.tell(models=model_choices(session.model))
        fields = build_fields(session.defaults)
        if fields != self.fields:
            self.tell(fields=fields)
        self.tell(model=session.model, values=shown_values(session.values), locked=session.locked)

    def forget(self) -> None:
        """Let go of values that were refused."""
        self._tried = {}
        self.tell(refused={})

    def try_value(self, name: str, value: Any) -> None:
        """Take a value, or show why not. None gives the setting back to the model."""
        self._tried[name] = read_value(name, value)
        try:
            self.notes = self.session.set(**self._tried)
            self.forget()
        except SvdlabError as together:
            try:
                self.notes = self.session.set(**{name: self._tried[name]})
                del self._tried[name]
                self._accept(name)
            except SvdlabError as alone:
                self.tell(refused={**self.refused, name: str(alone if len(self._tried) == 1 else together)})
        self.show()
        self._changed()

    def _accept(self, name: str) -> None:
        self.tell(refused={other: text for other, text in self.refused.items() if other != name})

    def try_model(self, name: str) -> None:
        """Take another model, or show why not."""
        try:
            self.session.use_model(name)
            self._accept("model")
        except SvdlabError as error:
            self.tell(refused={**self.refused, "model": str(error)})
        self.show()
        self._changed()

    def dice(self) -> None:
        """Draw a seed for the next clip."""
        self.session.draw_seed()
        self._tried.pop("seed", None)
        self._accept("seed")
        self.show()
        self._changed()

    def lock(self, locked: bool) -> None:
        """Use the seed for every clip, or a new one for each."""
        self.session.locked = locked
        self.show()

    def reset(self) -> None:
        """Give every setting back to the model; the seed stays."""
        self.forget()
        self.notes = self.session.set(**dict.fromkeys(self.session.settings))
        self.show()
        self._changed()


def model_choices(current: str) -> list[list[str]]:
    """Name and text of every model: those of the catalogue, and the current one if it is none of them.

    Example:
        >>> model_choices("tiny")[-1]
        ['svd', 'svd (not on this machine, 4.5 GB)']
    """
    choices = [[name, name + _away(name)] for name in models.names()]
    return choices if current in models.names() else [[current, current], *choices]


def _away(name: str) -> str:
    return "" if models.is_local(name) else f" (not on this machine, {models.info(name).download_gb:.1f} GB)"
