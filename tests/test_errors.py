from __future__ import annotations

import inspect

import pytest

from svdlab import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.SvdlabError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_svdlabs_own_and_explains_itself(kind):
    assert issubclass(kind, errors.SvdlabError)
    assert kind.__doc__


def test_a_notebook_shows_the_sentence_and_not_the_frames():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    result = shell.run_cell("from svdlab.request import Request\nRequest('a.png', steps=0)", silent=True)
    assert isinstance(result.error_in_exec, errors.RequestError)
    shown = result.error_in_exec._render_traceback_()
    assert shown == [f"RequestError: {result.error_in_exec}"]


def test_a_notebook_prints_no_frame_of_ours(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell().run_cell("from svdlab.request import Request\nRequest('a.png', steps=0)")
    out = capsys.readouterr().out
    assert "steps = 0: must be a whole number" in out
    assert "request.py" not in out
