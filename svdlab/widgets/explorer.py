"""Explorer: from a picture and settings to a clip and the next, on one page."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from svdlab import models
from svdlab.clip import display_is_static
from svdlab.errors import RequestError, WidgetError
from svdlab.images import ImageSource
from svdlab.widgets.display import StaticDisplay
from svdlab.widgets.eta import Eta, duration
from svdlab.widgets.form import Form
from svdlab.widgets.glance import moving_picture, page_width
from svdlab.widgets.parts import CodeBox, Column, Glimpse, Part, Row, Strip, Work, close_all
from svdlab.widgets.picture import open_picture
from svdlab.widgets.player import FramePlayer
from svdlab.widgets.rerun import replace_former
from svdlab.widgets.session import KEEP, Entry, Order, Session
from svdlab.widgets.source import VARY, shown
from svdlab.widgets.thumbs import thumbnail
from svdlab.widgets.well import Well
from svdlab.widgets.words import explain
from svdlab.widgets.worker import Job, Worker

if TYPE_CHECKING:
    from PIL.Image import Image

    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline

_THUMB_HEIGHT = 96  # px, twice what the strip shows


class Explorer(StaticDisplay, ipywidgets.VBox):
    """Choose a picture, turn the knobs, make clips, and compare them. Everything can be called without a browser too.

    A clip is made in a background thread, so that the notebook stays usable; one at a time. Errors appear in the
    widget, in words. The seed is written into its box before a clip is begun: unless it is locked, every clip gets a
    new one, and one that was typed or drawn by hand is used first. A notebook cell that is run again closes the
    Explorer that its former run made.

    Args:
        pipe: a pipeline, the name or folder of a model, or None for the first model of the catalogue.
        image: whatever `svdlab.load_image` takes, or the name of a bundled example.
        keep: how many clips that are not pinned stay in the history.
        settings: settings of `svdlab.Request`, to begin with.

    Attributes:
        session: the state behind it, see `svdlab.widgets.session.Session`.
        player: the player of the clip that is shown; None before the first.
        traceback: of the last error that came unexpectedly, as text.

    Raises:
        RequestError, ImageError, ModelError: as where they come from.

    Example:
        >>> explorer = sl.widgets.Explorer("tiny", image="rocket", steps=4)
        >>> explorer.set(motion_bucket_id=200)
        >>> clip = explorer.generate(wait=True)
        >>> explorer
        Explorer(tiny, rocket, 1 clip)
    """

    def __init__(
        self, pipe: Pipeline | str | None = None, *, image: ImageSource | None = None, keep: int = KEEP, **settings: Any
    ) -> None:
        self.session = Session(pipe, image=image, keep=keep)
        notes = self.session.set(**settings)
        self.player: FramePlayer | None = None
        self.traceback: str | None = None
        self._worker = Worker(on_line=self._say)
        self._current: Entry | None = None
        self._build()
        super().__init__(children=[self._page])
        self._form.notes = notes
        self._update()
        replace_former(self)

    # ------------------------------------------------------------ what it does, with or without a browser

    @property
    def history(self) -> list[Entry]:
        """The clips so far, oldest first: each with `clip`, `settings`, `picture`, `seconds` and `pinned`."""
        return list(self.session.history)

    @property
    def clip(self) -> Clip | None:
        """The clip that is shown; None before the first."""
        return self._current.clip if self._current else None

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._worker.busy

    def set(self, **changes: Any) -> None:
        """Change settings (None gives one back to the model), `image` and `model`.

        Raises:
            RequestError, ImageError, ModelError: what was given cannot be used; nothing of its kind is changed.
            WidgetError: another model, while something is under way.

        Example:
            >>> explorer.set(image="kite", motion_bucket_id=200, seed=42)
        """
        if "model" in changes:
            self._refuse_while_busy("model")
            self.session.use_model(changes.pop("model"))
        if "image" in changes:
            self.session.use_picture(changes.pop("image"))
        self._form.notes = self.session.set(**changes)
        self._form.forget()
        self._form.show()
        self._update()

    def generate(self, *, wait: bool = False) -> Clip | None:
        """Begin a clip with the settings as they stand.

        Args:
            wait: return when it is made, and with it; interrupting the kernel cancels it. Otherwise return at once.

        Returns:
            The clip if it was waited for; None if not, or if it was cancelled.

        Raises:
            RequestError, ImageError: the settings do not go together, or there is no picture.
            WidgetError: something is under way.
            What went wrong while the clip was made, if it was waited for.

        Example:
            >>> explorer.generate(wait=True).save("clip.mp4")
        """
        job = self._begin()
        if not wait:
            return None
        try:
            job.wait()
        except KeyboardInterrupt:
            self.cancel()
            job.wait()
            raise
        if job.exception is not None:
            raise job.exception
        return job.result

    def cancel(self) -> None:
        """End what is under way: at the next step, before any decoding. Nothing is kept of it."""
        if self._worker.busy:
            self._work.tell(ending=True, words="cancelling at the next step")
            self._worker.cancel()

    def show(self, i: int | Entry = -1) -> None:
        """Show a clip of the history again, and take over its model, picture, settings and seed.

        Raises:
            WidgetError: there is no such clip, or it is another model's and something is under way.
        """
        entry = self.session.entry(i)
        if entry.model != self.session.model:
            self._refuse_while_busy("model")
        self.session.restore(entry)
        self._form.forget()
        self._form.show()
        self._show(entry)
        self._update()

    def pin(self, i: int | Entry = -1, pinned: bool = True) -> None:
        """Keep a clip in the history for good, or not any more."""
        self.session.pin(i, pinned)
        self._show_history()

    def compare(self, i: int | Entry, j: int | Entry = -1) -> None:
        """Show two clips of the history in one player, under labels that say what differs.

        Example:
            >>> explorer.compare(0, -1)
        """
        clips, labels = self.session.compare(i, j)
        self._play(list(clips), list(labels))
        same = clips[0].frames.shape[1:] == clips[1].frames.shape[1:]
        assert self.player is not None
        self.player.mode = "wipe" if same else "side"

    def code(self, i: int | Entry = -1) -> str:
        """Python source that makes a clip of the history again."""
        return self.session.code(i)

    def sweep_code(self, i: int | Entry = -1, *, vary: tuple[str, ...] = VARY, out: str | None = None) -> str:
        """Python source of a sweep around a clip of the history; see `svdlab.widgets.source.sweep_code`."""
        return self.session.sweep_code(i, vary=vary, out=out)

    def save_picture(self, path: str | os.PathLike[str], i: int | Entry = -1) -> Path:
        """Write the picture of a clip of the history to a file, as it was uploaded; returns the path."""
        return self.session.save_picture(path, i)

    def close(self) -> None:
        """End what is under way and take the widget off its pages. The session and its clips stay."""
        if hasattr(self, "_page"):  # else it was never built
            self._worker.cancel()
            close_all(*self._parts, self.player, self._stage, *self._page.children, self._page)
        super().close()

    # ------------------------------------------------------------ the page

    def _build(self) -> None:
        self._work = Work(begin="Generate", end="Cancel")
        self._form = Form(self.session, self._update)
        self._well = Well(self.session, self._fetch, self._update)
        self._strip, self._codebox, self._glimpse = Strip(), CodeBox(), Glimpse()
        self._parts: tuple[Part, ...] = (
            self._well,
            self._form,
            self._work,
            self._glimpse,
            self._strip,
            self._codebox,
        )
        self._work.on("begin", self._on_begin)
        self._work.on("end", lambda *_: self.cancel())
        self._strip.on("show", self._on_clip(self.show))
        self._strip.on("pin", self._on_clip(lambda entry: self.pin(entry, not entry.pinned)))
        self._strip.on("compare", self._on_clip(self._compare_with_last))
        self._strip.on("code", self._on_clip(lambda entry: self._show_code("Code of clip", entry, self.code)))
        self._strip.on(
            "sweep", self._on_clip(lambda entry: self._show_code("Sweep around clip", entry, self.sweep_code))
        )
        self._codebox.on("close", lambda *_: self._hide_code())
        for part in self._parts:
            part.trouble = self._show_problem
        layout = ipywidgets.Layout
        self._stage = Column([])
        left = Column([self._well, self._form, self._work], layout=layout(width="400px", grid_gap="12px"))
        right = Column(
            [self._stage, self._strip, self._codebox], layout=layout(flex="1 1 320px", min_width="0", grid_gap="8px")
        )
        self._page = Row([left, right], layout=layout(flex_flow="row wrap", grid_gap="20px"))

    def _on_begin(self, message: dict[str, Any], buffers: list[Any]) -> None:
        self.generate()

    def _on_clip(self, action: Callable[[Entry], None]) -> Callable[[dict[str, Any], list[Any]], None]:
        def answer(message: dict[str, Any], buffers: list[Any]) -> None:
            for entry in self.session.history:
                if entry.number == message.get("number"):
                    self._work.tell(problem="")
                    action(entry)
                    return
            raise WidgetError("This clip is not in the history any more. Pinned clips stay.")

        return answer

    def _update(self) -> None:
        """Bring everything but the form into agreement with the session."""
        self._well.show()
        self._strip.tell(current=self._current.number if self._current else None)
        notice = self.session.pipe.notice if self.session.pipe else None
        notes = [*([notice] if notice else []), *self._form.notes]
        self._work.tell(notes=notes, begin=self._begin_text())
        if not self._worker.busy:
            self._work.tell(problem="")

    def _begin_text(self) -> str:
        """What the button says: nothing large is downloaded unless it says so."""
        model = self.session.model
        if self.session.pipe or models.is_local(model):
            return "Generate"
        return f"Download {models.info(model).download_gb:.1f} GB and generate"

    def _show_problem(self, error: Exception) -> None:
        self._work.tell(problem=explain(error))

    def _say(self, line: str) -> None:
        self._work.tell(words=line)

    # ------------------------------------------------------------ work

    def _refuse_while_busy(self, what: str) -> None:
        if self._worker.busy:
            assert self._worker.job is not None
            raise WidgetError(f"{what}: not now, because {self._worker.job.title} is under way. Wait, or cancel it.")

    def _begin(self) -> Job:
        self._refuse_while_busy("generate")
        if self._form.refused:
            raise RequestError("\n".join(self._form.refused.values()))
        order = self.session.order()
        self._form.show()  # the seed is seen before anything can go wrong
        self._occupy("a clip")
        return self._worker.start("a clip", partial(self._make, order), on_end=self._made)

    def _occupy(self, what: str) -> None:
        self._form.tell(busy=True)
        self._work.tell(busy=True, ending=False, progress=-1.0, problem="", words=f"beginning {what}")

    def _free(self, words: str, problem: str = "") -> None:
        self._form.tell(busy=False)
        self._work.tell(busy=False, ending=False, progress=None, words=words, problem=problem)

    def _make(self, order: Order, job: Job) -> Clip:
        """In the worker's thread: only what nobody types into is changed from here."""
        session = self.session
        if session.pipe is None:
            self._say(f"loading {session.model}")
            session.load()
            self._update()
            job.check()
        values = order.request.settings()
        steps, width = values["steps"], page_width(values["width"], values["height"])
        eta = Eta(steps, decode=session.decode_seconds())
        self._say(f"step 1 of {steps}, from noise")

        def on_step(preview: Any) -> None:
            made = preview.k + 1
            waits = made == 0  # a hosted model, which shows nothing before it is done
            words = self._work.words if job.cancelled else preview.note if waits else eta.step(made)
            self._work.tell(progress=made / (steps + 1), words=words)  # decoding counts as one more step
            self._glimpse.tell(
                width=width,
                pixelated=preview.frames.shape[2] < 64,
                caption=preview.note if waits else f"preview after step {made} of {steps}",
                picture=moving_picture(preview.frames, fps=order.request.fps),
            )
            self._stage.children = (self._glimpse,)

        return session.generate(order, on_step=on_step, stop=lambda: job.cancelled)

    def _made(self, job: Job) -> None:
        self.traceback = job.traceback
        if job.state == "done":
            entry = self.session.entry(-1)
            self._show(entry)
            self._free(f"clip #{entry.number} in {duration(entry.seconds)}")
            return
        self._stage.children = (self.player,) if self.player else ()
        self._free("cancelled; nothing of it was kept" if job.state == "cancelled" else "", job.error or "")

    def _fetch(self, address: str) -> None:
        self._refuse_while_busy("picture")
        self._occupy("to fetch the picture")
        self._worker.start("fetching a picture", lambda job: open_picture(address), on_end=self._fetched)

    def _fetched(self, job: Job) -> None:
        self._free("")
        if job.state == "done":
            self._well.take(lambda: job.result)
        else:
            self._well.tell(problem=job.error or "")

    # ------------------------------------------------------------ clips

    def _show(self, entry: Entry) -> None:
        self._current = entry
        self._play([entry.clip], [f"#{entry.number} seed={entry.settings['seed']}"])
        self._show_history()

    def _play(self, clips: list[Clip], labels: list[str]) -> None:
        if self.player is None:
            self.player = FramePlayer(clips, labels=labels, autoplay=True)
        else:
            self.player.set_clips(clips, labels=labels)
        self._stage.children = (self.player,)

    def _show_history(self) -> None:
        items = [_item(entry) for entry in self.session.history]
        self._strip.tell(items=items, current=self._current.number if self._current else None)

    def _compare_with_last(self, entry: Entry) -> None:
        last = self.session.entry(-1)
        self.compare(entry if entry is not last else self.session.entry(-2), last)

    def _show_code(self, title: str, entry: Entry, code: Callable[[Entry], str]) -> None:
        self._codebox.tell(title=f"{title} #{entry.number}", code=code(entry))

    def _hide_code(self) -> None:
        self._codebox.tell(code="")

    # ------------------------------------------------------------ in a notebook that is kept

    def static_picture(self) -> Image:
        """The contact sheet of the clip that is shown; before the first, the picture as the model sees it."""
        if self._current is not None:
            return self._current.clip.contact_sheet()
        prepared = self.session.prepared()
        if prepared is None:
            raise WidgetError("Explorer: there is neither a clip nor a picture yet.")
        return prepared

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if display_is_static() and self._current is None and self.session.picture is None:
            return {"text/plain": repr(self)}
        return super()._repr_mimebundle_(**kwargs)

    def __repr__(self) -> str:
        count = len(self.session.history)
        picture = self.session.picture.label if self.session.picture else "no picture"
        return f"Explorer({self.session.model}, {picture}, {count} clip{'' if count == 1 else 's'})"


def _title(entry: Entry) -> str:
    return " ".join(f"{name}={value}" for name, value in shown(entry.settings, entry.defaults).items())


def _item(entry: Entry) -> dict[str, Any]:
    title = f"{entry.model}, {entry.picture.label}, {_title(entry)}, made in {duration(entry.seconds)}"
    middle = entry.clip.frames[len(entry.clip) // 2]
    thumb = thumbnail(middle, height=_THUMB_HEIGHT)
    return {"number": entry.number, "title": title, "pinned": entry.pinned, "thumb": thumb}
