"""Nothing is deleted that we did not write, whatever a file beside it claims."""

import json
import os

import keras
import numpy as np
import pytest

from pnil_tf.errors import UserError
from pnil_tf.evaluation.described import described
from pnil_tf.evaluation.output import refuse_foreign
from pnil_tf.evaluation.store import Store
from pnil_tf.files import lock_folder
from pnil_tf.runs.directory import RunDirectory
from pnil_tf.runs.own_files import FLAGS_BEGIN
from pnil_tf.runs.settings import RunSettings
from pnil_tf.serving.saved_model import export_saved_model

OURS = {"versions": {"pnil_tf": "0.1.0"}}
THESIS = "years of work"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text(THESIS)
    return tmp_path / "mine"


def train(folder, status="unfinished", **how):
    run = RunDirectory(RunSettings(runs_dir=str(folder.parent), name=folder.name, **how))
    run.begin({**OURS, "status": status}, FLAGS_BEGIN)
    return run


def texts(root):
    return [file.read_text() for file in root.rglob("thesis.txt")]


@pytest.mark.parametrize("how", [{}, {"overwrite": True}])
@pytest.mark.parametrize("status", ["starting", "finished"])
def test_the_run_json_of_another_tool(folder, how, status):
    (folder / "run.json").write_text(json.dumps({"status": status}))
    with pytest.raises(UserError, match=r"not written by a training|The run .* exists"):
        train(folder, **how)
    assert texts(folder) == [THESIS]
    assert json.loads((folder / "run.json").read_text()) == {"status": status}


def test_files_beside_a_run_move_with_it_to_the_new_one(folder):
    (folder / "thesis.txt").unlink()
    train(folder, "finished")
    (folder / "thesis.txt").write_text(THESIS)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "thesis.txt").write_text(THESIS)
    new = train(folder, overwrite=True)
    new.keep_new()
    assert texts(folder) == [THESIS, THESIS]
    assert {entry.name for entry in folder.parent.iterdir()} == {"mine"}


def test_an_evaluation_in_progress_within_a_run_keeps_it(tmp_path):
    train(tmp_path / "mine", "finished")
    (tmp_path / "mine" / "evaluation").mkdir()
    with (
        lock_folder(tmp_path / "mine" / "evaluation"),
        pytest.raises(UserError, match=r"Another process works in .*evaluation"),
    ):
        train(tmp_path / "mine", overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("left", [[".lock"], [".run.123.tmp.json"], [".lock", ".run.9.tmp.json"]])
@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_what_a_kill_before_the_first_run_json_leaves_is_begun_again(tmp_path, left, how):
    (tmp_path / "mine").mkdir()
    for name in left:
        (tmp_path / "mine" / name).touch()
    assert train(tmp_path / "mine", **how).exists
    assert not list((tmp_path / "mine").glob(".*.tmp*"))


@pytest.mark.parametrize("name", [".notes.tmp", "run.json.bak", ".vimrc.tmp~"])
def test_a_hidden_file_of_a_user_is_no_leftover(tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text(THESIS)
    with pytest.raises(UserError, match="holds no run"):
        train(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / name).read_text() == THESIS


@pytest.mark.parametrize("resume", [True, False])
def test_a_state_of_a_users_own_is_not_an_evaluations(tmp_path, resume):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "thesis.txt").write_text(THESIS)
    with pytest.raises(UserError, match=r"no evaluation wrote, such as 'thesis\.txt'"):
        Store(tmp_path / "state", {"model": "abc"}, resume)
    with pytest.raises(UserError, match="no evaluation wrote"):
        refuse_foreign(tmp_path)
    assert texts(tmp_path) == [THESIS]


@pytest.mark.parametrize("own", [True, False])
def test_a_file_among_the_pieces_stays(tmp_path, own):
    if own:
        Store(tmp_path / "state", {"model": "abc"}, resume=False)
    else:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "identity.json").write_text('{"model": "abc"}')
    (tmp_path / "state" / "thesis.txt").write_text(THESIS)
    with pytest.raises(UserError, match="no evaluation wrote"):
        Store(tmp_path / "state", {"model": "abc"}, resume=False)
    assert texts(tmp_path) == [THESIS]


def test_results_of_another_tool_are_known_by_more_than_a_word(tmp_path):
    (tmp_path / "results.json").write_text('{"verdict": "guilty"}')
    with pytest.raises(UserError, match="not written by an evaluation"):
        refuse_foreign(tmp_path)


def test_what_was_found_out_about_a_run_goes_with_it(folder):
    run = train(folder.parent / "other", "finished").path
    for name, pieces in (("evaluation", "state"), ("certificate", "pieces")):
        Store(run / name / pieces, {"model": "abc"}, resume=False)
        (run / name / ".lock").touch()
    for name in ("evaluation/results.json", "certificate/certificate.json"):
        (run / name).write_text("{}")
    new = train(run, overwrite=True)
    new.keep_new()
    left = {entry.name for entry in run.iterdir()}
    assert not left & {"evaluation", "certificate"}, "it would speak of another classifier"


def test_files_among_the_checkpoints_of_a_run_move_to_the_new_one(folder):
    run = train(folder.parent / "other", "finished").path
    ours = ("checkpoints/kept.keras", "checkpoints/last/step-4.index", "checkpoints/guard_best.npz")
    ours += (
        "tensorboard/train/events.out.tfevents.1.host.v2",
        "checkpoints/last/.step-5.tmp.index",
    )
    mine = {f"{place}/thesis.txt" for place in ("checkpoints", "checkpoints/last", "tensorboard")}
    for name in (*ours, *mine):
        (run / name).parent.mkdir(exist_ok=True, parents=True)
        (run / name).write_text(THESIS)
    train(run, overwrite=True).keep_new()
    left = {file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()}
    assert left == {*mine, "run.json", "flags.cfg", ".lock"}


def test_of_two_files_of_a_user_under_one_name_both_stay_whenever_a_run_is_replaced(folder):
    run = train(folder.parent / "other", "finished").path
    for number in "123":
        (run / "thesis.txt").write_text(number)
        new = train(run, overwrite=True)
        (run / "thesis.txt").write_text("newest")
        new.keep_new()
        for lock in new._locks:
            lock.close()
        new.write({**OURS, "status": "finished"})
    assert (run / "thesis.txt").read_text() == "newest"
    found = sorted(file.read_text() for file in run.glob("thesis.txt*"))
    assert found == ["1", "2", "3", "newest"]
    assert not list(folder.parent.glob(".other*"))


@pytest.mark.parametrize("linked", [True, False])
def test_a_lock_of_somebody_else_keeps_its_content(tmp_path, linked):
    (tmp_path / "thesis.txt").write_text(THESIS)
    (tmp_path / "mine").mkdir()
    lock = tmp_path / "mine" / ".lock"
    if linked:
        lock.symlink_to(tmp_path / "thesis.txt")
        with pytest.raises(UserError, match="is a link"):
            lock_folder(tmp_path / "mine")
    else:
        os.link(tmp_path / "thesis.txt", lock)
        lock_folder(tmp_path / "mine").close()
        with pytest.raises(UserError, match="holds no run"):
            train(tmp_path / "mine", overwrite=True)
    assert texts(tmp_path) == [THESIS]


def test_pieces_with_a_file_of_a_user_among_them_outlive_their_run(folder):
    run = train(folder.parent / "other", "finished").path
    Store(run / "evaluation" / "state", {"model": "abc"}, resume=False)
    (run / "evaluation" / "state" / "thesis.txt").write_text(THESIS)
    train(run, overwrite=True).keep_new()
    assert texts(run) == [THESIS]


@pytest.mark.parametrize("name", ["results.json", "report.html", "arrays.npz", "adversarial.npz"])
def test_results_do_not_take_the_place_of_others(tmp_path, name):
    (tmp_path / name).write_text('{"by": "another tool"}')
    with pytest.raises(UserError, match="not written by an evaluation"):
        refuse_foreign(tmp_path)


@pytest.fixture
def model():
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def test_an_export_replaces_an_export_and_nothing_else(model, tmp_path):
    path = export_saved_model(model, tmp_path / "1")
    export_saved_model(model, path, overwrite=True)
    (path / "assets" / "thesis.txt").write_text(THESIS)
    with pytest.raises(UserError, match=r"also holds 'assets/thesis\.txt'"):
        export_saved_model(model, path, overwrite=True)
    assert texts(tmp_path) == [THESIS]
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "saved_model.pb").write_text(THESIS)
    with pytest.raises(UserError, match=r"also holds 'saved_model\.pb'"):
        export_saved_model(model, tmp_path / "2", overwrite=True)
    assert (tmp_path / "2" / "saved_model.pb").read_text() == THESIS


# --- What is said of the images, before any attack.


def test_numbers_of_numpy_are_taken():
    data = {"a": np.float32(0.5), "b": np.arange(2), "class_names": ["x", "y"]}
    assert described(data, 2) == {"a": 0.5, "b": [0, 1], "class_names": ["x", "y"]}
    assert described(None, 2) == {"source": "arrays"}
    assert described({"class_names": ()}, 2) == {"class_names": []}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"a": float("nan")}, "what JSON can"),
        ({"a": np.float64("inf")}, "what JSON can"),
        ({"a": object()}, "what JSON can"),
        ({1j: 1}, "what JSON can"),
        ({"class_names": ["x"]}, "1 of them"),
        ({"class_names": ["x", "y", "z"]}, "3 of them"),
        ({"class_names": "xy"}, "'xy'"),
        ({"class_names": ["x", 2]}, "needs a name"),
    ],
)
def test_what_results_could_not_be_written_with(data, says):
    with pytest.raises(UserError, match=says):
        described(data, 2)
