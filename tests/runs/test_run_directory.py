"""Who may write into a run's folder."""

import json
import os

import pytest

from pnil_tf.errors import UserError
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.settings import RunSettings

OURS = {"versions": {"pnil_tf": "0.1.0"}}
FLAGS = "# python bin/train.py --flagfile=THIS_FILE"


def settings(folder, **change):
    return RunSettings(runs_dir=str(folder), name="mine", **change)


def test_an_existing_run_is_neither_replaced_nor_continued_unasked(tmp_path):
    RunDirectory(settings(tmp_path)).begin({**OURS, "status": "finished"}, FLAGS)
    with pytest.raises(UserError, match="neither resume"):
        RunDirectory(settings(tmp_path))
    assert RunDirectory(settings(tmp_path, resume=True)).exists


def test_a_place_where_no_folder_can_be_made_is_a_users_mistake():
    with pytest.raises(
        UserError, match=r"'/proc/x/mine' cannot be made: .*another place by runs_dir"
    ):
        RunDirectory(settings("/proc/x")).begin({**OURS, "status": "unfinished"}, FLAGS)


def test_a_damaged_run_can_be_replaced_and_nothing_else(tmp_path):
    run = RunDirectory(settings(tmp_path))
    run.begin({**OURS, "status": "unfinished"}, FLAGS)
    del run  # lets go of the lock
    marker = tmp_path / "mine" / "run.json"
    marker.write_text("{")
    with pytest.raises(UserError, match="--overwrite"):
        RunDirectory(settings(tmp_path))
    with pytest.raises(UserError, match="damaged"):
        assert RunDirectory(settings(tmp_path, resume=True)).exists
    new = RunDirectory(settings(tmp_path, overwrite=True))
    new.begin({**OURS, "status": "unfinished", "seed": 7}, FLAGS)
    assert new.read()["seed"] == 7


def test_two_processes_do_not_share_a_run(tmp_path):
    first = RunDirectory(settings(tmp_path))
    first.begin({**OURS, "status": "unfinished"}, FLAGS)
    with pytest.raises(UserError, match="Another process"):
        RunDirectory(settings(tmp_path, overwrite=True)).begin(OURS, FLAGS)


@pytest.mark.parametrize("at_work", [True, False])
def test_of_two_fresh_trainings_one_is_refused(tmp_path, at_work):
    """Both have found the name free before either has begun."""
    first, second = (RunDirectory(settings(tmp_path)) for _ in range(2))
    first.begin({**OURS, "status": "unfinished", "seed": 1}, FLAGS)
    if not at_work:
        del first  # lets go of the lock
    said = "Another process works in" if at_work else "exists"
    with pytest.raises(UserError, match=said):
        second.begin({**OURS, "status": "unfinished", "seed": 2}, FLAGS)
    assert json.loads((tmp_path / "mine" / "run.json").read_text())["seed"] == 1


@pytest.mark.timeout(60)
def test_a_pipe_in_the_place_of_the_flags_is_not_waited_for(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text("{")
    os.mkfifo(tmp_path / "mine" / "flags.cfg")
    with pytest.raises(UserError, match="not written by a training of ours"):
        RunDirectory(settings(tmp_path, overwrite=True))
