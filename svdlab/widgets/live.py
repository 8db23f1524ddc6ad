"""LiveSweep: a sweep in a notebook, with its plan, a progress bar, a table that fills, the last clip, and Stop."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from svdlab.clip import display_is_static
from svdlab.errors import SvdlabError, WidgetError
from svdlab.sweep import open_sweep, run_spec
from svdlab.sweep.api import plan_spec, spec_of_call
from svdlab.sweep.plan import Plan
from svdlab.widgets.display import StaticDisplay
from svdlab.widgets.eta import duration
from svdlab.widgets.parts import Column, Row, Table, Work, close_all
from svdlab.widgets.player import FramePlayer
from svdlab.widgets.rerun import replace_former
from svdlab.widgets.tally import Tally
from svdlab.widgets.words import explain
from svdlab.widgets.worker import Job, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline
    from svdlab.sweep.batches import Batch
    from svdlab.sweep.engine import Engine
    from svdlab.sweep.handle import Sweep

_CLIP_EVERY = 2.0  # seconds between two clips that are shown; quick cells would keep the page busy

_writers: dict[Path, Job] = {}  # run directory -> who wrote there last, in this process


class LiveSweep(StaticDisplay, ipywidgets.VBox):
    """A sweep that runs in the background of a notebook, as `svdlab.sweep` would run it.

    It begins by planning: everything is checked, cells and time are estimated. Then it waits for its start button, or
    for `start()`. Stopping finishes the cell in hand; starting again goes on, as does the same call tomorrow. A
    notebook cell that is run again stops the sweep that its former run began, and goes on with it.

    Args:
        pipe: a loaded pipeline, or the name of a model.
        image: a picture or a list of them, as for `svdlab.sweep`.
        out: the run directory.
        name, metrics, timing, decode, preview_weights, batch, engine, retry: as for `svdlab.sweep`. Where cells are
            not decoded at once, only the last clip is, to be shown. With a model's name and the engine ``"ray"``,
            this process loads none.
        start: begin with the cells as soon as the plan is made.
        settings: settings of `svdlab.Request`; lists are axes.

    Attributes:
        plan: what is to be done; None until it is made.
        rows: the cells that were finished or failed since the last start, as dicts with the columns of the DataFrame.
        clip: the last clip that was shown; None before.
        traceback: of the last error that came unexpectedly, as text.

    Raises:
        SpecError: the grid cannot be; what the pictures, the model or the directory have against it
            appears in the widget, and is raised by `wait`.

    Example:
        >>> live = sl.widgets.LiveSweep(pipe, image="rocket.png", steps=[1, 2, 4], seed=range(4), out="runs/live")
        >>> live.start()
        >>> live.wait().frame()
    """

    def __init__(
        self,
        pipe: Pipeline | str,
        *,
        image: Any,
        out: str | os.PathLike[str],
        name: str | None = None,
        metrics: Any = None,
        timing: str = "shared",
        decode: str = "full",
        preview_weights: str | os.PathLike[str] | None = None,
        batch: Batch = 1,
        engine: Engine | Mapping[str, Any] | str = "local",
        retry: str | None = None,
        start: bool = False,
        **settings: Any,
    ) -> None:
        self.out = Path(out)
        self._pipe = None if isinstance(pipe, str) else pipe  # None: to be loaded, or the engine's workers have it
        how = {"metrics": metrics, "timing": timing, "decode": decode, "preview_weights": preview_weights}
        self._spec = spec_of_call(pipe, image=image, out=out, name=name, settings=settings, engine=engine, **how)
        self._how: Any = {"out": self.out, "batch": batch, "retry": retry}
        self.plan: Plan | None = None
        self.rows: list[dict[str, Any]] = []
        self.clip: Clip | None = None
        self.traceback: str | None = None
        self._sweep: Sweep | None = None
        self._tally = Tally()
        self._wanted = bool(start)  # start as soon as the plan is made
        self._planning = True
        self._deciding = threading.Lock()
        self._worker = Worker(on_line=lambda line: None)  # what the sweep says of itself, this widget shows
        self._build()
        super().__init__(children=[self._work, self._plan_table, self._results])
        replace_former(self)
        self._occupy("planning")
        self._worker.start("planning", self._plan_and_go, on_end=self._ended)

    # ------------------------------------------------------------ what it does, with or without a browser

    @property
    def sweep(self) -> Sweep:
        """The sweep as it stands, readable at any time once it has begun.

        Raises:
            SweepError: nothing is in its directory yet.
        """
        return self._sweep or open_sweep(self.out)

    @property
    def busy(self) -> bool:
        """Whether it is planning or running."""
        return self._worker.busy

    def start(self) -> None:
        """Begin, or go on after a stop. Returns at once; while it is planning, it begins when the plan is made.

        Raises:
            WidgetError: it is running already.
        """
        with self._deciding:
            if self._planning:
                self._wanted = True
                self._work.tell(words="planning; the cells begin after that")
                return
        job = self._worker.job
        assert job is not None
        if job.state == "running":
            raise WidgetError("start: the sweep is still running. Wait for it, or stop it first.")
        job.wait()  # over but for its last lines
        self._occupy("starting")
        self._worker.start("the sweep", self._run, on_end=self._ended)

    def stop(self) -> None:
        """Finish the cell in hand and stop. `start` goes on."""
        with self._deciding:
            self._wanted = False
        if self._worker.busy:
            self._work.tell(ending=True, words="stopping when the cell in hand is finished")
            self._worker.cancel()

    def wait(self, timeout: float | None = None) -> Sweep:
        """Wait until it has finished or was stopped, and return the sweep.

        Interrupting the kernel stops it after the cell in hand, as it does with `svdlab.sweep`; interrupting once more
        returns at once, while the cell in hand still finishes in the background.

        Args:
            timeout: wait at most so many seconds.

        Raises:
            What ended it, if something did.
            WidgetError: there is nothing to wait for, because it was never started.
        """
        job = self._worker.job
        assert job is not None
        try:
            job.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            job.wait(timeout)
        if job.exception is not None:
            raise job.exception
        if self._sweep is None and not self._tally.begun:
            raise WidgetError("wait: the sweep is planned and not started. start() begins it.")
        return self.sweep

    def close(self) -> None:
        """Stop after the cell in hand and take the widget off its pages; the sweep stays in its directory."""
        if hasattr(self, "_results"):  # else it was never built
            self._wanted = False
            self._worker.cancel()
            close_all(self._work, self._plan_table, self._table, self._player, self._stage, self._results)
        super().close()

    # ------------------------------------------------------------ the page

    def _build(self) -> None:
        self._work = Work(begin="Start", end="Stop")
        self._plan_table = Table(caption="Plan", text=[0, 1], folds=True)
        self._table = Table()
        self._player: FramePlayer | None = None
        self._stage = Column([])
        layout = ipywidgets.Layout(flex_flow="row wrap", grid_gap="20px")
        self._results = Row([self._table, self._stage], layout=layout)
        self._work.on("begin", lambda *_: self.start())
        self._work.on("end", lambda *_: self.stop())
        self._work.trouble = lambda error: self._work.tell(problem=explain(error))

    def _occupy(self, words: str) -> None:
        self._work.tell(busy=True, ending=False, progress=-1.0, words=words, problem="")

    def _show_plan(self, plan: Plan) -> None:
        self.plan = plan
        self._plan_table.tell(rows=[[label, text] for label, text in plan.rows() if label != "note"])
        self._work.tell(notes=list(plan.notes), begin="Start" if plan.done + plan.failed == 0 else "Go on")
        self._tally.begin(plan)

    def _on_cell(self, row: dict[str, Any]) -> None:
        """After each cell, in the thread that runs them."""
        self._tally.add(row)
        self.rows.append(row)
        words = self._work.words if self._work.ending else self._tally.words()
        self._work.tell(progress=self._tally.progress, words=words)
        self._show_table()
        if row["status"] == "done" and self._spec.decode == "full" and time.monotonic() - self._shown >= _CLIP_EVERY:
            self._show_clip(row)

    def _show_table(self) -> None:
        head, text = self._tally.head()
        self._table.tell(caption=self._tally.caption(), head=head, text=text, rows=self._tally.table())

    def _show_clip(self, row: dict[str, Any]) -> None:
        with contextlib.suppress(SvdlabError):  # somebody's hand was in the directory; the sweep itself goes on
            self.clip = open_sweep(self.out, pipe=self._pipe).clip(row["cell"])
            label = self._tally.label(row)
            if self._player is None:
                self._player = FramePlayer([self.clip], labels=[label], autoplay=True)
                self._stage.children = (self._player,)
            else:
                self._player.set_clips([self.clip], labels=[label])
            self._shown = time.monotonic()

    # ------------------------------------------------------------ work, in a thread of its own

    _shown = -_CLIP_EVERY

    def _loaded(self) -> Pipeline | None:
        if self._pipe is None and self._spec.engine.kind == "local":
            from svdlab.pipeline import load

            self._work.tell(words=f"loading {self._spec.model}")
            self._pipe = load(str(self._spec.model))
        return self._pipe

    def _plan_and_go(self, job: Job) -> None:
        try:
            self._show_plan(plan_spec(self._spec, pipe=self._loaded(), **self._how))
        finally:
            with self._deciding:
                self._planning = False
                go = self._wanted
        if go:
            self._run(job)

    def _run(self, job: Job) -> None:
        folder = self.out.resolve()
        former = _writers.get(folder)
        if former is not None and former is not job and former.cancelled and not former.over:
            self._work.tell(words="waiting until the former run has finished its cell")
            former.wait()
        _writers[folder] = job
        self.rows, self._sweep = [], None
        self._work.tell(words="checking everything")
        self._plan_table.tell(unfolded=False)  # it was read; the results need the room
        self._sweep = run_spec(
            self._spec,
            pipe=self._loaded(),
            **self._how,
            progress=False,
            on_plan=self._begun,
            on_cell=self._on_cell,
            stop=lambda: job.cancelled,
        )

    def _begun(self, plan: Plan) -> None:
        self._show_plan(plan)
        self._work.tell(progress=self._tally.progress, words=self._tally.words())

    def _ended(self, job: Job) -> None:
        self.traceback = job.traceback
        done = [row for row in self.rows if row["status"] == "done"]
        if done and (self._spec.decode == "full" or self._pipe is not None):
            self._show_clip(done[-1])
        self._work.tell(
            busy=False,
            ending=False,
            problem=job.error or "",
            words=self._last_words(job),
            progress=self._tally.progress if self._sweep is not None or self.rows else None,
            begin="Go on" if self._tally.begun else "Start",
        )

    def _last_words(self, job: Job) -> str:
        if job.state == "failed":
            return ""
        if self._sweep is None:
            return f"planned; {duration(self.plan.seconds)} or so" if self.plan and self.plan.seconds else "planned"
        return self._tally.result(self._sweep.interrupted)

    # ------------------------------------------------------------ in a notebook that is kept

    def static_picture(self) -> Image:
        """The contact sheet of the last clip."""
        if self.clip is None:
            raise WidgetError("LiveSweep: no clip is made yet.")
        return self.clip.contact_sheet()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if display_is_static() and self.clip is None:
            return {"text/plain": repr(self)}
        return super()._repr_mimebundle_(**kwargs)

    def __repr__(self) -> str:
        return f"LiveSweep({self._tally.summary()}, in {self.out})"
