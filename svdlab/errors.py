"""The errors that svdlab raises on purpose.

Every message names the argument, the value that was given, what is allowed, and what to do next. All of them are
`SvdlabError`, so a caller can tell "svdlab refused this" from a bug; each is also the built-in exception that a Python
programmer would expect.
"""

from __future__ import annotations


class SvdlabError(Exception):
    """Base of every error that svdlab raises on purpose; the command line and notebooks show its text alone.

    The traceback is there for those who want it: ``traceback.print_exc()``, ``%debug``, or ``%tb`` in a notebook.
    """

    def _render_traceback_(self, *args: object) -> list[str]:
        """What IPython shows in place of a traceback, whose frames would bury the sentence that helps."""
        return [f"{type(self).__name__}: {self}"]


class RequestError(SvdlabError, ValueError):
    """A setting of a request is unknown, has the wrong type or is out of bounds."""


class ImageError(SvdlabError, ValueError):
    """Something given as a picture cannot be used as one: missing, unreadable, too large, or not a picture."""


class VideoError(SvdlabError, ValueError):
    """Frames cannot be written as a video, or a file cannot be read as one."""


class ModelError(SvdlabError, RuntimeError):
    """A model is unknown, its weights are missing, gated, unsafe or do not fit, or the device cannot run it."""


class WeightsError(SvdlabError, RuntimeError):
    """Weights that a metric needs are missing, or a fetched file is not the one that was expected."""


class MetricError(SvdlabError, ValueError):
    """A metric is unknown, or cannot be computed from what was given."""


class SpecError(SvdlabError, ValueError):
    """A sweep specification cannot be read, or asks for something impossible."""


class SweepError(SvdlabError, RuntimeError):
    """A run directory cannot be used: locked by another process, of another version, or damaged."""


class NewerError(SweepError):
    """A run directory, or a cell in it, was written by a newer svdlab, whose format this one does not know."""


class TrainingError(SvdlabError, RuntimeError):
    """Training cannot start, go on or end well: settings that do not fit, a damaged checkpoint, a loss not finite."""


class ViewError(SvdlabError, ValueError):
    """A view names an axis, value, metric or cell that its sweep does not have, or what it shows cannot be written."""


class WidgetError(SvdlabError, ValueError):
    """A widget was given something that it cannot show, or asked for something that it cannot do."""


class ReportError(SvdlabError, RuntimeError):
    """A report cannot be written: its place is taken by something else, the disk is full, or it would be too large."""


class LabError(SvdlabError, RuntimeError):
    """The notebooks cannot be put where they are wanted, or JupyterLab cannot be started on them."""


class StatsError(SvdlabError, ValueError):
    """A statistic asks for a column, value or level that its table does not have, or its design does not allow it."""


class ExtraError(SvdlabError, ImportError):
    """A package that svdlab can do without is needed for what was asked, and is not installed; the text says which."""


class BenchError(SvdlabError):
    """A bench is asked for what it does not measure, or its two sides do not do the same work."""


class EndpointError(ModelError):
    """A hosted endpoint was not reached, refused a request, failed it, or took too long.

    Attributes:
        lasting: the next request would meet the same: no key, a refused one, no credit, no calls left. A sweep ends
            there, and its cells stay to be done.
        request_id: of the job at the endpoint; None if it was not taken, or if that is not known.
        status: HTTP status of the answer; 0 if there was none.
    """

    def __init__(self, text: str, *, lasting: bool = False, request_id: str | None = None, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.lasting = lasting
        self.request_id = request_id


class ServerError(SvdlabError, RuntimeError):
    """The endpoint cannot be served as asked: its folder, address, keys or model stand in the way."""
