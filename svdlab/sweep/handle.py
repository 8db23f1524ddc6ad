"""Sweep: a run directory in Python. It reads what is there, also while another process writes."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.errors import SweepError
from svdlab.sweep import artifacts
from svdlab.sweep.backfill import backfill
from svdlab.sweep.decode import decode_cells, look, model_of
from svdlab.sweep.frame import build_frame, build_metric_table, metric_versions, write_csv, write_parquet
from svdlab.sweep.ledger import Ledger, is_undecoded
from svdlab.sweep.plan import Plan

if TYPE_CHECKING:
    import pandas as pd
    import xarray

    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline
    from svdlab.sweep.diff import Difference
    from svdlab.sweep.drive import Worker
    from svdlab.sweep.explain import Explanation
    from svdlab.sweep.regenerate import Regenerated


class Sweep:
    """A sweep in its run directory. Every call reads what is there now, so it is live while another process runs.

    Attributes:
        path: the run directory.
        plan: what was planned before the first cell; None for a sweep that was only opened.
        interrupted: whether Ctrl-C ended the run early. The same call goes on.
        workers: of another engine, that made the cells of this run: where, how many cells, how busy.

    Example:
        >>> sweep = open_sweep("runs/first")
        >>> sweep
        Sweep(first: 48 cells: 48 done, in runs/first)
        >>> sweep.frame().groupby("steps")["flow_mean"].mean()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        plan: Plan | None = None,
        interrupted: bool = False,
        pipe: Pipeline | None = None,
        workers: tuple[Worker, ...] = (),
    ) -> None:
        self.path = Path(path)
        self.plan = plan
        self.interrupted = interrupted
        self.workers = workers
        self._pipe = pipe  # decodes what is not decoded yet
        with self._ledger():  # a directory that is no sweep is refused now and not at the first question
            pass

    def _ledger(self) -> Ledger:
        return Ledger(self.path)

    def _declared(self) -> dict[str, Any]:
        with self._ledger() as ledger:
            return ledger.declaration()

    @property
    def name(self) -> str:
        """The name that the spec gives; the directory's name if nothing was declared yet."""
        return self._declared().get("name", self.path.name)

    @property
    def model(self) -> dict[str, Any]:
        """The model of the current declaration: name, fingerprint, revision, source, device, dtype."""
        return self._declared().get("described", {})

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """What varies -> its values: `image` (labels) if there are several, then the grid, outermost first."""
        declared = self._declared()
        images = tuple(image["label"] for image in declared.get("images", ()))
        grid = {name: tuple(values) for name, values in declared.get("grid", {}).items()}
        return {**({"image": images} if len(images) > 1 else {}), **grid}

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings that have one value; the seed among them if it was drawn for all cells."""
        declared = self._declared()
        drawn = {} if declared.get("seed") is None else {"seed": declared["seed"]}
        return {**declared.get("fixed", {}), **drawn}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that the spec asked for."""
        return tuple(self._declared().get("metrics", ()))

    def frame(self, *, all: bool = False) -> pd.DataFrame:
        """One row a cell, in the order of the grid; see `svdlab.sweep.frame.build_frame` for the columns.

        Args:
            all: also cells of earlier declarations in this directory, marked in the column `declared`.

        Example:
            >>> sweep.frame().query("status == 'done'")[["steps", "flow_mean", "warp_error"]]
        """
        with self._ledger() as ledger:
            return build_frame(ledger, all=all)

    def metric_table(self) -> pd.DataFrame:
        """Every metric value with its provenance: cell, name, value, version, source, error, reference.

        `source` is what it was computed from: `memory` (frames as generated), `latents` (decoded again, the same), or
        `video` (the mp4, which is lossy). `reference` is, for the metrics that compare (`against`), the key of the cell
        that was compared with; whose it is stands in the manifest.
        """
        with self._ledger() as ledger:
            return build_metric_table(ledger)

    def status(self) -> dict[str, int]:
        """Status -> number of cells of the current declaration: pending, running, done, failed, skipped.

        `running` may be left over from a process that was killed; the next run takes care of it.
        """
        with self._ledger() as ledger:
            return ledger.counts()

    def clip(self, cell: str, *, pipe: Pipeline | None = None) -> Clip:
        """A finished cell as a clip: the frames of its mp4, its exact latents, request, picture and timings.

        A cell that is not decoded yet is decoded now, and its mp4 is kept (`decode`); its frames are then exact.

        Args:
            cell: its key, from the column `cell`.
            pipe: decodes the latents, which gives the frames exactly as they were generated.

        Raises:
            SweepError: there is no such cell, it is not done, its folder is damaged, or the model that would decode it
                is not at hand.

        Example:
            >>> sweep.clip(df.loc[0, "cell"]).save("first.mp4")
        """
        if self._is_decoded(cell):
            return artifacts.load_clip(self.path, cell, pipe=pipe)
        return look(self.path, cell, pipe=pipe or self._model())

    def mp4(self, cell: str) -> bytes:
        """The mp4 of a finished cell, as it is on the disk; a cell that is not decoded yet is decoded now, see `clip`.

        Raises:
            SweepError: as for `clip`; or the file cannot be read.
        """
        if not self._is_decoded(cell):
            clip = look(self.path, cell, pipe=self._model())
            if not self._is_decoded(cell):  # nothing could be kept
                return clip.to_mp4()
        return artifacts.read_mp4(self.path, cell)

    def decode(
        self, cells: Iterable[str] | None = None, *, pipe: Pipeline | None = None, progress: bool = True
    ) -> Sweep:
        """Make and keep the frames of finished cells that have none yet (`decode="preview"`, `"none"`).

        Frames, mp4 and metrics are those of decoding at once; the metrics of the spec are computed with them. Returns
        the sweep itself.

        Args:
            cells: keys, or their first digits; None for all.
            pipe: the model of the sweep; by default the one that ran it, else it is loaded by its name, from this
                machine alone.
            progress: show a progress bar.

        Raises:
            SweepError: there is no such cell, it is not done, the model is not at hand, or another process is writing.

        Example:
            >>> sweep.decode(df.nlargest(3, "seconds_denoise")["cell"]).frame()
        """
        from svdlab.sweep.explain import find_cell

        with self._ledger() as ledger:
            wanted = None if cells is None else [find_cell(ledger, cell) for cell in cells]
            left = ledger.undecoded()
        for cell in wanted or ():
            self._check_done(cell)
        if left if wanted is None else left & set(wanted):
            decode_cells(self.path, wanted, pipe=pipe or self._model(), progress=progress)
        return self

    def _is_decoded(self, cell: str) -> bool:
        return not is_undecoded(self._check_done(cell))

    def _model(self) -> Pipeline:
        """The pipeline that this sweep was run or opened with, else the sweep's model from this machine."""
        if self._pipe is None:
            self._pipe = model_of(self.path)
        return self._pipe

    def manifest(self, cell: str) -> dict[str, Any]:
        """Everything recorded about a finished cell: request, picture, model, metrics, timings, versions, checksums.

        Raises:
            SweepError: as for `clip`.
        """
        self._check_done(cell)
        return artifacts.read_manifest(self.path, cell)

    def regenerate(self, cell: str, *, pipe: Pipeline | None = None) -> Regenerated:
        """Make a finished cell again from its manifest, and say whether it is the same; see `regenerate`.

        Example:
            >>> print(sweep.regenerate("3f2a", pipe=pipe))
        """
        from svdlab.sweep.regenerate import regenerate

        return regenerate(self.path / cell, pipe=pipe)

    def traceback(self, cell: str) -> str | None:
        """The traceback of a failed cell as text; None if the cell has not failed.

        Raises:
            SweepError: there is no such cell.
        """
        return self._cell(cell)["traceback"]

    def _cell(self, cell: str) -> Any:
        with self._ledger() as ledger:
            row = ledger.cell(cell)
        if row is None:
            raise SweepError(f"cell = {cell!r}: {self.path} has no such cell. Take a key from the column `cell`.")
        return row

    def _check_done(self, cell: str) -> Any:
        row = self._cell(cell)
        if row["status"] != "done":
            raise SweepError(
                f"cell = {cell!r}: is {row['status']}, so there is no clip. Take one whose status is 'done'."
            )
        return row

    def backfill(self, metrics: Iterable[str], *, pipe: Pipeline | None = None, progress: bool = True) -> Sweep:
        """Compute metrics for the finished cells that lack them, or have them in an older version.

        With `pipe`, from frames decoded again from the latents: exact. Without, from the mp4: lossy, which is noted in
        `metric_table`. Nothing is generated again. Returns the sweep itself.

        Raises:
            MetricError: a name is unknown, or a metric needs the encoder of a `pipe`.
            SweepError: another process is writing.

        Example:
            >>> sweep.backfill(["psnr_input"], pipe=pipe).frame()["psnr_input"]
        """
        backfill(self.path, metrics, pipe=pipe, progress=progress)
        return self

    def against(
        self,
        reference: Sweep | str | os.PathLike[str],
        metrics: Iterable[str] | None = None,
        *,
        pipe: Pipeline | None = None,
        reference_pipe: Pipeline | None = None,
        **options: Any,
    ) -> Sweep:
        """Compare the finished cells with those of a `reference` sweep, such as the teacher's with many steps.

        Each cell is held against the cell of the same picture, seed, motion, noise, fps and size. Its metrics, by
        default `psnr_ref`, `lpips_ref` and `tof_ref`, become columns, and what they were compared with is kept. See
        `svdlab.sweep.against.against` for the options `where`, `same`, `missing` and `replace`. Returns the sweep
        itself.

        Args:
            pipe, reference_pipe: the models of the two sweeps, for exact frames; without them, those of the mp4s.

        Raises:
            SweepError: cells have no partner or several, or the values there are against another reference.

        Example:
            >>> student.against("runs/teacher", pipe=lcm, reference_pipe=svd).frame()["psnr_ref"]
        """
        from svdlab.sweep.against import against

        against(self, reference, metrics, pipe=pipe, reference_pipe=reference_pipe, **options)
        return self

    def to_parquet(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the frame as Parquet, by default as ``results.parquet`` in the run directory. Returns the path.

        Units, direction, version and description of each column are in the metadata of its field.
        """
        path = self.path / "results.parquet" if path is None else Path(path)
        with self._ledger() as ledger, ledger.transaction():
            frame = build_frame(ledger)
            versions = metric_versions(ledger, frame["cell"])
        write_parquet(frame, path, versions=versions)
        return path

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the frame as CSV, by default as ``results.csv`` in the run directory. Returns the path."""
        path = self.path / "results.csv" if path is None else Path(path)
        write_csv(self.frame(), path)
        return path

    def to_xarray(self, metrics: Iterable[str] | None = None) -> xarray.Dataset:
        """The sweep as an `xarray.Dataset`, one dimension an axis; see `svdlab.sweep.dataset.to_xarray`.

        Example:
            >>> sweep.to_xarray().flow_mean.mean("seed").sel(steps=4)
        """
        from svdlab.sweep.dataset import to_xarray

        return to_xarray(self, metrics)

    def per_frame(
        self, metrics: Iterable[str] | None = None, *, pipe: Pipeline | None = None, progress: bool = True
    ) -> pd.DataFrame:
        """Metrics frame by frame, one row a cell, metric and frame; see `svdlab.sweep.curves.per_frame`.

        Example:
            >>> sweep.per_frame(["flow_mean"], pipe=pipe).groupby("frame")["value"].mean()
        """
        from svdlab.sweep.curves import per_frame

        return per_frame(self, metrics, pipe=pipe, progress=progress)

    def explain(self, cell: str) -> Explanation:
        """Trace a cell, named by its key or the beginning of it; see `svdlab.sweep.explain.explain`.

        Example:
            >>> sweep.explain("3f2a")
        """
        from svdlab.sweep.explain import explain

        return explain(self, cell)

    def diff(self, other: Sweep | str | os.PathLike[str]) -> Difference:
        """What differs from this sweep (a) to the `other` (b); see `svdlab.sweep.diff.diff`.

        Example:
            >>> print(sweep.diff("runs/second"))
        """
        from svdlab.sweep.diff import diff

        return diff(self, other)

    def export(self, to: str, **options: Any) -> int:
        """Hand the finished cells to ``"wandb"``, ``"mlflow"`` or ``"trackio"``; see `svdlab.sweep.trackers.export`.

        Example:
            >>> sweep.export("wandb", project="lcm", mode="offline")
        """
        from svdlab.sweep.trackers import export

        return export(self, to, **options)

    def describe_json(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Path:
        """Write what is in the run directory as JSON, for publication; see `svdlab.sweep.describe.write_description`.

        Example:
            >>> sweep.describe_json(license="CC-BY-4.0")
        """
        from svdlab.sweep.describe import write_description

        return write_description(self, path, **options)

    def report(self, folder: str | os.PathLike[str], **options: Any) -> Path:
        """Write a static HTML folder that opens from disk; see `svdlab.report.write_report`. Returns its path.

        Example:
            >>> sweep.report("report/")
        """
        from svdlab.report import write_report  # the one door upwards

        return write_report(self, folder, **options)

    def __len__(self) -> int:
        return sum(self.status().values())

    def _summary(self) -> str:
        counts = self.status()
        shown = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
        return f"{self.name}: {sum(counts.values())} cells: {shown}{' (interrupted)' if self.interrupted else ''}"

    def __repr__(self) -> str:
        return f"Sweep({self._summary()}, in {self.path})"

    def __str__(self) -> str:
        return self._summary() + (f"\n\n{self.plan}" if self.plan else "")

    def _repr_html_(self) -> str:
        plan = f"<details><summary>plan</summary>{self.plan._repr_html_()}</details>" if self.plan else ""
        return f"<p><b>{html.escape(self._summary())}</b><br><code>{html.escape(str(self.path))}</code></p>{plan}"
