from __future__ import annotations

import json

import pytest

from svdlab.errors import TrainingError
from svdlab.training.record import check_record, flatten


def test_nested_settings_become_flat_names_without_the_free_ones():
    nested = {"a": {"b": 1, "free": 2}, "list": [{"c": 3}, {"c": 4}], "plain": [5, 6], "empty": {}}
    assert flatten(nested, ["free"]) == {"a.b": 1, "list[0].c": 3, "list[1].c": 4, "plain": [5, 6], "empty": {}}


def test_a_run_goes_on_with_the_same_settings_only(tmp_path):
    path = tmp_path / "run" / "record.json"
    check_record(path, {"a": {"b": (1, 2), "free": 0}}, free=["free"], resume=True)
    assert json.loads(path.read_text()) == {"a.b": [1, 2]}
    check_record(path, {"a": {"b": [1, 2], "free": 9}}, free=["free"], resume=True)
    with pytest.raises(TrainingError, match=r"begun otherwise: a\.b was \[1, 2\], is 3; new was None, is 4"):
        check_record(path, {"a": {"b": 3}, "new": 4}, free=["free"], resume=True)
    with pytest.raises(TrainingError, match="resume = False"):
        check_record(path, {}, free=[], resume=False)


def test_a_list_that_may_grow_takes_up_what_was_added_and_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    first, second = {"stages": [{"steps": 1}]}, {"stages": [{"steps": 1}, {"steps": 2}]}
    for settings in (first, second, second):
        check_record(path, settings, free=[], resume=True, grows="stages")
    assert json.loads(path.read_text()) == {"stages[0].steps": 1, "stages[1].steps": 2}
    with pytest.raises(TrainingError, match=r"stages\[1\]\.steps was 2, is None"):
        check_record(path, first, free=[], resume=True, grows="stages")
    other = {"stages": [{"steps": 9}, {"steps": 2}, {"steps": 3}]}
    with pytest.raises(TrainingError, match=r"begun otherwise: stages\[0\]\.steps was 1, is 9\. Give"):
        check_record(path, other, free=[], resume=True, grows="stages")
    with pytest.raises(TrainingError, match=r"stages\[2\]"):
        check_record(path, {"stages": [*second["stages"], {"steps": 3}]}, free=[], resume=True)
    assert json.loads(path.read_text()) == {"stages[0].steps": 1, "stages[1].steps": 2}


def test_a_process_that_only_compares_writes_nothing(tmp_path):
    check_record(tmp_path / "record.json", {"a": 1}, free=[], resume=True, write=False)
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize("text", ["[1", "[]", "3"])
def test_a_damaged_record_is_refused_in_words(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(TrainingError, match="cannot be read"):
        check_record(tmp_path / "record.json", {"a": 1}, free=[], resume=True)
