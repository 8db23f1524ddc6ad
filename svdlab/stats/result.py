"""Result: what every statistic returns: numbers, a table and a sentence."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod

import pandas as pd


class Result(ABC):
    """Prints as its sentence; in a notebook the table stands below it."""

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What was found, in plain words, with its uncertainty and over how much it was found."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The numbers as a new DataFrame."""

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(
            index=False, escape=True, border=0, na_rep="", float_format=lambda v: f"{v:.3g}"
        )
        return f"<p>{html.escape(self.sentence)}</p>{table}"
