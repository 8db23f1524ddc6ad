"""Sweeps: grid -> plan -> run -> ledger -> DataFrame.

The package can be called: ``svdlab.sweep(pipe, image=..., out=..., steps=[1, 2, 4])`` is `svdlab.sweep.sweep`.
Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from svdlab.lazy import lazily

if TYPE_CHECKING:
    from svdlab.sweep.api import open_sweep, plan_spec, plan_text, run_spec, sweep
    from svdlab.sweep.grid import Grid, make_grid
    from svdlab.sweep.handle import Sweep
    from svdlab.sweep.plan import Plan
    from svdlab.sweep.regenerate import regenerate
    from svdlab.sweep.repair import Repair, repair
    from svdlab.sweep.shards import Merged, merge_runs
    from svdlab.sweep.spec import Spec, make_spec, read_spec, stored_spec
    from svdlab.sweep.tables import join, merge

_HOMES = {
    "Grid": "grid",
    "Merged": "shards",
    "Plan": "plan",
    "Repair": "repair",
    "Spec": "spec",
    "Sweep": "handle",
    "join": "tables",
    "make_grid": "grid",
    "make_spec": "spec",
    "merge": "tables",
    "merge_runs": "shards",
    "open_sweep": "api",
    "plan_spec": "api",
    "plan_text": "api",
    "read_spec": "spec",
    "regenerate": "regenerate",
    "repair": "repair",
    "run_spec": "api",
    "stored_spec": "spec",
    "sweep": "api",
}

__all__ = [
    "Grid",
    "Merged",
    "Plan",
    "Repair",
    "Spec",
    "Sweep",
    "join",
    "make_grid",
    "make_spec",
    "merge",
    "merge_runs",
    "open_sweep",
    "plan_spec",
    "plan_text",
    "read_spec",
    "regenerate",
    "repair",
    "run_spec",
    "stored_spec",
    "sweep",
]

__getattr__, __dir__ = lazily(__name__, _HOMES, __all__)


def _function(name: str) -> property:
    """The function `name` of the module `name`, which the import system would put in its place."""
    return property(
        lambda package: getattr(importlib.import_module(f"svdlab.sweep.{name}"), name), lambda package, module: None
    )


class _Callable(ModuleType):
    """Makes the package callable as the function of the same name: importing one must not hide the other."""

    regenerate = _function("regenerate")
    repair = _function("repair")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `svdlab.sweep.sweep`."""
        from svdlab.sweep.api import sweep

        return sweep(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
