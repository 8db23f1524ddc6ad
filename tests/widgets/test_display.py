from __future__ import annotations

import io

import ipywidgets
import pytest
from PIL import Image

from svdlab.widgets import FramePlayer
from svdlab.widgets.display import StaticDisplay
from tests.widgets.clips import counting

VIEW = "application/vnd.jupyter.widget-view+json"


class Square(StaticDisplay, ipywidgets.VBox):
    """A composed widget with a picture."""

    def static_picture(self) -> Image.Image:
        return Image.new("RGB", (32, 16), (200, 10, 10))

    def __repr__(self) -> str:
        return "Square()"


def test_a_kept_notebook_gets_a_picture_and_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVDLAB_DISPLAY", "static")
    for widget in (FramePlayer([counting(3), counting(3)]), Square()):
        bundle = widget._repr_mimebundle_(include=None, exclude=None)
        assert set(bundle) == {"text/plain", "image/jpeg"}
        assert bundle["text/plain"] == repr(widget)
        with Image.open(io.BytesIO(bundle["image/jpeg"])) as picture:
            assert picture.size == widget.static_picture().size


def test_a_static_widget_sends_nothing_to_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVDLAB_DISPLAY", "static")
    player = FramePlayer(counting(3))
    assert player.comm is None
    player.seek(2)
    player.set_clips(counting(2))
    assert (player.frame, player.comm) == (1, None)


def test_a_widget_made_in_static_mode_can_be_shown_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVDLAB_DISPLAY", "static")
    player, square = FramePlayer(counting(3)), Square()
    monkeypatch.setenv("SVDLAB_DISPLAY", "live")
    assert player._repr_mimebundle_()[0][VIEW]["model_id"] == player.model_id
    shown = square._repr_mimebundle_()
    assert VIEW in (shown[0] if isinstance(shown, tuple) else shown)


def test_a_picture_must_be_described() -> None:
    class Nothing(StaticDisplay, ipywidgets.VBox):
        pass

    with pytest.raises(NotImplementedError, match="Nothing must say what its static picture is"):
        Nothing().static_picture()
