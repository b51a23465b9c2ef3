"""The command `certify`, from the command line to its files."""

import json
import shutil

import keras
import numpy as np
import pytest
from command import run

import pnil_tf
from pnil_tf.arrays import write_arrays
from pnil_tf.certificate.withdrawn import RefutedError
from pnil_tf.errors import UserError
from pnil_tf.evaluation.beside import put_beside
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.files import sha256_of, write_record
from pnil_tf.layers import PNILLayer
from pnil_tf.runs.certify import certify_saved
from pnil_tf.runs.evaluate import evaluate_saved, proved_of

SHAPE = (4, 4, 1)


def saved(folder, *in_front):
    """A run's folder with bright and dark images, as training leaves it."""
    layers = [PNILLayer(use_kernel=False), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input(SHAPE), *in_front, *layers])
    model.layers[-1].set_weights([np.stack([-np.ones(16), np.ones(16)], 1), np.array([8.0, -8.0])])
    folder.mkdir()
    model.save(folder / "classifier.keras")
    labels = np.arange(40) % 2
    images = np.where(labels[:, None, None, None] == 1, 170, 80) * np.ones((40, *SHAPE))
    np.savez(folder / "images.npz", x=images.astype(np.uint8), y=labels)
    settings = {"data": {"dataset": f"npz:{folder / 'images.npz'}"}, "attack": {"epsilon": 0.05}}
    (folder / "run.json").write_text(json.dumps({"settings": settings}))
    return folder


def test_a_run_is_certified_and_what_cannot_be_is_refused(tmp_path):
    folder = saved(tmp_path / "run")
    status, out, err = run("certify.py", f"--model={folder}", "--draws=200", "--images=3")
    assert status == 0, err
    assert "0.05 of the range" in out
    assert "Proved: within epsilon" in out
    assert f"The report is in {folder}/certificate/certificate.html" in err
    record = json.loads((folder / "certificate" / "certificate.json").read_text())
    assert record["settings"]["draws"] == 200
    assert record["certified"]["epsilon"] == 0.05
    assert record["certified"]["value"] == 1.0
    assert not (folder / "certificate" / "pieces").exists()

    other = saved(tmp_path / "other", keras.layers.ReLU())
    status, out, err = run("certify.py", f"--model={other}", "--draws=200")
    assert (status, out) == (2, "")
    assert "Nothing can be proved of this model" in err
    assert "ReLU" in err
    assert not (other / "certificate").exists()


FEW = {"images": 3}
ATTACKS = {**FEW, "attacks": ("pgd",), "steps": 2, "eot_samples": 2, "checks": False}


def test_whichever_comes_later_shows_both_sides_and_a_contradiction_stops_it(tmp_path, caplog):
    folder = saved(tmp_path / "run")
    certificate, evaluation = folder / "certificate", folder / "evaluation"
    evaluate_saved(str(folder), options=ATTACKS)
    assert "Both sides" not in (evaluation / "report.html").read_text()
    found = certify_saved(str(folder), options={**FEW, "draws": 200})
    for again in (True, False):
        loaded = pnil_tf.Evaluation.load(evaluation)
        sides = loaded.to_dict()["both_sides"]
        assert sides["majority"] == found.to_dict()["both_sides"][0]["majority"]
        assert sides["certificate"] == str(certificate)
        assert "proved, single draws" in str(loaded)
        page = (evaluation / "report.html").read_text()
        assert page.count("Both sides") == 1
        assert "proved, at least" in page
        if again:
            evaluate_saved(str(folder), options=ATTACKS, overwrite=True)

    # Another radius is another comparison, whichever of the two commands comes later.
    other = tmp_path / "at 0.02"
    evaluate_saved(str(folder), options=ATTACKS, epsilon=0.02, output=str(other))
    assert pnil_tf.Evaluation.load(other).to_dict()["both_sides"]["epsilon"] == 0.02
    asked = {"options": {**FEW, "draws": 200}, "resume": True}
    places = [str(other), str(evaluation)]
    several = certify_saved(str(folder), evaluation=places, **asked)
    assert [one["evaluation"] for one in several.to_dict()["both_sides"]] == places
    assert str(several).count("majority of draws") == 2
    certify_saved(str(folder), evaluation=places[1:], **asked)

    # Figures of an evaluation that was done anew since are no part of the new one's report.
    (sides,) = found.to_dict()["both_sides"]
    done_since = (evaluation / "results.json").read_bytes()
    with pytest.raises(UserError, match="was done anew since"):
        put_beside(evaluation, sides, "0" * 64)
    with pytest.raises(UserError, match=r"There is no evaluation at .*nowhere"):
        certify_saved(str(folder), options=FEW, evaluation=[str(tmp_path / "nowhere")], resume=True)
    with pytest.raises(UserError, match="the norm is linf there and l2 here"):
        certify_saved(
            str(folder), options=FEW, epsilon=0.06, norm="l2", output=str(tmp_path / "wider"),
            evaluation=[str(evaluation)],
        )  # fmt: skip
    assert not (tmp_path / "wider").exists()
    assert (evaluation / "results.json").read_bytes() == done_since

    arrays = dict(np.load(certificate / "certificate.npz"))
    write_arrays(certificate / "certificate.npz", {**arrays, "single_draw": np.full(3, 1.5)})
    mark = {"file": "certificate.npz", "sha256": sha256_of(certificate / "certificate.npz")}
    # An evaluation of an earlier version names the folder alone; another one lies elsewhere.
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    shutil.copytree(evaluation, elsewhere)
    named = {**sides, "evaluation": str(elsewhere)}
    record = {**found.to_dict(), "arrays": mark, "both_sides": [named]}
    write_record(certificate / "certificate.json", record)
    before = pnil_tf.Evaluation.load(evaluation).to_dict()
    now, spelled = before["arrays"]["sha256"], f"{folder}/../run/certificate"
    assert put_beside(evaluation, {**sides, "certificate": spelled}, now)
    assert put_beside(elsewhere, {**named, "certificate_arrays": mark["sha256"]}, now)
    shutil.copytree(elsewhere, here)
    with pytest.raises(RefutedError, match=r"on 3 of 3 images .*: 0, 1, 2\. Neither"):
        evaluate_saved(str(folder), options=ATTACKS, output=str(here), overwrite=True)
    # An evaluation that was not replaced keeps its own figures alone.
    for place in (here, evaluation, elsewhere):
        kept = pnil_tf.Evaluation.load(place).to_dict()
        assert kept == {key: value for key, value in before.items() if key != "both_sides"}
        assert "Both sides" not in (place / "report.html").read_text()
    settings = EvaluationSettings(epsilon=0.05)
    assert proved_of(str(folder), settings) is None
    assert "was withdrawn. An error of ours" in caplog.text
    certify_saved(str(folder), options={**FEW, "draws": 200}, overwrite=True)
    with (certificate / "certificate.npz").open("ab") as file:
        file.write(b"damage")
    assert proved_of(str(folder), settings) is None
    assert "was damaged since it was written" in caplog.text
