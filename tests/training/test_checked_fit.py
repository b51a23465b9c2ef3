"""`fit` and `evaluate` refuse what would give wrong figures, whatever holds the data."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.one_step import StepAttack, craft, step_attack
from pnil_tf.errors import UserError
from pnil_tf.training.losses import example_loss
from pnil_tf.training.model import AdversarialModel

D, L = keras.layers, keras.losses
CROSS_ENTROPY = L.SparseCategoricalCrossentropy(from_logits=True)
ATTACK = StepAttack(0.1, 0.1)


def sequential(*layers, dtype="float32"):
    return keras.Sequential([keras.Input((8, 8, 1), dtype=dtype), *layers])


def linear(*first, count=4, activation=None):
    return sequential(*first, D.Flatten(), D.Dense(count, activation=activation))


def compiled(classifier, loss=CROSS_ENTROPY, attack=ATTACK, **kwargs):
    jit = kwargs.pop("jit_compile", "auto")
    eager = kwargs.pop("run_eagerly", False)
    model = AdversarialModel(classifier, attack, validation_attack=attack, **kwargs)
    model.compile("sgd", loss, jit_compile=jit, run_eagerly=eager)
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 20

    def __getitem__(self, i):
        return self.x[20 * i : 20 * i + 20], self.y[20 * i : 20 * i + 20]


CONTAINERS = {
    "tf.data": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(20),
    "PyDataset": Batches,
    "generator": lambda x, y: (Batches(x, y)[i] for i in range(2)),
}


@pytest.mark.parametrize(
    "kind",
    [
        "DataLoader",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("MapDataset", "IterDataset")),
    ],
)
def test_a_loader_of_grain_trains(blobs, kind):
    import grain  # slow, and of an extra

    x, y = blobs[0][:40], blobs[1][:40]
    source = list(zip(255 * x / x.max(), y, strict=True))
    batched = grain.MapDataset.source(source).shuffle(seed=0).batch(20)
    loaders = {"MapDataset": batched, "IterDataset": batched.to_iter_dataset()}
    loaders["DataLoader"] = grain.DataLoader(
        data_source=source,
        sampler=grain.samplers.IndexSampler(40, shuffle=True, seed=0, num_epochs=1),
        operations=[grain.transforms.Batch(20)],
    )
    model = compiled(linear(), pixel_range=(0, 255))
    model.fit(loaders[kind], verbose=0)
    assert int(model.steps_taken.numpy()) == 2
    with pytest.raises(UserError, match=r"look like \[0, 255\]: pass pixel_range=\(0, 255\)"):
        compiled(linear(), pixel_range=(0, 1)).fit(loaders[kind], verbose=0)
    model.compile("sgd", CROSS_ENTROPY, metrics=[lambda *_: tf.gather(tf.constant(1.0), 0)])
    with pytest.raises(ValueError, match="rank 1") as error:  # another error of a like name
        model.fit(loaders[kind], verbose=0)
    assert not isinstance(error.value, UserError)
    for use in (model.fit, model.evaluate):
        with pytest.raises(
            UserError, match=r"image by image\. Received: a loader of single images"
        ):
            use(grain.MapDataset.source(source), verbose=0)


def test_data_of_unknown_size_take_the_steps_and_the_noise_of_known(blobs):
    x, y = blobs[0][:40] / blobs[0].max(), blobs[1][:40]

    def unknown():
        stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(20)
        return stream.filter(lambda *_: True)

    learned = []
    for data in (CONTAINERS["tf.data"](x, y), unknown()):
        keras.utils.set_random_seed(0)
        model = compiled(linear(), attack="nfgsm", epsilon=0.1, pixel_range=(0, 1))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Your input ran out of data")
            model.fit(data, epochs=3, verbose=0)
        assert int(model.steps_taken.numpy()) == int(model.optimizer.iterations) == 6
        learned.append(model.get_weights())
    for known, other in zip(*learned, strict=True):
        np.testing.assert_allclose(other, known, atol=1e-6)


@pytest.fixture(scope="module")
def of_shares():
    """A compiled model of pixels in [0, 1]."""
    return compiled(linear(), pixel_range=(0, 1))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("what", ["fit", "evaluate"])
def test_pixels_of_another_range_are_refused_in_every_container(of_shares, blobs, container, what):
    x, y = blobs[0][:40], blobs[1][:40]
    with pytest.raises(UserError, match=r"look like \[0, 255\]: pass pixel_range=\(0, 255\)"):
        getattr(of_shares, what)(CONTAINERS[container](255 * x / x.max(), y), verbose=0)


@pytest.mark.parametrize("settings", [{"jit_compile": True}, {"run_eagerly": True}])
def test_pixels_are_checked_under_xla_and_eagerly(blobs, settings):
    x, y = blobs[0][:40], blobs[1][:40]
    model = compiled(linear(D.Rescaling(1 / 255)), **settings)
    assert str(model.pixel_range) == "[0, 255]"
    with pytest.raises(UserError, match=r"look like \[0, 1\]"):
        model.evaluate(CONTAINERS["tf.data"](x / x.max(), y), verbose=0)


def test_a_later_batch_is_checked_before_a_figure_is_given(blobs):
    x, y = blobs[0][:200].copy(), blobs[1][:200]
    x[-1] = 200.0
    with pytest.raises(UserError, match="pixels must lie"):
        compiled(linear()).evaluate(CONTAINERS["tf.data"](x, y), verbose=0)


@pytest.mark.parametrize("what", ["train_on_batch", "test_on_batch"])
def test_every_single_batch_is_checked(blobs, what):
    x, y = blobs[0][:20], blobs[1][:20]
    model = compiled(linear(), pixel_range=(0, 1))
    for _ in range(2):  # the batches before a third are looked at in any case
        getattr(model, what)(x, y)
    with pytest.raises(UserError, match="pixels must lie"):
        getattr(model, what)(255 * x, y)


def test_zeros_and_ones_are_bytes_only_where_they_come_as_whole_numbers():
    x = np.random.default_rng(0).integers(0, 2, (40, 8, 8, 1))
    y = np.zeros(40, int)
    model = compiled(linear(D.Rescaling(1 / 255)))
    model.evaluate(x, y, verbose=0)
    with pytest.raises(UserError, match=r"look like \[0, 1\]"):
        model.evaluate(x.astype(np.float32), y, verbose=0)
    with pytest.warns(UserWarning, match="All pixels so far are 0 or 1"):
        model.evaluate(CONTAINERS["tf.data"](x.astype(np.float32), y), verbose=0)


def test_pixels_above_zero_for_a_signed_range_are_warned_of(blobs):
    x, y = blobs[0][:40], blobs[1][:40]
    with pytest.warns(UserWarning, match="above 0"):
        compiled(linear(), pixel_range=(-1, 1), run_eagerly=True).evaluate(
            x / x.max(), y, verbose=0
        )


def test_pixels_of_half_the_range_of_bytes_are_warned_of(blobs):
    x, y = blobs[0][:40], blobs[1][:40]
    model = compiled(linear(D.Rescaling(1 / 255)))
    with pytest.warns(UserWarning, match=r"lie in \[0, 100\].*pass pixel_range=\(0, 100\)"):
        model.evaluate(100 * x / x.max(), y, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.evaluate(255 * x / x.max(), y, verbose=0)


WAYS = [None, {}, {"jit_compile": True}, {"run_eagerly": True}]


@pytest.mark.parametrize(
    ("container", "compile_options"),
    [
        pytest.param(
            container, way, marks=() if container == "array" or way is None else pytest.mark.slow
        )
        for container in ("array", *CONTAINERS)
        for way in WAYS
    ],
)
def test_predict_refuses_pixels_of_another_range(blobs, container, compile_options):
    x, y = blobs[0][:40], blobs[1][:40]
    model = AdversarialModel(linear(), ATTACK, pixel_range=(0, 1))
    if compile_options is not None:
        model.compile("sgd", CROSS_ENTROPY, **compile_options)
    data = CONTAINERS.get(container, lambda x, y: x)
    good = x / x.max()
    logits = model.predict(data(good, y), verbose=0)
    np.testing.assert_allclose(logits, model.classifier(good), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"look like \[0, 255\]"):
        model.predict(data(255 * good, y), verbose=0)
    if container == "array":
        with pytest.raises(UserError, match=r"look like \[0, 255\]"):
            model.predict_on_batch(255 * good)


def test_pixels_up_to_one_for_a_wider_range_are_warned_of(blobs):
    x, y = blobs[0][:40], blobs[1][:40]
    with pytest.warns(UserWarning, match=r"lie in \[0, 1\], but the classifier takes \[0, 10\]"):
        compiled(linear(), pixel_range=(0, 10), run_eagerly=True).evaluate(
            x / x.max(), y, verbose=0
        )


@pytest.mark.parametrize("what", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_lists_and_dictionaries_are_no_arrays(blobs, what):
    x, y = blobs[0][:20], blobs[1][:20]
    call = getattr(compiled(linear()), what)
    for labels in ([*y], {"label": y}):
        with pytest.raises(UserError, match=f"labels come as one array.*a {type(labels).__name__}"):
            call(x, labels)
    with pytest.raises(UserError, match=r"images come as one array.*a list of 20"):
        call([*x], y)


class CrossEntropy(L.Loss):
    def call(self, y_true, y_pred):
        return -(y_true * tf.math.log(y_pred) + (1 - y_true) * tf.math.log(1 - y_pred))


def test_labels_of_one_axis_mean_the_same_to_a_stranger_s_loss(blobs):
    x, y = blobs[0][:40], (blobs[1][:40] % 2).astype(np.float32)
    classifier = linear(count=1, activation="sigmoid")
    classifier.layers[-1].kernel.assign(np.random.default_rng(0).normal(size=(64, 1)) / 8)

    def figures(loss, labels):
        return compiled(classifier, loss).evaluate(x, labels, verbose=0, return_dict=True)

    with pytest.warns(UserWarning, match="Nothing says"):
        found = [figures(CrossEntropy(), labels) for labels in (y, y[:, np.newaxis])]
    expected = figures(L.BinaryCrossentropy(), y)
    for name, value in expected.items():
        assert found[0][name] == pytest.approx(value, abs=1e-3)
        assert found[1][name] == pytest.approx(value, abs=1e-3)


def test_attack_and_judge_draw_other_noise_where_keras_is_given_no_seed(blobs):
    class Shaken(D.Layer):
        def call(self, x):
            noise = keras.random.normal((tf.shape(x)[0], 8, 8, 1))
            tf.py_function(lambda value: seen.append(value.numpy()), [noise], [])
            return x + noise

    seen = []
    model = compiled(linear(D.Dropout(0.3), Shaken()), attack=StepAttack(0.1, 0.1))
    model.test_on_batch(blobs[0][:4], blobs[1][:4])
    model.test_on_batch(blobs[0][:4], blobs[1][:4])
    draws = {noise.tobytes() for noise in seen[-6:]}  # clean, attack and judge, twice
    assert len(draws) >= 5  # the attack's follows from the seed, and repeats


def test_a_layer_without_a_gradient_in_training_is_refused(blobs):
    with pytest.raises(UserError, match="answers in training have no gradient"):
        compiled(linear(D.RandomPosterization(4, value_range=(0, 1)))).fit(*blobs, verbose=0)


def test_a_radius_in_l2_beyond_black_and_white_is_refused(blobs):
    attack = StepAttack(8.1, 8.1, norm="l2")
    with pytest.raises(UserError, match=r"black and white are 8 apart. Received: 8.1"):
        compiled(linear(), attack=attack)
    compiled(linear(), attack=StepAttack(7.9, 7.9, norm="l2"))


@pytest.mark.parametrize("what", ["fit", "evaluate"])
def test_batches_with_several_labels_are_refused(blobs, what):
    x, y = blobs[0][:20], blobs[1][:20]
    data = tf.data.Dataset.from_tensor_slices((x, {"label": y})).batch(10)
    with pytest.raises(UserError, match=r"labels come as one tensor.*\(x, y\['label'\]\)"):
        getattr(compiled(linear()), what)(data, verbose=0)


def test_a_classifier_with_two_inputs_is_refused_when_it_is_compiled():
    images, facts = keras.Input((8, 8, 1)), keras.Input((3,))
    outputs = D.Dense(4)(D.Concatenate()([D.Flatten()(images), facts]))
    with pytest.raises(UserError, match=r"has one input.*with 2"):
        compiled(keras.Model([images, facts], outputs))


@pytest.mark.parametrize("epsilon", [8, 1.5])
def test_a_radius_in_pixels_is_refused(epsilon):
    with pytest.raises(UserError, match="a share of the pixel range"):
        AdversarialModel(linear(), "fgsm", epsilon)
    with pytest.raises(UserError, match=r"\[0, 255\], at most 1.*write epsilon="):
        AdversarialModel(linear(D.Rescaling(1 / 255)), "fgsm", epsilon)
    with pytest.raises(UserError, match="a share of the pixel range"):
        AdversarialModel(linear(), StepAttack(epsilon, 1.0), pixel_range=(0, 255))


def test_an_attack_in_pixels_is_refused():
    with pytest.raises(UserError, match="works on pixels from 0 to 1"):
        AdversarialModel(linear(), StepAttack(8.0, 8.0, clip_max=255.0), pixel_range=(0, 255))


MULTI_HOT = np.eye(4)[np.arange(40) % 4] + np.eye(4)[(np.arange(40) + 1) % 4]


@pytest.mark.parametrize(
    ("make", "loss", "labels", "words"),
    [
        (lambda: linear(), CROSS_ENTROPY, np.full(40, 4), "between 0 and 3"),
        (lambda: linear(), CROSS_ENTROPY, np.full(40, -1), "between 0 and 3"),
        (lambda: linear(activation="sigmoid"), "binary_crossentropy", MULTI_HOT, "name one each"),
        (
            lambda: linear(count=1, activation="sigmoid"),
            "binary_crossentropy",
            np.resize([-1, 1], 40),
            "0 and 1",
        ),
        (lambda: linear(), CROSS_ENTROPY, np.resize(["cat", "dog"], 40), "Labels are numbers"),
        (lambda: linear(), L.CategoricalHinge(), np.zeros(40, int), "takes one-hot"),
    ],
)
@pytest.mark.parametrize("container", ["arrays", "tf.data"])
def test_labels_that_name_no_class_are_refused(blobs, make, loss, labels, words, container):
    model = compiled(make(), loss)
    x = blobs[0][:40]
    data = (x, labels) if container == "arrays" else (CONTAINERS["tf.data"](x, labels),)
    with pytest.raises(UserError, match=words):
        model.evaluate(*data, verbose=0)


@pytest.mark.parametrize("loss", ["hinge", L.SquaredHinge()])
def test_the_labels_of_hinge_losses_are_understood(blobs, loss):
    x = blobs[0][:100]
    truth = (blobs[1][:100] % 2).astype(np.float32)
    model = compiled(linear(count=1), loss)
    figures = [
        model.evaluate(x, labels, verbose=0, return_dict=True)["adversarial_accuracy"]
        for labels in (truth, 2 * truth - 1, (2 * truth - 1)[:, None])
    ]
    assert figures[0] == figures[1] == figures[2]
    assert 0 < figures[0] < 1


@pytest.mark.parametrize(
    ("make", "loss", "words"),
    [
        (
            lambda: sequential(D.Flatten(), D.Dense(4, activation="softmax"), D.Identity()),
            CROSS_ENTROPY,
            "expects logits",
        ),
        (lambda: linear(), "sparse_categorical_crossentropy", "from_logits=True"),
        (lambda: linear(), "kl_divergence", "expects probabilities"),
        (lambda: linear(count=1), "mse", "from where on"),
        (lambda: linear(count=1, activation="sigmoid"), "categorical_crossentropy", "one output"),
        (lambda: linear(activation="softmax"), L.BinaryCrossentropy(), "each output by itself"),
        (lambda: linear(), L.Dice(), "not a loss for a classifier"),
        (
            lambda: linear(),
            L.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
            "ignore_class",
        ),
        (lambda: linear(), "crossentropi", "knows no such loss"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused_when_compiling(make, loss, words):
    with pytest.raises(UserError, match=words):
        compiled(make(), loss)


@keras.saving.register_keras_serializable("tests")
class ProbabilitiesAtInference(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.head = keras.layers.Flatten(), keras.layers.Dense(4)

    def call(self, images, training=False):
        logits = self.head(self.flatten(images))
        return logits if training else keras.ops.softmax(logits)


@pytest.mark.parametrize("from_logits", [True, False])
def test_another_activation_in_training_than_at_inference_is_refused(blobs, from_logits):
    x, y = blobs
    classifier = ProbabilitiesAtInference()
    classifier(x[:2])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    with pytest.raises(UserError, match="ends in softmax at inference, and in no activation in"):
        compiled(classifier, loss).fit(x, y, verbose=0)


def test_data_of_unknown_rank_is_understood(blobs):
    x, y = blobs[0][:40], blobs[1][:40]

    def batches():
        yield from Batches(x, y)

    unknown = tf.data.Dataset.from_generator(batches, output_types=(tf.float32, tf.int32))
    model = compiled(linear())
    expected = model.evaluate(CONTAINERS["tf.data"](x, y), verbose=0)
    assert compiled(model.classifier).evaluate(unknown, verbose=0) == pytest.approx(expected)


def test_a_linear_layer_behind_a_softmax_is_accepted(blobs):
    classifier = sequential(
        D.Flatten(), D.Dense(4, activation="softmax"), D.Activation("linear", dtype="float32")
    )
    model = compiled(classifier, L.SparseCategoricalCrossentropy())
    model.fit(blobs[0][:40], blobs[1][:40], verbose=0)


@keras.saving.register_keras_serializable(package=__name__)
class NumPyNoise(D.Layer):
    def call(self, x):
        return x + np.random.default_rng().normal(size=x.shape[1:]).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: linear(D.Lambda(lambda x: tf.round(255 * x) / 255)), "no gradient"),
        (lambda: sequential(D.Rescaling(1 / 255), D.Flatten(), D.Dense(4), dtype="uint8"), "no gr"),
        (lambda: linear(NumPyNoise()), "repeats it every time"),
        (lambda: linear(D.Lambda(lambda x: x - tf.reduce_mean(x, 0))), "depends on the other"),
        (lambda: linear(D.UnitNormalization(axis=0)), "depends on the other"),
    ],
    ids=["rounding", "uint8", "frozen noise", "mixed images", "mixed by Keras"],
)
@pytest.mark.parametrize("what", ["fit", "evaluate"])
def test_a_classifier_whose_figures_would_mean_nothing_is_refused(blobs, make, words, what):
    x, y = blobs[0][:40], blobs[1][:40]
    model = compiled(make(), pixel_range=(0, 2))
    with pytest.raises(UserError, match=words):
        getattr(model, what)(CONTAINERS["tf.data"](x, y), verbose=0)


def test_crafting_and_training_see_the_same_random_transforms(blobs):
    seen = []

    @keras.saving.register_keras_serializable(package=__name__)
    class Recorder(D.Layer):
        def call(self, x):
            # Crafting runs in a graph.
            tf.py_function(lambda value: seen.append(value.numpy()), [x], [])
            return x

    model = compiled(
        linear(D.RandomFlip(), D.RandomTranslation(0.3, 0.3), Recorder(), D.Dropout(0.5)),
        attack=StepAttack(1e-6, 1e-6, steps=2),
        run_eagerly=True,
    )
    model.train_on_batch(blobs[0][:20], blobs[1][:20])
    first, second, training = seen[-3:]
    np.testing.assert_allclose(first, training, atol=1e-4)
    np.testing.assert_allclose(second, training, atol=1e-4)
    assert np.abs(training - blobs[0][:20]).max() > 0.1


@pytest.mark.parametrize("loss", [L.SparseCategoricalCrossentropy(), L.BinaryCrossentropy()])
def test_craft_moves_the_images_of_a_plain_keras_model(blobs, loss):
    x, y = 0.2 + blobs[0][:40] / 2, blobs[1][:40]
    sparse = isinstance(loss, L.SparseCategoricalCrossentropy)
    model = linear(count=4 if sparse else 1, activation="softmax" if sparse else "sigmoid")
    y = y if sparse else y % 2
    moved = craft(
        model,
        example_loss(loss),
        tf.constant(x),
        tf.constant(y),
        rng.make_seed(0),
        step_attack("fgsm", 0.1),
    )
    assert np.mean(np.abs(np.abs(moved - x) - 0.1) < 1e-6) > 0.9


@pytest.mark.parametrize(
    "loss",
    [
        "binary_crossentropy",
        lambda y, p: keras.losses.binary_crossentropy(y, p),
        lambda y, p: keras.ops.mean((y - p) ** 2, axis=-1),
    ],
)
def test_labels_and_outputs_of_one_column_are_brought_to_one_rank(loss):
    labels, outputs = np.array([0, 1, 1]), np.array([[0.2], [0.7], [0.4]], np.float32)
    flat = example_loss(loss)(tf.constant(labels), tf.constant(outputs))
    assert flat.shape == (3,)
    column = example_loss(loss)(tf.constant(labels[:, None]), tf.constant(outputs))
    np.testing.assert_allclose(flat, column)


def test_sizes_that_the_data_leave_open_are_those_of_the_classifier(blobs):
    x, y = blobs[0][:40], blobs[1][:40]
    data = tf.data.Dataset.from_generator(
        lambda: ((x[i : i + 20], y[i : i + 20]) for i in (0, 20)),
        output_signature=(
            tf.TensorSpec([None, None, None, None], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ),
    )
    compiled(linear(), pixel_range=(0, float(x.max()))).evaluate(data, verbose=0)


def test_a_metric_of_the_users_keeps_its_place_in_training(blobs):
    model = compiled(linear())
    mine = keras.metrics.MeanMetricWrapper(lambda y, p: y, name="adversarial_mine")
    model.compile("sgd", CROSS_ENTROPY, metrics=[mine])
    x = blobs[0][:40] / blobs[0].max()
    history = model.fit(x, blobs[1][:40], verbose=0).history
    assert "adversarial_mine" in history
    assert "adversarial_accuracy" not in history


def ours(name):
    def adversarial_loss(y, p):
        return y

    return {"a function": adversarial_loss, "a metric": keras.metrics.Mean("adversarial_loss")}[
        name
    ]


def test_weighted_and_unweighted_accuracy_stand_beside_each_other(blobs):
    """As in a model of Keras, in training and in an evaluation, as a dictionary and as a list."""
    x, y = blobs[0][:40], blobs[1][:40]
    weight = np.where(np.arange(40) % 3 == 0, 5.0, 0.5).astype(np.float32)
    plain, ours = linear(), AdversarialModel(linear(), "none", pixel_range=(0, 1))
    ours.classifier.set_weights(plain.get_weights())
    for model in (plain, ours):
        kinds = {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
        model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY, **kinds)
    arguments = {"sample_weight": weight, "verbose": 0}
    one, other = (
        [
            *model.fit(x, y, epochs=1, **arguments).history.items(),
            *model.evaluate(x, y, return_dict=True, **arguments).items(),
            *enumerate(model.evaluate(x, y, **arguments)),
            *enumerate(model.train_on_batch(x, y, sample_weight=weight)),
        ]
        for model in (plain, ours)
    )
    assert [name for name, _ in one] == [name for name, _ in other]
    for (name, expected), (_, found) in zip(one, other, strict=True):
        assert found == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("inner", ["keras.remat", "tf.recompute_grad"])
def test_what_computes_its_gradient_anew_trains(blobs, inner):
    dense = D.Dense(16, activation="relu")

    class Anew(D.Layer):
        def build(self, shape):
            dense.build(shape)

        def call(self, x):
            again = keras.remat if inner == "keras.remat" else tf.recompute_grad
            return again(dense)(x)

    model = compiled(sequential(D.Flatten(), Anew(), D.Dense(4)))
    model.fit(blobs[0][:40], blobs[1][:40], verbose=0)


@pytest.mark.parametrize("argument", ["metrics", "weighted_metrics"])
@pytest.mark.parametrize("kind", ["a function", "a metric"])
def test_a_metric_may_not_take_the_name_of_ours(kind, argument):
    model = AdversarialModel(linear(), ATTACK)
    with pytest.raises(UserError, match="adds itself"):
        model.compile("sgd", CROSS_ENTROPY, **{argument: [ours(kind)]})


@pytest.mark.parametrize(
    ("loss", "activation", "labels"),
    [
        pytest.param(
            *(L.BinaryCrossentropy(from_logits=True), None, (0, 1)), marks=pytest.mark.slow
        ),
        (L.BinaryCrossentropy(), "sigmoid", (0, 1)),
        ("hinge", None, (-1, 1)),
        pytest.param(*("hinge", "sigmoid", (-1, 1)), marks=pytest.mark.slow),
    ],
)
def test_clean_and_adversarial_accuracy_follow_one_rule(blobs, loss, activation, labels, tmp_path):
    x = blobs[0][:40] / blobs[0].max()
    y = np.where(blobs[1][:40] % 2, labels[1], labels[0])
    classifier = linear(count=1, activation=activation)
    kernel = np.random.default_rng(0).normal(size=(64, 1))
    middle = np.median(x.reshape(40, 64) @ kernel)
    classifier.layers[-1].set_weights([kernel, np.array([0.3 - middle])])
    nothing = StepAttack(1e-9, 1e-9)  # then both must be equal
    model = AdversarialModel(classifier, nothing, validation_attack=nothing)
    model.compile("sgd", loss, metrics=["accuracy"], weighted_metrics=["acc"])
    outputs = np.asarray(classifier(x))[:, 0]
    right = np.mean((outputs > (0.5 if activation else 0.0)) == (y == 1))
    assert 0.2 < right < 0.8

    def check(model):
        figures = model.evaluate(x, y, verbose=0, return_dict=True)
        for name in ("accuracy", "acc", "adversarial_accuracy"):
            assert figures[name] == pytest.approx(right)

    check(model)
    model.save(tmp_path / "model.keras")
    check(keras.models.load_model(tmp_path / "model.keras"))


def test_weights_of_images_count_alike_in_clean_and_adversarial_figures(blobs):
    x, y = blobs[0][:40], blobs[1][:40]
    weight = np.random.default_rng(0).uniform(0, 3, 40)
    nothing = StepAttack(1e-9, 1e-9)  # then both must be equal
    model = AdversarialModel(linear(), nothing, validation_attack=nothing, pixel_range=(0, 2))
    model.compile("sgd", CROSS_ENTROPY, metrics=["accuracy"])
    found = model.evaluate(x, y, sample_weight=weight, batch_size=16, verbose=0, return_dict=True)
    assert found["adversarial_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert found["adversarial_accuracy"] == pytest.approx(found["accuracy"])


@pytest.mark.parametrize(
    "metric",
    [
        "binary_accuracy",
        "AUC",
        keras.metrics.BinaryAccuracy,
        keras.metrics.AUC,
        keras.metrics.Precision,
        keras.metrics.Recall,
        keras.metrics.BinaryCrossentropy,
    ],
)
def test_a_metric_that_takes_a_logit_for_a_probability_is_refused(metric):
    watched_by("sigmoid", metric)
    with pytest.raises(UserError, match="takes outputs for probabilities"):
        watched_by(None, metric)


def watched_by(activation, metric):
    model = AdversarialModel(linear(count=1, activation=activation), ATTACK)
    loss = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    model.compile("sgd", loss, metrics=[metric if isinstance(metric, str) else metric()])


def test_metrics_that_take_a_logit_are_accepted():
    watched_by(None, lambda: keras.metrics.BinaryAccuracy(threshold=0.0))
    watched_by(None, lambda: keras.metrics.AUC(from_logits=True))
    watched_by(None, lambda: keras.metrics.Recall(thresholds=0))


def test_a_metric_of_probabilities_is_refused_for_logits_of_several_classes():
    def asked(metric):
        AdversarialModel(linear(), ATTACK).compile("sgd", CROSS_ENTROPY, metrics=[metric])

    asked(keras.metrics.SparseCategoricalCrossentropy(from_logits=True))
    asked(keras.metrics.SparseTopKCategoricalAccuracy(2))
    asked(keras.metrics.F1Score())
    with pytest.raises(UserError, match="SparseCategoricalCrossentropy takes outputs for prob"):
        asked(keras.metrics.SparseCategoricalCrossentropy())


def test_another_classifier_is_looked_at_anew(blobs):
    x, y = blobs[0][:40] / blobs[0].max(), blobs[1][:40]
    model = compiled(linear())
    model.fit(x, y, verbose=0)
    model.classifier = linear(D.Rescaling(1 / 255))
    assert str(model.pixel_range) == "[0, 255]"
    assert len(model.trainable_weights) == 2
    with pytest.raises(ValueError, match="compile"):
        model.evaluate(255 * x, y, verbose=0)
    model.compile("sgd", CROSS_ENTROPY)
    model.fit(255 * x, y, verbose=0)
    with pytest.raises(UserError, match="must lie in"):
        model.evaluate(x, y, verbose=0)


@pytest.mark.parametrize("bound", [{"weight_averaging": 0.9}, {"attack": "liet"}])
def test_another_classifier_is_refused_where_something_follows_the_first(bound):
    model = AdversarialModel(linear(), **{"attack": ATTACK, "epsilon": 0.1, **bound})
    with pytest.raises(UserError, match="Make a new AdversarialModel"):
        model.classifier = linear()


def test_the_pixel_range_is_known_before_compile():
    assert str(AdversarialModel(linear(D.Rescaling(1 / 255)), ATTACK).pixel_range) == "[0, 255]"
    open_ended = keras.Sequential([D.Rescaling(1 / 255), D.Flatten(), D.Dense(4)])
    assert str(AdversarialModel(open_ended, ATTACK).pixel_range) == "[0, 1]"


def test_a_loss_of_the_users_is_told_what_it_gets(blobs):
    def mine(y, p):
        return keras.losses.binary_crossentropy(y, p)

    with pytest.warns(UserWarning, match="the loss mine takes logits or .* answers: one logit"):
        compiled(linear(count=1), mine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(linear(), CROSS_ENTROPY)


class OwnFlip(D.Layer):
    def __init__(self, seeded=True, base=None):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(0) if seeded else None

    def call(self, x, training=False):
        if not training:
            return x
        if self.seed_generator is None:
            return tf.where(tf.random.uniform(()) > 0.5, x, tf.reverse(x, [2]))
        draw = keras.random.uniform((), seed=self.seed_generator)
        return tf.where(draw > 0.5, x, tf.reverse(x, [2]))


class OwnKindOfFlip(D.RandomFlip):
    pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OwnFlip(), "'own_flip.*OwnFlip. draws other numbers"),
        (lambda: D.AugMix(value_range=(0, 1)), "'aug_mix.*AugMix. draws other numbers"),
        (lambda: OwnFlip(seeded=False), "Some layer without a SeedGenerator draws other numbers"),
        (lambda: OwnKindOfFlip(), None),
        (lambda: D.Dropout(0.5), None),
    ],
    ids=["own", "AugMix", "own, without a seed", "derived from Keras", "dropout"],
)
def test_random_layers_of_the_users_are_warned_of_once(blobs, make, words):
    x, y = blobs[0][:40] / blobs[0].max(), blobs[1][:40]
    layer = make()
    if isinstance(layer, D.AugMix):
        try:
            tf.function(layer)(x[:1], training=True)
        except ValueError:
            pytest.skip("an older Keras, whose AugMix takes three channels alone")
    model = compiled(linear(layer))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, verbose=0, epochs=2)
    said = [str(w.message) for w in caught if "draws other numbers" in str(w.message)]
    assert len(said) == (words is not None)
    assert words is None or re.search(words, said[0])


def test_fit_says_range_and_radius_once(blobs, capsys):
    x, y = blobs[0][:40] / blobs[0].max(), blobs[1][:40]
    model = AdversarialModel(
        linear(D.Rescaling(1 / 255)), "fgsm", 8 / 255, validation_attack="none"
    )
    model.compile("sgd", CROSS_ENTROPY)
    model.fit(255 * x, y, verbose=0)
    assert not capsys.readouterr().out
    model.fit(255 * x, y, verbose=2, epochs=2)
    said = capsys.readouterr().out
    assert said.count("pixels [0, 255]; epsilon 8/255 of the range (8 of 255), linf") == 1


def python_code(forget):
    """A layer of plain Python that has a gradient, and may hide the shape of its result."""

    def call(x):
        y = tf.py_function(lambda value: value, [x], tf.float32)
        return y if forget else tf.ensure_shape(y, x.shape)

    return D.Lambda(call, output_shape=lambda shape: shape)


def test_outputs_of_unknown_rank_are_understood(blobs):
    x, y = blobs[0][:40] / blobs[0].max(), blobs[1][:40]
    classifier = sequential(D.Flatten(), D.Dense(4), python_code(forget=True))
    compiled(classifier).fit(x, y, verbose=0)


def test_a_layer_that_no_graph_can_hold_is_said_or_run_eagerly(blobs):
    x, y = blobs[0][:40] / blobs[0].max(), blobs[1][:40]
    with pytest.raises(UserError, match=r"ensure_shape.*run_eagerly=True"):
        compiled(linear(python_code(forget=True)))
    compiled(linear(python_code(forget=True)), run_eagerly=True).fit(x, y, verbose=0)
    compiled(linear(python_code(forget=False))).fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x, y: (x, y), r"image by image.*\(8, 8, 1\).*data.batch\(32\)"),
        (lambda x, y: (x, tf.one_hot(y, 4)), r"image by image"),
        (lambda x, y: ({"pixels": x[None]}, y[None]), r"lambda x, y: \(x\['pixels'\], y\)"),
        (lambda x, y: {"image": x[None], "label": y[None]}, r"d: \(d\['image'\], d\['label'\]\)"),
    ],
    ids=["numbers", "one-hot", "dict", "dict of both"],
)
def test_data_in_another_form_than_batches_of_images_get_one_sentence(blobs, make, words):
    x, y = blobs[0][:40] / blobs[0].max(), blobs[1][:40]
    model = compiled(linear(activation="softmax"), L.CategoricalCrossentropy())
    with pytest.raises(UserError, match=words):
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).map(make), verbose=0)


def test_data_without_a_batch_are_no_training(blobs):
    data = tf.data.Dataset.from_tensor_slices((blobs[0][:4], blobs[1][:4])).batch(2)
    for validation in (None, data):
        with pytest.raises(UserError, match="no batch, so nothing"):
            compiled(linear()).fit(data.take(0), validation_data=validation, verbose=0)


def power(y, p, q):
    return keras.ops.sum(keras.ops.abs(y - p) ** q, axis=-1)


@pytest.mark.parametrize(
    ("make", "loss", "words"),
    [
        (
            lambda: linear(count=1),
            "binary_crossentropy",
            r"'binary_crossentropy'. Use BinaryCrossentropy\(from_logits=True\)",
        ),
        (
            lambda: linear(),
            L.CategoricalCrossentropy(),
            r"CategoricalCrossentropy\(from_logits=False\). Use CategoricalCrossentropy\(from",
        ),
        (lambda: linear(), L.kl_divergence, "Received: kl_divergence"),
        (lambda: linear(), L.KLDivergence(), r"Received: KLDivergence\(\)"),
        (lambda: linear(activation="softmax"), power, r"more than .*: q. Received: power"),
    ],
)
def test_an_error_names_the_loss_as_its_user_does(make, loss, words):
    with pytest.raises(UserError, match=words):
        compiled(make(), loss)


def test_nothing_is_traced_before_compile_while_the_radius_is_a_share():
    calls = []

    def counted(x):
        calls.append(1)
        return x

    classifier = linear(D.Lambda(counted))
    calls.clear()
    AdversarialModel(classifier, "fgsm", epsilon=0.1)
    assert not calls
