"""The average of the weights is what its docstring states, and is what counts."""

import keras
import numpy as np
import pytest

from pnil_tf.errors import UserError
from pnil_tf.evaluation.target import as_target
from pnil_tf.training.guard import OverfittingGuard
from pnil_tf.training.keep import KeepClassifier
from pnil_tf.training.model import AdversarialModel

DECAY = 0.8


def trained(x, y, epochs=2, callbacks=()):
    """A model after some steps, and the classifier's weights after each."""
    layers = keras.layers
    classifier = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, strides=2),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    model = AdversarialModel(classifier, "fgsm", 0.05, weight_averaging=DECAY)
    model.compile(
        keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(classifier.get_weights())
    )
    validation = (x[:40], y[:40])
    model.fit(
        x[:200],
        y[:200],
        batch_size=40,
        epochs=epochs,
        validation_data=validation,
        verbose=0,
        callbacks=[watch, *callbacks],
    )
    return model, seen


@pytest.fixture(scope="module")
def run(blobs):
    return trained(*blobs)


def assert_equal(weights, expected, **tolerance):
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def test_the_average_is_the_weighted_mean_of_the_weights_after_each_step(run):
    model, seen = run
    shares = DECAY ** np.arange(len(seen) - 1, -1, -1)
    shares /= shares.sum()
    expected = [np.tensordot(shares, np.stack(values), 1) for values in zip(*seen, strict=True)]
    assert_equal(model.averaged_classifier().get_weights(), expected, rtol=1e-4, atol=1e-5)
    # Batch statistics among them; and the optimizer's weights are where they were.
    names = {weight.path.split("/")[-1] for weight in model.classifier.weights}
    assert {"kernel", "moving_mean", "moving_variance"} <= names
    assert_equal(model.classifier.get_weights(), seen[-1], rtol=0)


def test_the_averaged_classifier_is_the_one_that_is_judged(run, blobs):
    x, y = blobs
    model, seen = run
    averaged = model.averaged_classifier()
    logits = averaged.predict(x, verbose=0)
    assert np.allclose(model.predict(x, verbose=0), logits, atol=1e-5)
    assert np.allclose(model.predict_on_batch(x), logits, atol=1e-5)
    assert not np.allclose(model.classifier.predict(x, verbose=0), logits, atol=1e-2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits)
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert np.isclose(evaluated, loss, rtol=1e-4)
    # An evaluation or an export of the whole model takes it, too.
    assert np.allclose(as_target(model, x[:4]).predict(x[:4]), logits[:4], atol=1e-5)
    assert_equal(model.classifier.get_weights(), seen[-1], rtol=0)


def test_what_is_validated_and_kept_is_the_average(blobs, tmp_path):
    x, y = blobs
    logged = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: logged.append(logs))
    keep = KeepClassifier(tmp_path / "kept.keras", "best", "val_adversarial_loss")
    model, _ = trained(x, y, epochs=1, callbacks=[watch, keep])
    kept = keras.saving.load_model(tmp_path / "kept.keras")
    assert_equal(kept.get_weights(), [w.numpy() for w in model.average.averages], rtol=0)
    again = model.evaluate(x[:40], y[:40], verbose=0, return_dict=True)
    assert np.isclose(logged[0]["val_adversarial_loss"], again["adversarial_loss"], rtol=1e-5)


def test_a_saved_model_keeps_its_average(run, tmp_path):
    model, _ = run
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.average.decay == DECAY
    for part in ("classifier", "average"):
        assert_equal(
            getattr(loaded, part).get_weights(), getattr(model, part).get_weights(), rtol=0
        )


def test_a_rollback_takes_the_average_back(run, blobs):
    x, y = blobs
    model, _ = run
    guard = OverfittingGuard(x[:40], y[:40], "rollback")
    guard.set_model(model)
    guard._keep()
    before = model.average.get_weights()
    model.fit(x[:200], y[:200], batch_size=40, epochs=1, verbose=0)
    assert not np.array_equal(model.average.get_weights()[0], before[0])
    guard._restore()
    assert_equal(model.average.get_weights(), before, rtol=0)


def test_before_the_first_step_there_is_no_average(blobs):
    x, _ = blobs
    classifier = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    model = AdversarialModel(classifier, "fgsm", 0.05, weight_averaging=DECAY)
    assert np.allclose(model.predict(x, verbose=0), classifier.predict(x, verbose=0))


def test_a_classifier_without_weights_is_refused():
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    with pytest.raises(UserError, match="not built"):
        AdversarialModel(unbuilt, "fgsm", 0.05, weight_averaging=DECAY)
