import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.pixel_range import UNIT
from pnil_tf.errors import UserError
from pnil_tf.evaluation.probes import configured
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.transfer import Source
from pnil_tf.layers import PNILLayer
from pnil_tf.serving.signatures import servable
from pnil_tf.training.model import AdversarialModel

X = np.random.default_rng(0).random((20, 4, 4, 1)).astype(np.float32)
W = tf.constant(np.random.default_rng(1).normal(size=(16, 3)), tf.float32)


class BatchMaximum(keras.layers.Layer):
    def call(self, x):
        return x / keras.ops.max(x)


def linear(x):
    return tf.reshape(x, [-1, 16]) @ W


def sequential(*layers):
    return keras.Sequential([keras.Input((4, 4, 1)), *layers])


def classifier(*first, activation=None):
    return sequential(*first, keras.layers.Flatten(), keras.layers.Dense(3, activation=activation))


def gradient(predict, x=X):
    @tf.function(autograph=False)
    def of(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(predict(x)[:, 0])
        return tape.gradient(total, x, unconnected_gradients="zero")

    return of(tf.constant(x)).numpy()


def graph(predict, x=X):
    return tf.function(predict, autograph=False)(tf.constant(x)).numpy()


def test_keras_model():
    model = classifier()
    target = as_target(model, X)
    assert (target.num_classes, target.input_shape) == (3, (4, 4, 1))
    assert not target.stochastic
    assert target.outputs == "logits"
    np.testing.assert_allclose(graph(target.predict), model(X), rtol=1e-5)


def test_an_adversarial_model_stands_for_its_classifier():
    wrapper = AdversarialModel(classifier(), "fgsm", 0.1)
    np.testing.assert_allclose(
        as_target(wrapper, X).predict(tf.constant(X)), wrapper.classifier(X), rtol=1e-5
    )


SHARED = keras.random.SeedGenerator(1)


class Unheld(keras.layers.Layer):
    """Noise that follows a variable which is no seed of the layer's own."""

    def __init__(self, source):
        super().__init__()
        self._source = source
        self.calls = self.add_weight(shape=(), dtype="int32", trainable=False)

    def call(self, x):
        if self._source == "a generator of the module":
            return x + keras.random.normal(keras.ops.shape(x), seed=SHARED)
        self.calls.assign_add(1)
        return x + tf.random.stateless_normal(tf.shape(x), tf.stack([self.calls.value, 7]))


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("source", ["a generator of the module", "a counter"])
def test_noise_that_follows_no_seed_of_ours_is_drawn_anew_beside_stock_layers(source, stock):
    layers = [keras.layers.Dropout(0.1)] if stock else []
    target = as_target(classifier(Unheld(source), *layers), X)
    assert target.stochastic
    assert not target.repeatable

    @tf.function(autograph=False)
    def drawn(seed):
        with rng.noise_scope(seed):
            return target.predict(tf.constant(X))

    for seeds in ((0, 0), (0, 1)):
        first, second = (drawn(rng.make_seed(seed)).numpy() for seed in seeds)
        assert not np.isclose(first, second).all(axis=1).any()


def test_pnil_is_stochastic_follows_the_scope_and_can_be_switched_off():
    model = classifier(PNILLayer(name="noise"))
    target = as_target(model, X)
    assert target.stochastic
    assert target.repeatable
    assert target.noise_is_ours
    assert [layer.name for layer in target.pnil_layers] == ["noise"]

    def seeded(x):
        with rng.noise_scope(3):
            return target.predict(x)

    np.testing.assert_array_equal(graph(seeded), graph(seeded))
    free = graph(target.noise_free())
    np.testing.assert_array_equal(free, graph(target.noise_free()))
    weights = model.layers[-1].kernel.numpy()
    np.testing.assert_allclose(free, X.reshape(-1, 16) @ weights, rtol=1e-4, atol=1e-5)


def test_pnil_in_a_nested_model_is_found():
    nested = sequential(classifier(PNILLayer(name="inner")))
    assert [layer.name for layer in as_target(nested, X).pnil_layers] == ["inner"]


def test_frozen_noise_is_one_constant_whatever_the_batch():
    target = as_target(classifier(PNILLayer()), X)
    frozen = tf.function(target.frozen(5))
    whole = frozen(tf.constant(X)).numpy()
    np.testing.assert_allclose(frozen(tf.constant(X[7:9])), whole[7:9], rtol=1e-4, atol=1e-5)
    same = np.repeat(X[:1], 6, axis=0)
    np.testing.assert_allclose(frozen(tf.constant(same)), whole[[0] * 6], rtol=1e-4, atol=1e-5)
    assert np.abs(graph(target.frozen(6)) - whole).max() > 0.01


def test_other_random_layers_follow_the_scope():
    model = classifier(AlwaysDropout(0.5))
    target = as_target(model, X)
    assert target.stochastic
    assert target.repeatable
    assert not target.noise_is_ours
    settings = EvaluationSettings(epsilon=0.1)
    assert not configured("pgd", 0.1, settings, target).eot.antithetic


class Unseeded(keras.layers.Layer):
    def call(self, x):
        return x + 0.3 * keras.random.normal((4, 4, 1))


@pytest.mark.parametrize("more", [[], [keras.layers.Dropout(0.3)], [keras.layers.RandomFlip()]])
def test_noise_from_keras_without_a_seed_follows_the_scope(more):
    target = as_target(classifier(*more, Unseeded()), X)
    assert target.stochastic
    assert target.repeatable
    draws = []
    for seed in (0, 1, 0):
        with rng.noise_scope(seed):
            draws.append(target.predict(X).numpy())
    np.testing.assert_array_equal(draws[0], draws[2])
    assert np.abs(draws[0] - draws[1]).max() > 0.01


def test_noise_of_two_kinds_is_not_ours_alone():
    assert not as_target(classifier(PNILLayer(), AlwaysDropout(0.5)), X).noise_is_ours
    ours = as_target(classifier(PNILLayer()), X)
    assert configured("pgd", 0.1, EvaluationSettings(epsilon=0.1), ours).eot.antithetic


def test_what_is_asked_for_reaches_the_gradient_attacks():
    asked = EvaluationSettings(
        epsilon=0.1, step_size=0.02, restarts=3, loss="margin+dlr", average="logits", steps=7
    )
    target = as_target(classifier(PNILLayer()), X)
    for name in ("pgd", "pgd_strong"):
        attack = configured(name, 0.1, asked, target)
        assert (attack.steps, attack.restarts, attack.losses) == (7, 3, ("margin", "dlr"))
        assert attack.step_size == pytest.approx(0.02)
        assert attack.eot.average == "logits"
        # The curve over epsilon compares attacks of the same kind.
        assert configured(name, 0.2, asked, target).step_size == pytest.approx(0.04)
    assert configured("spsa", 0.1, asked, target).step_size == 0.01


def test_one_coin_for_a_whole_batch_is_noticed():
    model = classifier()
    target = as_target(lambda x: model(x) * tf.sign(tf.random.uniform([]) - 0.5), X)
    assert target.stochastic


def test_only_an_adversarial_model_is_unwrapped():
    inner = classifier()

    class Defended(keras.Model):
        def __init__(self):
            super().__init__()
            self.classifier = inner

        def call(self, x):
            return self.classifier(tf.round(x))

    outputs = as_target(Defended(), X).predict(tf.constant(X))
    np.testing.assert_allclose(outputs, inner(np.round(X)), rtol=1e-5)


@keras.saving.register_keras_serializable(package=__name__)
class AlwaysDropout(keras.layers.Dropout):
    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


def test_noise_off_at_inference_is_deterministic():
    assert not as_target(classifier(PNILLayer(noise_at_inference=False)), X).stochastic


def test_softmax_becomes_exact_logits():
    model = classifier(activation="softmax")
    model.layers[-1].kernel.assign(1000 * model.layers[-1].kernel)
    target = as_target(model, X)
    assert target.outputs == "probabilities"
    logits = X.reshape(-1, 16) @ model.layers[-1].kernel.numpy()
    np.testing.assert_allclose(graph(target.predict), logits, rtol=1e-3, atol=1e-2)


def test_probabilities_of_a_callable_become_logits_up_to_a_constant():
    target = as_target(lambda x: tf.nn.softmax(linear(x)), X)
    assert target.outputs == "probabilities"
    difference = graph(target.predict) - linear(X).numpy()
    np.testing.assert_allclose(difference, difference[:, :1] * np.ones(3), atol=1e-4)
    assert np.isfinite(graph(as_target(lambda x: tf.nn.softmax(1e5 * linear(x)), X).predict)).all()


def test_tensorflow_callable_keeps_its_gradient():
    np.testing.assert_allclose(
        gradient(as_target(linear, X).predict), np.tile(W[:, 0].numpy(), 20).reshape(X.shape)
    )


def test_numpy_callable_has_no_gradient_but_works():
    target = as_target(lambda x: np.asarray(x).reshape(-1, 16) @ W.numpy(), X)
    np.testing.assert_allclose(graph(target.predict), linear(X), rtol=1e-5)
    assert not gradient(target.predict).any()


@pytest.mark.parametrize("wrapped", [lambda model: model, lambda model: model.call, tf.function])
def test_an_operation_without_a_gradient_leaves_the_attacks_that_need_none(wrapped):
    model = classifier(keras.layers.Resizing(2, 2, interpolation="area"))
    target = as_target(wrapped(model), X)
    np.testing.assert_allclose(graph(target.predict), model(X), rtol=1e-5)
    assert target.features is None
    assert not gradient(target.predict).any()


def test_numpy_noise_is_not_baked_into_the_graph():
    random = np.random.default_rng(0)

    def noisy(x):
        return linear(x + random.normal(size=x.shape).astype(np.float32))

    target = as_target(noisy, X)
    assert target.stochastic
    assert not target.repeatable
    twice = tf.function(target.predict)
    assert np.abs(twice(tf.constant(X)) - twice(tf.constant(X))).max() > 0.01
    assert gradient(target.predict).any()


class NumPyNoise(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.random = np.random.default_rng(0)

    def call(self, x):
        return x + self.random.normal(size=(4, 4, 1)).astype(np.float32)


def test_numpy_noise_in_a_keras_model_is_not_baked_into_the_graph():
    target = as_target(classifier(NumPyNoise()), X)
    assert target.stochastic
    assert not target.repeatable
    twice = tf.function(target.predict)
    assert np.abs(twice(tf.constant(X)) - twice(tf.constant(X))).max() > 0.01
    assert gradient(target.predict).any()


def test_numpy_noise_is_not_hidden_by_noise_that_follows_the_graph():
    target = as_target(classifier(PNILLayer(), NumPyNoise()), X)
    assert not target.repeatable
    quiet = tf.function(target.noise_free())
    assert np.abs(quiet(tf.constant(X)) - quiet(tf.constant(X))).max() > 0.01


def test_one_output_speaks_for_class_1_of_two():
    model = sequential(keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid"))
    target = as_target(model, X)
    assert (target.num_classes, target.outputs) == (2, "one probability")
    z = X.reshape(-1, 16) @ model.layers[-1].kernel.numpy()
    expected = np.concatenate([np.zeros_like(z), z], axis=1)
    np.testing.assert_allclose(graph(target.predict), expected, rtol=1e-4, atol=1e-5)


def one_output(loss, activation=None):
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation)]
    )
    network.compile("sgd", loss)
    return network


L = keras.losses


@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize(
    "loss", ["mse", ["mse"], L.Huber(), "binary_crossentropy", L.BinaryCrossentropy()]
)
def test_one_number_that_was_trained_to_no_border_at_0_is_refused(loss, activation):
    network = one_output(loss, activation)
    with pytest.raises(UserError, match=r"does not make 0 the border.*say outputs='one logit'"):
        as_target(network, X)
    assert as_target(network, X, outputs="one logit").outputs == "one logit"


@pytest.mark.parametrize("loss", [None, L.BinaryCrossentropy(from_logits=True), "hinge", abs])
def test_one_number_whose_loss_says_nothing_else_is_a_logit(loss):
    assert as_target(one_output(loss), X).outputs == "one logit"


def test_what_an_adversarial_model_s_classifier_was_compiled_with_before_is_past():
    network = one_output("mse")
    wrapper = AdversarialModel(network, "fgsm", 0.1)
    with pytest.raises(UserError, match="does not make 0 the border"):
        as_target(wrapper, X)
    wrapper.compile("sgd", L.BinaryCrossentropy(from_logits=True))
    assert as_target(wrapper, X).outputs == "one logit"
    assert servable(wrapper).target.outputs == "one logit"


def test_the_models_own_pixels():
    model = classifier(keras.layers.Rescaling(1 / 255))
    found = as_target(model, X)
    assert (found.pixel_range.low, found.pixel_range.high) == (0, 255)
    np.testing.assert_allclose(graph(found.predict), model(255 * X), rtol=1e-4, atol=1e-5)
    given = as_target(model, X, pixel_range=(-1, 1))
    np.testing.assert_allclose(graph(given.predict), model(2 * X - 1), rtol=1e-4, atol=1e-6)
    assert given.describe()["pixel_range"] == [-1.0, 1.0]


def random_answers(x):
    return linear(x) + tf.random.normal([tf.shape(x)[0], 3])


@pytest.mark.parametrize(
    "mixing",
    [
        lambda x: linear(x - tf.reduce_mean(x, axis=0)),
        lambda x: random_answers(x - tf.reduce_mean(x, axis=0)),
        lambda x: linear(x / tf.reduce_max(x)),
        lambda x: linear(x + 0.3 * keras.random.normal(keras.ops.shape(x), seed=1)),
        lambda x: linear(x.numpy() / x.numpy().max()),
        sequential(BatchMaximum(), keras.layers.Flatten(), keras.layers.Dense(3)),
        sequential(PNILLayer(), BatchMaximum(), keras.layers.Flatten(), keras.layers.Dense(3)),
    ],
    ids=["mean", "mean, noisy", "maximum", "fixed noise", "in Python", "a layer", "behind noise"],
)
def test_a_model_that_mixes_the_images_of_a_batch_is_refused(mixing):
    images = X.copy()
    images[0, 0, 0] = 1.0  # alone, it is not changed by the maximum of the batch
    images[1:] *= 0.5
    with pytest.raises(UserError, match="depends on the other images"):
        as_target(mixing, images)


@pytest.mark.parametrize(
    "answers",
    [random_answers, lambda x: linear(x) + tf.random.normal([1, 3])],
    ids=["each its own", "one for a batch"],
)
def test_noise_alone_is_no_mixture(answers):
    assert as_target(answers, X).stochastic


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (3, "must be a Keras model"),
        (lambda x: x, "one row of numbers for each image"),
        (lambda x: linear(x)[:, 0], "one row of logits for each image"),
        (lambda x: linear(x)[:5], "one row of logits for each image"),
        (lambda x: linear(x) / 0, "Of 4 images of random pixels .* none has a finite answer"),
        (lambda x: "cat", "one array of logits"),
        (lambda x: tf.reshape(x, [-1, 7]), "cannot be called"),
    ],
)
def test_what_is_no_classifier(model, said):
    with pytest.raises(UserError, match=said):
        as_target(model, X)


def answerless(share):
    """A model that answers NaN to the images whose first pixel is below a share."""
    return lambda x: tf.where(x[:, 0, 0] < share, np.nan, linear(x))


def test_images_without_an_answer_make_no_noise_of_a_model():
    assert (X[:16, 0, 0, 0] < 0.5).any()
    target = as_target(answerless(0.5), X)
    assert not target.stochastic
    assert np.isnan(graph(target.predict)).any()
    with pytest.raises(UserError, match="answers to your images are not finite"):
        as_target(answerless(2.0), X, outputs="logits")


MASK = np.array([0.0, -np.inf, 0.0], np.float32)


@pytest.mark.parametrize("outputs", [None, "logits", "probabilities"])
def test_masked_classes_are_named(outputs):
    def model(x):
        return linear(x) + MASK

    with pytest.raises(UserError, match=r"for these classes, whatever the image: 1\. .*-1e4"):
        as_target(model, X, outputs=outputs)


def test_classes_masked_by_a_large_number_are_classes():
    assert as_target(lambda x: linear(x) + tf.maximum(MASK, -1e4), X).num_classes == 3


def test_a_batch_that_decides_who_is_answered_is_refused():
    def model(x):
        return tf.where(tf.shape(x)[0] == 1, np.nan, linear(x))

    with pytest.raises(UserError, match="depends on the other images"):
        as_target(model, X)


def test_a_model_without_answers_to_random_pixels_is_told_what_it_is():
    def model(x):
        return tf.where(tf.reduce_max(x, [1, 2]) < 0.5, linear(x), np.nan)

    with pytest.raises(UserError, match=r"Of 4 images of random pixels .*outputs='logits'"):
        as_target(model, 0.4 * X)
    assert as_target(model, 0.4 * X, outputs="logits").outputs == "logits"


def test_other_image_shape():
    with pytest.raises(UserError, match=r"takes images of shape \(4, 4, 1\).*\(5, 5, 1\)"):
        as_target(classifier(), np.zeros((2, 5, 5, 1), np.float32))


def test_noise_without_an_answer_in_some_draws_is_noise():
    def model(x):
        luck = rng.layer_noise(tf.shape(x)[:1], training=False)
        return tf.where(luck[:, tf.newaxis] > 1, np.nan, linear(x))

    target = as_target(model, X, outputs="logits")
    assert target.stochastic
    assert target.repeatable


def test_a_training_tells_the_range_of_a_source_of_adversarial_images():
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    wrapper = AdversarialModel(network, "fgsm", 0.1)
    wrapper.compile("sgd", L.SparseCategoricalCrossentropy(from_logits=True))
    assert Source.of(wrapper).pixel_range is None
    wrapper.fit(X, np.arange(len(X)) % 2, verbose=0)
    source = Source.of(wrapper)
    assert (source.pixel_range, source.outputs) == (UNIT, "logits")
