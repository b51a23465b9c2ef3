import json
import os
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.errors import UserError
from pnil_tf.evaluation.target import as_target
from pnil_tf.layers import PNILLayer
from pnil_tf.runs.keras_archive import compiled_loss
from pnil_tf.runs.load import load_model, read_run
from pnil_tf.training.model import AdversarialModel

X = np.random.default_rng(0).random((5, 4, 4, 1)).astype(np.float32)


def classifier(*first):
    return keras.Sequential(
        [keras.Input((4, 4, 1)), *first, keras.layers.Flatten(), keras.layers.Dense(3)]
    )


def logits(loaded):
    return as_target(loaded.model, X, outputs=loaded.outputs).predict(tf.constant(X)).numpy()


def test_run_folder_and_keras_file(tmp_path):
    model = classifier(PNILLayer(noise_at_inference=False))
    model.save(tmp_path / "classifier.keras")
    with pytest.raises(UserError, match=r"no run\.json"):
        load_model(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    for path in (tmp_path, tmp_path / "classifier.keras"):
        loaded = load_model(path)
        assert loaded.file == tmp_path / "classifier.keras"
        np.testing.assert_allclose(logits(loaded), model(X), rtol=1e-5)


def test_saved_model_of_keras_keeps_gradients(tmp_path):
    model = classifier()
    model.export(str(tmp_path / "m"), verbose=False)
    loaded = load_model(tmp_path / "m")
    np.testing.assert_allclose(logits(loaded), model(X), rtol=1e-5)
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(as_target(loaded.model, X).predict(x)[:, 0])
    expected = np.tile(model.layers[-1].kernel.numpy()[:, 0], 5).reshape(X.shape)
    np.testing.assert_allclose(tape.gradient(total, x), expected, rtol=1e-5)


def test_saved_model_with_named_outputs(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32, name="images")])
    def serve(images):
        scores = tf.reshape(images, [-1, 16])[:, :3]
        return {"logits": scores, "probabilities": tf.nn.softmax(scores)}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=serve)
    np.testing.assert_allclose(logits(load_model(tmp_path / "m")), X.reshape(5, 16)[:, :3])


def test_what_is_no_model(tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("text.keras", "not a Keras model"),
        ("notes.txt", "is not a model"),
        ("empty", "holds no model"),
        ("absent", "no model at"),
    ):
        with pytest.raises(UserError, match=said):
            load_model(tmp_path / name)


def test_torn_files(tmp_path):
    classifier().save(tmp_path / "whole.keras")
    content = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "torn.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"torn\.keras"):
        load_model(tmp_path / "torn.keras")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"torn")
    with pytest.raises(UserError, match="SavedModel"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("name", ["fingerprint.pb", "saved_model.pb", "variables/variables.index"])
def test_a_pipe_in_a_saved_model_is_not_waited_for(name, tmp_path):
    classifier().export(str(tmp_path / "m"), verbose=False)
    (tmp_path / "m" / name).unlink()
    os.mkfifo(tmp_path / "m" / name)
    with pytest.raises(UserError, match=f"{name}' is no file"):
        load_model(tmp_path / "m")


def test_code_in_a_file_does_not_run(tmp_path):
    classifier(keras.layers.Lambda(lambda x: x)).save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(tmp_path / "lambda.keras")


def test_a_runs_description(tmp_path):
    assert read_run(tmp_path) == {}
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"epsilon": 0.3}}))
    assert read_run(tmp_path)["settings"] == {"epsilon": 0.3}
    for damage in ("{", "[]"):
        (tmp_path / "run.json").write_text(damage)
        with pytest.raises(UserError, match=r"run\.json"):
            read_run(tmp_path)


def test_a_checkpoint_of_an_adversarial_model(tmp_path):
    model = AdversarialModel(classifier(), "fgsm", 0.1, weight_averaging=0.9)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kept = keras.callbacks.ModelCheckpoint(tmp_path / "kept.keras")
    model.fit(X, np.arange(5) % 3, verbose=0, callbacks=[kept])
    loaded = load_model(tmp_path / "kept.keras").model
    assert int(loaded.steps_taken.numpy()) == 1
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-5)


def test_of_a_stranger_s_layer_the_cause_is_named(tmp_path):
    """Keras begins with the whole configuration of the model."""

    class Own(keras.layers.Layer):
        pass

    keras.Sequential([keras.Input((2, 2, 1)), Own()]).save(tmp_path / "model.keras")
    with pytest.raises(UserError) as caught:
        load_model(tmp_path / "model.keras")
    cause, help_ = str(caught.value).split(" If it holds layers of your own, ")
    assert "model.keras cannot be loaded as a Keras model: Could not locate class 'Own'" in cause
    assert "config" not in cause
    assert "pnil_tf.evaluate" in help_


BCE = keras.losses.BinaryCrossentropy
UNFIT = [
    "mse",
    ["mse"],
    keras.losses.Huber(),
    keras.losses.mean_squared_error,
    "crossentropy",
    BCE(),
]


@pytest.mark.parametrize("loss", [*UNFIT, BCE(from_logits=True), keras.losses.Hinge(), abs])
def test_a_file_s_loss_says_what_its_one_output_means(loss, tmp_path):
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    network.compile("sgd", loss)
    network.save(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras").model
    x = np.zeros((2, 4, 4, 1), np.float32)
    if loss in UNFIT:
        with pytest.raises(UserError, match="does not make 0 the border"):
            as_target(loaded, x)
    else:
        assert as_target(loaded, x).outputs == "one logit"


@pytest.mark.parametrize(
    "loss",
    [
        {"class_name": "LossFunctionWrapper", "module": "keras.losses", "config": {"fn": "Dense"}},
        {"class_name": "Loss", "module": "keras.losses", "config": {}},
        {"class_name": "BinaryCrossentropy", "config": {"from_logits": "yes"}},
        ["mse", "mse"],
        7,
    ],
)
def test_what_a_file_says_of_its_loss_is_not_built(loss, tmp_path):
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    network.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for compiled in ({"loss": loss}, [loss]):
        config = {**json.loads(members["config.json"]), "compile_config": compiled}
        with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
            for name, content in {**members, "config.json": json.dumps(config)}.items():
                archive.writestr(name, content)
        found = compiled_loss(tmp_path / "changed.keras")
        assert found is None or type(found) is BCE
        load_model(tmp_path / "changed.keras")
