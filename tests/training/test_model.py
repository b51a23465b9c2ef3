"""`AdversarialModel` behaves as a Keras model, and is correct in the small."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.one_step import StepAttack, step_attack
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.training.model import AdversarialModel

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier(*extra, pnil=True, logits=True):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *([PNILLayer(bias_initializer=keras.initializers.Constant(-4.0))] if pnil else []),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            *extra,
            layers.Flatten(),
            layers.Dense(4, activation=None if logits else "softmax", dtype="float32"),
        ]
    )


def compiled(model, loss=CROSS_ENTROPY, rate=0.01, **kwargs):
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], **kwargs)
    return model


# All but these are the same step with other numbers.
QUICK = {("none", "linf"), ("nfgsm", "linf"), ("pgd-3", "l2")}


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        pytest.param(attack, norm, marks=() if (attack, norm) in QUICK else pytest.mark.slow)
        for attack in ("none", "fgsm", "r+fgsm", "rfgsm", "nfgsm", "n-fgsm", "pgd-3")
        for norm in ("linf", "l2")
    ],
)
def test_every_attack_trains(blobs, attack, norm):
    x, y = blobs
    model = compiled(AdversarialModel(classifier(), attack, 0.05, norm=norm, eot_samples=2))
    history = model.fit(x, y, batch_size=50, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert set(history) == {"loss", "accuracy"}


class Unbuilt(keras.Model):
    """A classifier that has no weights before it sees images."""

    def __init__(self):
        super().__init__()
        self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(4)

    def call(self, x):
        return self.dense(self.flat(x))


@pytest.mark.parametrize("make", [classifier, Unbuilt])
@pytest.mark.parametrize("on_batch", [False, True])
def test_a_step_is_traced_once(blobs, make, on_batch, monkeypatch):
    x, y = (part[:50] for part in blobs)
    traced = []
    step = AdversarialModel.train_step
    monkeypatch.setattr(
        AdversarialModel, "train_step", lambda self, data: traced.append(1) or step(self, data)
    )
    model = compiled(AdversarialModel(make(), "rfgsm", 0.1))
    for _ in range(2):
        if on_batch:
            model.train_on_batch(x, y)
        else:
            model.fit(x, y, batch_size=25, verbose=0)
    assert len(traced) == 1
    assert len(model.optimizer.variables) == 2 + 2 * len(model.classifier.trainable_weights)


def test_layers_that_a_callback_thaws_when_training_begins_learn(blobs):
    class Thaw(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            inner.layers[-1].trainable = True

    x, y = (part[:50] for part in blobs)
    inner = classifier(pnil=False)
    inner.layers[-1].trainable = False
    before = inner.layers[-1].get_weights()[0]
    model = compiled(AdversarialModel(inner, "fgsm", 0.1))
    model.fit(x, y, callbacks=[Thaw()], verbose=0)
    assert not np.array_equal(inner.layers[-1].get_weights()[0], before)


def test_a_shared_generator_draws_anew_for_the_pass_that_trains(blobs):
    shared, drawn = keras.random.SeedGenerator(1), []

    class Noise(keras.layers.Layer):
        def call(self, x):
            noise = keras.random.normal(keras.ops.shape(x), seed=shared)
            tf.py_function(lambda value: drawn.append(value.numpy()), [tf.reduce_sum(noise)], [])
            return x + noise

    x, y = (part[:50] for part in blobs)
    inner = keras.Sequential([keras.Input((8, 8, 1)), Noise(), *classifier(pnil=False).layers])
    model = compiled(AdversarialModel(inner, "fgsm", 0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train_on_batch(x, y)
    assert len(drawn) > 1
    assert len(set(map(float, drawn))) == len(drawn)


def test_validation_reports_clean_and_adversarial_figures(blobs):
    x, y = blobs
    model = compiled(AdversarialModel(classifier(), "nfgsm", 0.1))
    history = model.fit(
        x, y, epochs=6, batch_size=50, validation_data=(x[:100], y[:100]), verbose=0
    ).history
    assert {"val_loss", "val_accuracy", "val_adversarial_loss", "val_adversarial_accuracy"} <= set(
        history
    )
    assert history["val_adversarial_loss"][-1] > history["val_loss"][-1]
    assert history["val_accuracy"][-1] > 0.9
    # The same noise at every evaluation: checkpoints are compared on equal draws.
    first, second = (model.evaluate(x, y, verbose=0, return_dict=True) for _ in range(2))
    assert first == second


def test_validation_figures_are_those_of_an_independent_computation(blobs):
    x, y = blobs
    attack = StepAttack(0.1, 0.1)
    model = compiled(
        AdversarialModel(classifier(pnil=False), "fgsm", 0.1, validation_attack=attack)
    )
    model.fit(x, y, epochs=2, verbose=0)
    inner = model.classifier
    with tf.GradientTape() as tape:
        images = tf.Variable(x)
        loss = CROSS_ENTROPY(y, inner(images))
    x_adv = tf.clip_by_value(x + 0.1 * tf.sign(tape.gradient(loss, images)), 0.0, 1.0)
    expected = np.mean(np.argmax(inner(x_adv), -1) == y)
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    assert results["adversarial_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert results["adversarial_loss"] == pytest.approx(float(CROSS_ENTROPY(y, inner(x_adv))), 1e-4)


class Recorder(keras.layers.Layer):
    """Passes its input on and keeps it, call after call."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x):
        # Crafting runs in a graph.
        tf.py_function(lambda value: self.seen.append(value.numpy()), [x], [])
        return x


def eager_step(model, recorder, x, y):
    """One eager training step; returns what the recorder saw: crafting, then training pass."""
    compiled(model, run_eagerly=True)
    model.train_on_batch(x, y)
    return recorder.seen[-2:]


def test_crafting_and_training_draw_independent_noise(blobs):
    x, y = blobs[0][:20], blobs[1][:20]
    recorder = Recorder()
    pnil = PNILLayer()
    before = Recorder()
    inner = keras.Sequential(
        [keras.Input((8, 8, 1)), before, pnil, recorder, *classifier(pnil=False).layers]
    )
    model = AdversarialModel(inner, StepAttack(0.1, 0.1))
    after = eager_step(model, recorder, x, y)
    noise = [out - value for out, value in zip(after, before.seen[-2:], strict=True)]
    correlation = np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(noise[0].size)


def test_dropout_masks_differ_between_crafting_and_training(blobs):
    x, y = np.ones((4, 8, 8, 1), np.float32), blobs[1][:4]
    recorder = Recorder()
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Dropout(0.5),
            recorder,
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    crafting, training = eager_step(AdversarialModel(inner, StepAttack(1e-6, 1e-6)), recorder, x, y)
    assert 0.3 < np.mean((crafting > 0) != (training > 0)) < 0.7


def test_batch_statistics_move_once_per_step(blobs):
    x, y = blobs[0][:50], blobs[1][:50]
    norm = keras.layers.BatchNormalization(momentum=0.5)
    inner = keras.Sequential(
        [keras.Input((8, 8, 1)), norm, keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    # Steps this small leave the batch's mean as it is.
    model = compiled(AdversarialModel(inner, StepAttack(1e-7, 1e-7, steps=3)), rate=0.0)
    model.train_on_batch(x, y)
    assert norm.moving_mean.numpy() == pytest.approx(0.5 * x.mean(), rel=1e-4)


def test_crafting_takes_no_weight_gradients(blobs, monkeypatch):
    """The tapes of the crafting pass watch the images, the logits, and no weight."""
    x, y = tf.constant(blobs[0][:10]), tf.constant(blobs[1][:10])
    model = compiled(AdversarialModel(classifier(), "nfgsm", 0.1))
    watched = []
    original = tf.GradientTape.gradient

    def gradient(self, *args, **kwargs):
        watched.append(self.watched_variables())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(tf.GradientTape, "gradient", gradient)
    model._craft_for_training(x, y, rng.make_seed(0), model.attack)
    assert set(watched) == {()}


def test_training_images_keep_to_the_ball_and_the_range(blobs):
    x, y = blobs[0][:50], blobs[1][:50]
    for name, radius in (("rfgsm", 0.1), ("nfgsm", 0.2), ("fgsm", 0.1), ("pgd-4", 0.1)):
        model = compiled(AdversarialModel(classifier(), name, 0.1))
        x_adv, _ = model._craft_for_training(
            tf.constant(x), tf.constant(y), rng.make_seed(1), model.attack
        )
        x_adv = x_adv.numpy()
        assert x_adv.min() >= 0.0
        assert x_adv.max() <= 1.0
        assert 0.9 * radius < np.abs(x_adv - x).max() <= radius + 1e-6, name


def test_the_same_seed_gives_the_same_weights_and_another_does_not(blobs):
    x, y = blobs

    def weights(seed):
        keras.utils.set_random_seed(1)
        model = compiled(
            AdversarialModel(classifier(keras.layers.Dropout(0.3)), "rfgsm", 0.1, seed=seed)
        )
        model.fit(x, y, epochs=1, shuffle=False, verbose=0)
        return np.concatenate([w.numpy().ravel() for w in model.classifier.trainable_weights])

    first = weights(3)
    assert np.array_equal(first, weights(3))
    assert not np.array_equal(first, weights(4))


@pytest.mark.parametrize("clean_weight", [0.25, 0.5])
def test_clean_images_enter_the_loss_with_their_weight(blobs, clean_weight):
    x, y = blobs[0][:40], blobs[1][:40]
    model = compiled(
        AdversarialModel(classifier(pnil=False), StepAttack(0.2, 0.2), clean_weight=clean_weight),
        rate=0.0,
    )
    mixed = model.train_on_batch(x, y, return_dict=True)["loss"]
    inner = model.classifier
    clean = float(CROSS_ENTROPY(y, inner(x)))
    x_adv, _ = model._craft_for_training(
        tf.constant(x), tf.constant(y), rng.make_seed(0), model.attack
    )
    adversarial = float(CROSS_ENTROPY(y, inner(x_adv)))
    assert mixed == pytest.approx((1 - clean_weight) * adversarial + clean_weight * clean, 1e-4)


def test_class_and_sample_weights_count(blobs):
    x, y = blobs
    weights = np.where(y == 0, 0.0, 1.0).astype(np.float32)
    model = compiled(AdversarialModel(classifier(), "nfgsm", 0.05))
    model.fit(x, y, sample_weight=weights, epochs=4, batch_size=50, verbose=0)
    assert not np.any(np.argmax(model.predict(x, verbose=0), -1) == 0)  # class 0 was never taught
    model = compiled(AdversarialModel(classifier(), "nfgsm", 0.05))
    model.fit(
        x, y, class_weight={0: 0.0, 1: 1.0, 2: 1.0, 3: 1.0}, epochs=4, batch_size=50, verbose=0
    )
    assert not np.any(np.argmax(model.predict(x, verbose=0), -1) == 0)


@pytest.mark.parametrize(
    ("loss", "logits", "one_hot"),
    [
        ("categorical_crossentropy", False, True),
        (
            lambda y, p: keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True),
            True,
            False,
        ),
    ],
)
def test_losses_and_labels_of_every_kind(blobs, loss, logits, one_hot):
    x, y = blobs
    labels = keras.utils.to_categorical(y, 4) if one_hot else y[:, None]
    model = compiled(AdversarialModel(classifier(logits=logits), "nfgsm", 0.05), loss)
    model.fit(x, labels, epochs=10, batch_size=50, verbose=0)
    results = model.evaluate(x, labels, verbose=0, return_dict=True)
    assert results["accuracy"] > 0.8
    assert results["adversarial_accuracy"] <= results["accuracy"]


def test_two_classes_with_one_output(blobs):
    x, y = blobs[0], (blobs[1] % 2).astype(np.float32)
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            PNILLayer(bias_initializer=keras.initializers.Constant(-4.0)),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model = AdversarialModel(inner, "nfgsm", 0.02)
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")],
    )
    model.fit(x, y, epochs=10, batch_size=50, verbose=0)
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    assert results["accuracy"] > 0.9
    assert results["adversarial_accuracy"] == pytest.approx(results["accuracy"], abs=0.15)


def test_one_output_of_logits_is_judged_at_zero():
    inner = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    inner.set_weights([np.zeros((1, 1)), np.array([0.3])])  # between the two thresholds
    model = AdversarialModel(inner, "fgsm", 0.1)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    results = model.evaluate(np.ones((5, 1)), np.ones(5), verbose=0, return_dict=True)
    assert results["adversarial_accuracy"] == 1.0


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_attacks_do_not_underflow(blobs, policy):
    x, y = blobs[0][:50], blobs[1][:50]
    keras.mixed_precision.set_global_policy(policy)
    model = compiled(AdversarialModel(classifier(pnil=False), StepAttack(0.05, 0.05)))
    # A sure classifier has tiny gradients, which float16 alone rounds to 0.
    model.fit(*blobs, epochs=20, batch_size=50, verbose=0)
    x_adv, _ = model._craft_for_training(
        tf.constant(x), tf.constant(y), rng.make_seed(0), model.attack
    )
    x_adv = x_adv.numpy()
    assert np.mean(x_adv == x) < 0.05
    assert np.isfinite(x_adv).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AdversarialModel(classifier(), "nfgsm"), "needs a radius"),
        (lambda: AdversarialModel(classifier(), "nfgsm", -1.0), "epsilon must be a number above 0"),
        (
            lambda: AdversarialModel(classifier(), "nfgsm", "8/255"),
            "epsilon must be a number above 0",
        ),
        (lambda: AdversarialModel(classifier(), "mfgsm", 0.1), "No attack has this name"),
        (lambda: AdversarialModel(lambda x: x, "fgsm", 0.1), "trains a keras.Model"),
        (lambda: AdversarialModel(classifier(), "fgsm", 0.1, clean_weight=2.0), "clean_weight"),
        (lambda: AdversarialModel(classifier(), "fgsm", 0.1, eot_samples=0), "draws >= 1"),
        (lambda: compiled(AdversarialModel(classifier(), "fgsm", 0.1), None), "needs a loss"),
        (
            lambda: compiled(
                AdversarialModel(classifier(), "fgsm", 0.1), "sparse_categorical_crossentropy"
            ),
            "expects probabilities",
        ),
        (
            lambda: compiled(AdversarialModel(classifier(logits=False), "fgsm", 0.1)),
            "expects logits",
        ),
        (
            lambda: compiled(AdversarialModel(classifier(), "fgsm", 0.1), {"a": "mse", "b": "mse"}),
            "one output",
        ),
    ],
)
def test_what_cannot_work_is_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_pixels_outside_the_range_are_refused(blobs):
    x, y = blobs
    model = compiled(AdversarialModel(classifier(), "nfgsm", 0.1))
    for bad in (255.0 * x, x - 0.5, np.where(x > 0.8, np.nan, x)):
        words = "finite numbers" if np.isnan(bad).any() else "pixels must lie"
        for call in (model.fit, model.evaluate):
            with pytest.raises(UserError, match=words):
                call(bad, y, verbose=0)
            with pytest.raises(UserError, match=words):
                call(tf.constant(bad, tf.float32), y, verbose=0)
    with pytest.raises(UserError, match="pixels must lie"):
        model.fit(x, y, validation_data=(255.0 * x, y), verbose=0)


@pytest.mark.parametrize(
    ("loss", "change", "words"),
    [
        (CROSS_ENTROPY, lambda y: y + 1, "between 0 and 3"),
        (CROSS_ENTROPY, lambda y: y - 1, "between 0 and 3"),
        (CROSS_ENTROPY, lambda y: np.eye(4)[y], "takes integer labels"),
        (keras.losses.CategoricalCrossentropy(from_logits=True), lambda y: y, "takes one-hot"),
    ],
)
def test_labels_of_the_wrong_kind_are_refused(blobs, loss, change, words):
    x, y = blobs
    model = compiled(AdversarialModel(classifier(), "nfgsm", 0.1), loss)
    with pytest.raises(UserError, match=words):
        model.fit(x, change(y), verbose=0)


def test_an_overflow_of_the_loss_scale_does_not_repeat_a_step(blobs):
    x, y = blobs
    model = AdversarialModel(classifier(), "nfgsm", 0.1)
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=3e38)
    model.compile(scaling, CROSS_ENTROPY)
    # The gradients overflow, so the optimizer leaves these steps out and does not count them.
    model.fit(x[:80], y[:80], sample_weight=np.full(80, 1e4), batch_size=20, verbose=0)
    assert int(scaling.inner_optimizer.iterations) == 0
    assert int(model.steps_taken) == 4


def test_the_config_rebuilds_the_model(blobs, tmp_path):
    x, y = blobs
    attack = step_attack("pgd-2", 0.1, eot=EOT(2, antithetic=True))
    model = compiled(AdversarialModel(classifier(), attack, clean_weight=0.5, seed=9))
    model.fit(x, y, epochs=1, verbose=0)
    copy = AdversarialModel.from_config(model.get_config())
    assert copy.attack == attack
    assert copy.validation_attack == model.validation_attack
    assert (copy.clean_weight, copy.seed) == (0.5, 9)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    with rng.noise_scope(1):
        expected = model.classifier(x[:5])
    with rng.noise_scope(1):
        assert np.allclose(loaded.classifier(x[:5]), expected)
    assert loaded.attack == attack
    assert int(loaded.steps_taken) == int(model.steps_taken) > 0
    loaded.fit(x, y, epochs=1, verbose=0)
    model.fit(x, y, epochs=1, verbose=0)
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-4)


def test_callbacks_can_watch_the_adversarial_figures(blobs, tmp_path):
    x, y = blobs[0][:50], blobs[1][:50]
    model = AdversarialModel(classifier(), "nfgsm", 0.1, validation_attack="fgsm")
    compiled(model, run_eagerly=True)
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_adversarial_loss", mode="min", save_best_only=True
        ),
        keras.callbacks.EarlyStopping(monitor="val_adversarial_accuracy", mode="max"),
    ]
    model.fit(x, y, validation_data=(x, y), epochs=1, verbose=0, callbacks=callbacks)
    assert (tmp_path / "best.keras").exists()
    assert 0 < callbacks[0].best < np.inf  # Keras saves a model without the figure, too


def test_datasets_and_steps_per_execution(blobs):
    x, y = blobs
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(40)
    keras.utils.set_random_seed(0)
    single = compiled(AdversarialModel(classifier(), "nfgsm", 0.1))
    single.fit(dataset, epochs=1, verbose=0)
    keras.utils.set_random_seed(0)
    several = compiled(AdversarialModel(classifier(), "nfgsm", 0.1), steps_per_execution=5)
    several.fit(dataset, epochs=1, verbose=0)
    for a, b in zip(single.classifier.weights, several.classifier.weights, strict=True):
        assert np.allclose(a, b, atol=1e-6)
