"""Which noise in front of a model is understood, and everything that voids a certificate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import pnil_tf
from pnil_tf.certificate.front import check_passes, noise_in_front, provable
from pnil_tf.contract.checks import check_each_alone
from pnil_tf.contract.classifier import classifier_of
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.models import resnet11, small_cnn
from pnil_tf.serving.signatures import servable
from pnil_tf.surgery import add_pnil

D = keras.layers
SHAPE = (8, 8, 2)


def random_pnil(**arguments):
    return PNILLayer(
        kernel_initializer=keras.initializers.RandomNormal(0.5, seed=1),
        bias_initializer=keras.initializers.RandomNormal(-1.0, 0.5, seed=2),
        **arguments,
    )


def sequential(*layers):
    return keras.Sequential([keras.Input(SHAPE), *layers, D.Flatten(), D.Dense(3)])


def found_in(model, **arguments):
    return noise_in_front(classifier_of(model, **arguments))


def adapted():
    layer = D.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(0, 255, (20, *SHAPE)))
    return layer


@pytest.mark.parametrize(
    ("in_front", "pixel_range"),
    [
        ((), (0, 1)),
        ((), (0, 255)),
        ((D.Rescaling(1 / 127.5, -1.0),), (0, 255)),
        ((D.Rescaling([0.5, 2.0], [0.0, 1.0]),), (0, 1)),
        ((adapted,), (0, 255)),
        ((lambda: keras.Sequential([D.Rescaling(1 / 255)]),), (0, 255)),
    ],
    ids=["none", "bytes", "signed", "channels", "normalization", "nested"],
)
@pytest.mark.parametrize("options", [{}, {"sigma_floor": 0.1}, {"use_kernel": False}], ids=str)
def test_the_noise_of_unit_images_is_the_one_that_reaches_the_network(
    in_front, pixel_range, options
):
    before = [layer() if callable(layer) and not isinstance(layer, D.Layer) else layer
              for layer in in_front]  # fmt: skip
    layer = random_pnil(pixel_range=(-1, 2), **options)
    model = sequential(*before, layer)
    unit = np.random.default_rng(1).random((2, *SHAPE)).astype(np.float32)
    front = found_in(model, pixel_range=pixel_range)
    assert front.layer is layer

    def pixels(images):
        x = classifier_of(model, pixel_range=pixel_range).pixel_range.from_unit(images)
        for one in before:
            x = one(x)
        return np.asarray(x, np.float64)

    step = 0.5 * (pixels(unit + 1.0) - pixels(unit - 1.0))  # what a change of 1 becomes
    expected = 3.0 * layer.sigma(pixels(unit)) / np.abs(step)
    np.testing.assert_allclose(front.sigma(unit[0]), expected[0], rtol=1e-4)
    moved = layer.log_variance(pixels(unit + 0.01)) - layer.log_variance(pixels(unit))
    assert (np.abs(moved) <= 0.01 * front.slope() + 1e-5).all()
    if "sigma_floor" not in options:
        np.testing.assert_allclose(np.abs(moved)[0], 0.01 * np.broadcast_to(front.slope(), SHAPE),
                                   atol=1e-5)  # fmt: skip
    assert front.fixed == ("use_kernel" in options)


def test_the_models_of_the_package_and_of_the_surgery_are_understood():
    for make in (small_cnn, resnet11):
        found = found_in(make(SHAPE, 3, width=2, pnil=PNILLayer(use_kernel=False)))
        assert found.fixed
    plain = sequential(D.Conv2D(2, 3))
    assert found_in(add_pnil(plain, use_kernel=False)).fixed
    assert found_in(add_pnil(plain)).fixed  # W begins as 0
    wrapped = keras.Sequential([keras.Input(SHAPE), sequential(random_pnil())])
    assert not found_in(wrapped).fixed


class OwnNoise(PNILLayer):
    pass


class OwnRandom(D.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


class OwnPython(D.Layer):
    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(lambda v: v, [x], tf.float32), x.shape)


class Counting(D.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x + self.count


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.noise, self.body = PNILLayer(), keras.Sequential([D.Flatten(), D.Dense(3)])

    def call(self, x):
        return self.body(self.noise(x))


def around_the_noise():
    inputs = keras.Input(SHAPE)
    x = D.Concatenate()([PNILLayer()(inputs), inputs])
    return keras.Model(inputs, D.Dense(3)(D.Flatten()(x)))


def twice():
    inputs, noise = keras.Input(SHAPE), PNILLayer()
    return keras.Model(inputs, D.Dense(3)(D.Flatten()(noise(noise(inputs)))))


class Training(D.Layer):
    """A layer that trains whatever it was told: only its graph shows it."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x, training=True)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: sequential(D.Dense(2), PNILLayer()), "stands in front of the noise"),
        (lambda: sequential(D.Conv2D(2, 1), PNILLayer()), "stands in front of the noise"),
        (lambda: sequential(D.ReLU(), PNILLayer()), "stands in front of the noise"),
        (lambda: sequential(), "has 0 PNIL layers"),
        (lambda: sequential(PNILLayer(), D.ReLU(), PNILLayer()), "has 2 PNIL layers"),
        (lambda: sequential(PNILLayer(noise_at_inference=False)), "switched off at inference"),
        (lambda: sequential(OwnNoise()), "a OwnNoise, a layer of your own"),
        (lambda: sequential(PNILLayer(), OwnRandom()), "random itself"),
        (lambda: sequential(PNILLayer(), Training(D.GaussianNoise(0.1))), "random itself"),
        (lambda: sequential(PNILLayer(), Training(D.Dropout(0.5))), "random itself"),
        (lambda: sequential(PNILLayer(), OwnPython()), "Python code of its own"),
        (lambda: sequential(PNILLayer(), Counting()), "changes itself"),
        (lambda: sequential(PNILLayer(), Training(D.BatchNormalization())), "changes itself"),
        (around_the_noise, "several ways"),
        (twice, "called 2 times"),
        (Subclassed, "does not show how its layers are connected"),
        (lambda: sequential(PNILLayer(dtype="mixed_float16")), "rounds the image"),
    ],
)
def test_what_voids_a_proof_is_refused_with_its_reason(make, why):
    model = make()
    model(np.zeros((1, *SHAPE), np.float32))
    with pytest.raises(UserError, match=f"Nothing can be proved of this model: .*({why})"):
        noise_in_front(classifier_of(model, image_shape=SHAPE))


def test_a_model_with_several_inputs_is_refused():
    first, second = keras.Input(SHAPE), keras.Input(SHAPE)
    model = keras.Model([first, second], D.Dense(3)(D.Flatten()(PNILLayer()(first) + second)))
    with pytest.raises(UserError, match="one input"):
        found_in(model)


def test_a_callable_such_as_a_saved_model_is_refused():
    model = sequential(PNILLayer())
    with pytest.raises(UserError, match="does not show how its layers are connected"):
        found_in(lambda x: model(x), image_shape=SHAPE)


def test_the_folder_of_a_saved_model_is_refused(tmp_path):
    sequential(PNILLayer()).export(str(tmp_path / "served"), verbose=False)
    x = np.zeros((2, *SHAPE), np.float32)
    with pytest.raises(UserError, match="does not show how its layers are connected"):
        pnil_tf.certify(tmp_path / "served", x, epsilon=0.01, pixel_range=(0, 1), verbose=0)


class OfTheBatch(D.Layer):
    """Normalizes by the statistics of the batch, and keeps none of them."""

    def call(self, x):
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=[1.0, 1.0], offset=[0.0, 0.0], mean=[], variance=[], is_training=True
        ).y


def test_statistics_of_the_batch_are_refused():
    with pytest.raises(UserError, match="uses the statistics of the batch at inference"):
        found_in(sequential(PNILLayer(), OfTheBatch()))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16"])
def test_an_input_that_rounds_the_image_is_refused(dtype):
    inputs = keras.Input(SHAPE, dtype=dtype)
    model = keras.Model(inputs, D.Dense(3)(D.Flatten()(PNILLayer()(inputs))))
    with pytest.raises(UserError, match="rounded before the noise"):
        found_in(model, pixel_range=(0, 255))


def besides(answer, image):
    return answer + tf.reduce_sum(image, axis=[1, 2, 3])[:, tf.newaxis] * [0.0, 1.0, 0.0]


class OwnSequential(keras.Sequential):
    def call(self, x, training=None, mask=None):
        return besides(super().call(x, training=training), x)


class OwnFunctional(keras.Model):
    def call(self, x, training=None, mask=None):
        return besides(super().call(x, training=training), x)


def own_functional():
    model = sequential(PNILLayer())
    return OwnFunctional(model.inputs, model.outputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OwnSequential(sequential(PNILLayer()).layers),
        own_functional,
        lambda: keras.Sequential([keras.Input(SHAPE), own_functional()]),
    ],
    ids=["Sequential", "functional", "nested"],
)
def test_a_call_of_its_own_may_show_the_image_beside_the_noise(make):
    model = make()
    model(np.zeros((1, *SHAPE), np.float32))
    with pytest.raises(UserError, match="a class with a call of its own"):
        found_in(model)


@pytest.mark.parametrize("spoil", ["beside", "smaller"])
@pytest.mark.parametrize("shared", [0.0, 1e4])
@pytest.mark.parametrize("in_front", [(), (-1.0, 1.0), ([-0.5, 2.0], 0.0)], ids=str)
def test_an_image_that_noise_does_not_hide_is_found_by_the_answers(spoil, shared, in_front):
    before = [D.Rescaling(*in_front)] if in_front else []
    model = sequential(*before, random_pnil())
    model.layers[-1].bias.assign(np.full(3, shared))
    classifier = classifier_of(model, image_shape=SHAPE, pixel_range=(0, 1))
    unit = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    provable(classifier, unit)
    layer = model.layers[len(before)]
    call = layer.call
    if spoil == "beside":
        layer.call = lambda x, training=None: call(x, training=training) + 0.2 * x
    else:
        layer.call = lambda x, training=None: x + 0.7 * (call(x, training=training) - x)
    with pytest.raises(UserError, match="tell images apart that the noise has made alike"):
        provable(classifier, unit)


def test_layers_that_rest_at_inference_are_no_hindrance():
    model = sequential(PNILLayer(), D.Dropout(0.5), D.GaussianNoise(1.0), D.BatchNormalization())
    assert found_in(model).fixed


@pytest.mark.parametrize(
    "layer", [D.Dropout(0.9), D.BatchNormalization()], ids=["dropout", "batch"]
)
@pytest.mark.parametrize("nested", [False, True])
def test_layers_called_with_training_once_and_for_all_are_refused(layer, nested):
    inner = keras.Input((128,))
    called = keras.Model(inner, layer(inner, training=True))
    inputs = keras.Input(SHAPE)
    flat = D.Flatten()(PNILLayer(use_kernel=False)(inputs))
    behind = called(flat) if nested else layer(flat, training=True)
    with pytest.raises(UserError, match=r"called with training=True, as .* model\.predict\(x\)"):
        found_in(keras.Model(inputs, D.Dense(3)(behind)))


@pytest.mark.parametrize("layer", [D.Resizing(4, 4), D.CenterCrop(4, 4)], ids=lambda one: one.name)
def test_preprocessing_without_chance_behind_the_noise_is_no_hindrance(layer):
    assert found_in(sequential(PNILLayer(), layer)).fixed


@pytest.mark.parametrize(
    "layer",
    [D.RandomFlip(), D.RandomRotation(0.1), D.Pipeline([D.Equalization(value_range=(0, 1))])],
    ids=lambda one: one.name,
)
def test_random_preprocessing_that_a_plain_call_runs_is_refused(layer):
    with pytest.raises(UserError, match=r"by its own default, .*training=False in its call"):
        found_in(sequential(PNILLayer(), layer))


@pytest.mark.parametrize(("offset", "fits"), [(50.0, True), (1e4, False), (1e9, False)])
def test_scaling_that_rounds_the_image_before_the_noise_is_refused(offset, fits):
    model = sequential(
        D.Rescaling(1.0, offset=offset),
        PNILLayer(),
        D.Rescaling(1.0, offset=-offset),
    )
    if fits:
        assert found_in(model, pixel_range=(0, 1)).fixed
    else:
        with pytest.raises(UserError, match="rounds the image to steps that count"):
            found_in(model, pixel_range=(0, 1))


def test_scaling_whose_product_is_rounded_is_refused_where_its_result_is_small():
    # Pixels around 10,000 of a range of 1: float32 keeps of 3.3 of them steps of 0.002.
    model = sequential(D.Rescaling(3.3, offset=-33_000.0), PNILLayer())
    with pytest.raises(UserError, match=r"numbers as large as 3\.3e\+04"):
        found_in(model, pixel_range=(10_000, 10_001))


def test_a_normalization_that_is_undone_is_told_apart():
    undone = D.Normalization(mean=0.5, variance=0.25, invert=True)
    with pytest.raises(UserError, match=r"undoes a scaling \(invert=True\).*Use Rescaling"):
        found_in(sequential(undone, PNILLayer()), pixel_range=(0, 1))


def test_noise_of_python_that_a_graph_repeats_is_refused():
    def noisy(x):
        return x + float(np.random.default_rng().normal())

    model = sequential(PNILLayer(), D.Lambda(noisy))
    unit = np.random.default_rng(0).random((4, *SHAPE), np.float32)
    assert noise_in_front(classifier_of(model, pixel_range=(0, 1)))  # its graph shows nothing
    with pytest.raises(UserError, match="drawn in Python"):
        provable(classifier_of(model, pixel_range=(0, 1)), unit)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_noise_without_a_size_is_refused(value):
    model = sequential(PNILLayer(use_kernel=False))
    classifier, layer = classifier_of(model), model.layers[0]
    layer.bias.assign(np.where(np.arange(128).reshape(SHAPE) == 3, value, 0.0))
    with pytest.raises(UserError, match="weights are not finite"):
        noise_in_front(classifier)


@pytest.mark.parametrize("scale", [0.0, np.ones((8, 8, 2)).tolist()])
def test_scaling_that_cannot_be_accounted_for_is_refused(scale):
    model = sequential(D.Rescaling(scale), PNILLayer())
    with pytest.raises(UserError, match="by 0, or not by one number"):
        found_in(model, pixel_range=(0, 1))


class MeanOfBatch(D.Layer):
    def call(self, x):
        return x - tf.reduce_mean(x, axis=0, keepdims=True)


def test_an_answer_that_depends_on_the_batch_is_refused():
    model = sequential(PNILLayer(), MeanOfBatch())
    with pytest.raises(UserError, match="depends on the other images"):
        check_each_alone(classifier_of(model), np.random.default_rng(0).random((8, *SHAPE)))


def behind(layer, images=4):
    unit = np.random.default_rng(3).random((images, *SHAPE), np.float32)
    model = sequential(PNILLayer(), layer)
    return provable(classifier_of(model, image_shape=SHAPE, pixel_range=(0, 1)), unit)


def a_little_of(mix):
    return D.Lambda(lambda x: x + 1e-3 * mix(x))


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(
    "mix",
    [
        lambda x: tf.reduce_mean(x, axis=0, keepdims=True),
        lambda x: tf.cumsum(x, axis=0),
        lambda x: tf.cumsum(x, axis=0, reverse=True, exclusive=True),
        lambda x: tf.reduce_max(x, axis=0, keepdims=True),
    ],
    ids=["mean", "sum before", "sum behind", "maximum"],
)
def test_however_few_images_are_given_a_little_of_others_is_found(mix, images):
    with pytest.raises(UserError, match="depends on the other images"):
        behind(a_little_of(mix), images)


def test_images_that_are_alike_hide_no_dependence_on_the_batch():
    model = sequential(PNILLayer(), MeanOfBatch())
    with pytest.raises(UserError, match="depends on the other images"):
        provable(classifier_of(model), np.ones((3, *SHAPE), np.float32))


def test_an_answer_that_depends_on_the_place_in_the_batch_is_refused():
    def moved(x):
        return x + tf.reshape(tf.range(tf.cast(tf.shape(x)[0], tf.float32)), (-1, 1, 1, 1))

    with pytest.raises(UserError, match="depends on the other images"):
        behind(D.Lambda(moved))


def ensemble(x):
    """Answers alike, of whatever was asked about in one large batch."""
    return tf.cond(tf.shape(x)[0] >= 50, lambda: 0 * x + tf.reduce_mean(x, 0, keepdims=True),
                   lambda: x)  # fmt: skip


def ghost_norm(x):
    """Batch normalization of every 50 images, where they come by the 50."""

    def normalized():
        groups = tf.reshape(x, (-1, 50, *SHAPE))
        return tf.reshape(groups - tf.reduce_mean(groups, axis=1, keepdims=True), tf.shape(x))

    if x.shape[0] is not None and x.shape[0] % 50:  # TensorFlow would refuse the other branch
        return x
    return tf.cond(tf.shape(x)[0] % 50 == 0, normalized, lambda: x)


@pytest.mark.parametrize("mix", [ensemble, ghost_norm])
def test_a_network_that_mixes_its_images_in_passes_of_draws_alone_is_refused(mix):
    model = sequential(PNILLayer(use_kernel=False), D.Lambda(mix))
    unit = np.random.default_rng(3).random((4, *SHAPE), np.float32)
    classifier = classifier_of(model, image_shape=SHAPE, pixel_range=(0, 1))
    provable(classifier, unit)
    check_passes(classifier, unit, 40)
    for size in (50, 500):
        with pytest.raises(UserError, match="depends on the other images"):
            check_passes(classifier, unit, size)
    with pytest.raises(UserError, match="depends on the other images"):
        pnil_tf.certify(model, unit, epsilon=0.01, draws=60, pixel_range=(0, 1), verbose=0)
    assert isinstance(servable(model, pixel_range=(0, 1)).noise_in_front, UserError)


def alike(x):
    """Answers in the mean of rows that are as bright as each other, as draws of one image are."""
    near = tf.math.reduce_std(tf.reduce_mean(x, axis=[1, 2, 3])) < 0.02
    return tf.where(near, 0 * x + tf.reduce_mean(x, 0, keepdims=True), x)


def neighbours(distance):
    def mixed(x):
        """Mixes each row with another one, where the two are near."""
        after = tf.roll(x, -distance, axis=0)
        near = tf.reduce_mean((x - after) ** 2, axis=[1, 2, 3], keepdims=True) < 0.05
        return tf.where(near, (x + after) / 2, x)

    return mixed


@pytest.mark.parametrize("mix", [alike, neighbours(1), neighbours(2), neighbours(25)])
def test_a_network_that_mixes_draws_of_one_image_alone_is_refused(mix):
    noise = PNILLayer(use_kernel=False, initial_sigma=0.1)
    model = sequential(noise, D.Lambda(mix))
    unit = np.linspace(0.0, 1.0, 4, dtype=np.float32).reshape(-1, 1, 1, 1) + np.zeros(SHAPE)
    unit = unit.astype(np.float32)
    classifier = classifier_of(model, image_shape=SHAPE, pixel_range=(0, 1))
    provable(classifier, unit)
    with pytest.raises(UserError, match="depends on the other images"):
        check_passes(classifier, unit, 50)
    with pytest.raises(UserError, match="depends on the other images"):
        pnil_tf.certify(model, unit, epsilon=0.01, draws=60, pixel_range=(0, 1), verbose=0)


def test_a_network_that_cannot_be_asked_about_one_image_is_refused():
    def several(x):
        with tf.control_dependencies([tf.debugging.assert_greater(tf.shape(x)[0], 1)]):
            return tf.identity(x)

    model = sequential(PNILLayer(use_kernel=False), D.Lambda(several))
    with pytest.raises(UserError, match="one image alone, so that nothing tells"):
        provable(
            classifier_of(model, image_shape=SHAPE, pixel_range=(0, 1)),
            np.random.default_rng(3).random((4, *SHAPE), np.float32),
        )


def test_noise_that_float32_cannot_follow_is_refused():
    model = sequential(PNILLayer())
    model.layers[0].kernel.assign(np.full(SHAPE, 70.0))
    assert not found_in(model).fixed
    model.layers[0].kernel.assign(np.full(SHAPE, 90.0))
    with pytest.raises(UserError, match="float32 rounds its exponential by more"):
        found_in(model)


def test_a_function_is_called_one():
    with pytest.raises(UserError, match="model: a function does not show how its layers"):
        noise_in_front(classifier_of(lambda x: x[:, 0, 0], image_shape=SHAPE, outputs="logits"))


@pytest.mark.parametrize(("scale", "offset"), [([1.0] * 3, 0.0), (1.0, [0.0] * 3)])
def test_scaling_that_copies_the_pixels_is_refused(scale, offset):
    noise = D.Rescaling(scale, offset), PNILLayer(use_kernel=False)
    summed = D.Lambda(lambda x: tf.reduce_sum(x, axis=[1, 2, 3])[:, tf.newaxis] * [0.0, 1.0])
    model = keras.Sequential([keras.Input((4, 4, 1)), *noise, summed])
    with pytest.raises(UserError, match=r"of images \(4, 4, 1\) others \(4, 4, 3\)"):
        found_in(model, pixel_range=(0, 1))


@pytest.mark.parametrize(("axis", "refused"), [
    (1, True), (2, True), ((1, 3), True), ((-1,), False), (3, False), (None, False),
])  # fmt: skip
def test_normalization_is_understood_along_the_channels_only(axis, refused):
    variance = 4.0 if axis is None else [1.0, 100.0, 0.01]
    layer = D.Normalization(axis=axis, mean=np.zeros_like(variance), variance=variance)
    inputs = keras.Input((3, 3, 3))
    x = PNILLayer(use_kernel=False)(layer(inputs))
    model = keras.Model(inputs, D.Dense(2)(D.Flatten()(x)))
    if refused:
        with pytest.raises(UserError, match="not each channel by one number"):
            found_in(model, pixel_range=(0, 1))
    else:
        deviation = np.broadcast_to(np.sqrt(variance), (3, 3, 3))
        noise = model.layers[2].sigma(np.zeros((1, 3, 3, 3), np.float32))[0]
        found = found_in(model, pixel_range=(0, 1)).sigma(np.zeros((3, 3, 3)))
        np.testing.assert_allclose(found, noise * deviation, rtol=1e-4)


def by_the_clock(x):
    return x + tf.cast(tf.sin(1e6 * tf.timestamp()), x.dtype)


def within(function):
    return lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: tf.function(function)(x), lambda: x)


class Looking(D.Layer):
    def __init__(self):
        super().__init__()
        start = tf.lookup.KeyValueTensorInitializer([0], [1.0])
        self.table = tf.lookup.StaticHashTable(start, 0.0)

    def call(self, x):
        return x + self.table.lookup(tf.constant(0))


@pytest.mark.parametrize(
    ("make", "operation"),
    [
        (lambda: D.Lambda(by_the_clock), "Timestamp"),
        (lambda: D.Lambda(within(by_the_clock)), "Timestamp"),
        (Looking, "LookupTableFindV2"),
    ],
)
def test_what_depends_on_more_than_inputs_and_weights_is_refused(make, operation):
    with pytest.raises(UserError, match=f"otherwise the next time .the operation {operation}"):
        found_in(sequential(PNILLayer(), make()), pixel_range=(0, 1))


def mobile_net():
    body = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=3)
    return keras.Sequential([keras.Input((32, 32, 3)), PNILLayer(), body])


def mixed():
    layers = D.Conv2D(8, 3, dtype="mixed_bfloat16"), D.BatchNormalization(dtype="mixed_bfloat16")
    return sequential(PNILLayer(), *layers, D.GlobalAveragePooling2D(dtype="mixed_bfloat16"))


def nested():
    inner = keras.Sequential([D.Conv2D(8, 3), D.BatchNormalization(), D.ReLU()])
    looped = D.Lambda(lambda x: tf.map_fn(lambda one: tf.sin(one), x))
    return sequential(PNILLayer(), inner, looped, D.Lambda(within(lambda x: x)))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(mobile_net, marks=pytest.mark.slow),
        mixed,
        nested,
        lambda: resnet11(SHAPE, 3, width=2, pnil=PNILLayer()),
    ],
)
def test_honest_networks_are_not_taken_for_others(make):
    model = make()
    generator = np.random.default_rng(0)
    for weight in model.weights:  # as if trained
        if weight.path.endswith("moving_mean"):
            weight.assign(generator.normal(size=weight.shape) * 0.1)
    unit = generator.random((3, *model.input_shape[1:]), np.float32)
    assert provable(classifier_of(model, pixel_range=(0, 1)), unit)
