"""PNILLayer: its contract as a Keras layer, then its numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer, SensitivityRegularizer
from pnil_tf.vocabulary import INITIAL_SIGMA


def random_layer(**arguments):
    """A layer with weights that are neither zero nor equal."""
    return PNILLayer(
        kernel_initializer=keras.initializers.RandomNormal(0.5, seed=1),
        bias_initializer=keras.initializers.RandomNormal(-1.0, 0.5, seed=2),
        **arguments,
    )


def images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


@pytest.mark.parametrize(
    ("per_channel", "shape"), [(False, (8, 9, 3)), (True, (3,))], ids=["pixelwise", "per_channel"]
)
def test_the_papers_layer_has_a_weight_and_a_bias_that_start_at_zero(per_channel, shape):
    layer = PNILLayer(per_channel=per_channel, bias_initializer="zeros")
    layer.build((None, 8, 9, 3))
    assert [weight.path.split("/")[-1] for weight in layer.trainable_weights] == ["kernel", "bias"]
    for weight in layer.weights:
        assert weight.shape == shape
        assert not np.any(weight)
    assert not layer.non_trainable_variables


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0, INITIAL_SIGMA])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("pixel_range", [(0, 1), (0, 255), (-3, 7)])
def test_the_noise_starts_as_the_asked_share_of_the_pixel_range(sigma, per_channel, pixel_range):
    asked = {} if sigma == INITIAL_SIGMA else {"initial_sigma": sigma}
    layer = PNILLayer(per_channel, pixel_range=pixel_range, **asked)
    low, width = pixel_range[0], pixel_range[1] - pixel_range[0]
    x = (low + width * images(20, 40, 40, 3)).astype(np.float32)
    noise = layer(x) - x
    np.testing.assert_allclose(layer.sigma(x), np.full(x.shape, sigma), rtol=1e-4)
    assert np.std(noise) == pytest.approx(width * sigma, rel=0.02)
    assert layer.kernel.shape == ((3,) if per_channel else (40, 40, 3))


@pytest.mark.parametrize("pixel_range", [(0, 255), (-1, 1), (-3.5, 0.25)])
@pytest.mark.parametrize("training", [False, True])
def test_a_layer_means_the_same_in_every_pixel_range(pixel_range, training):
    low, width = pixel_range[0], pixel_range[1] - pixel_range[0]
    unit, other = random_layer(), random_layer(pixel_range=pixel_range)
    u = images(4, 6, 5, 2)
    x = (low + width * u).astype(np.float32)
    with rng.noise_scope(1):
        expected = unit(u, training=training).numpy()
    with rng.noise_scope(1):
        found = other(x, training=training).numpy()
    np.testing.assert_allclose((found - low) / width, expected, atol=1e-5)
    np.testing.assert_allclose(other.log_variance(x), unit.log_variance(u), atol=1e-5)
    np.testing.assert_allclose(other.sigma(x), unit.sigma(u), atol=1e-5)


def test_gradients_in_another_range_are_those_of_the_unit_range():
    width = 8.0
    u, upstream = tf.constant(images(4, 3, 2)), images(4, 3, 2, seed=1)
    found = []
    for layer, x in ((random_layer(), u), (random_layer(pixel_range=(-2, 6)), -2 + width * u)):
        layer.build(x.shape)
        with tf.GradientTape() as tape, rng.noise_scope(1):
            tape.watch(x)
            value = tf.reduce_sum(upstream * layer(x, training=True))
        found.append(tape.gradient(value, [x, layer.kernel.value, layer.bias.value]))
    # d out / d x is the same share by share; W and B are shares, and out is in pixels.
    for unit, other, factor in zip(*found, (1.0, width, width), strict=True):
        np.testing.assert_allclose(other, factor * unit, rtol=1e-4, atol=1e-4)


def test_the_unit_range_changes_no_bit():
    layer, x = random_layer(), images(4, 6, 5, 2)
    with rng.noise_scope(1):
        found = layer(x)
    with rng.noise_scope(1):
        noise = rng.layer_noise(tf.constant(x.shape), False)
    half = 0.5 * layer.kernel * x + 0.5 * layer.bias
    np.testing.assert_array_equal(found, x + noise * tf.exp(half))


def test_a_layer_that_was_saved_before_there_were_ranges_is_loaded():
    old = PNILLayer(bias_initializer=keras.initializers.Constant(-4.0)).get_config()
    for name in ("initial_sigma", "pixel_range", "use_kernel", "sigma_floor"):
        del old[name]
    layer = PNILLayer.from_config(old)
    layer.build((None, 3))
    np.testing.assert_array_equal(layer.bias, np.full(3, -4.0))
    assert layer.pixel_range.is_unit
    assert layer.use_kernel


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_sigma": 0}, "initial_sigma=0"),
        ({"initial_sigma": float("nan")}, "initial_sigma=nan"),
        ({"initial_sigma": "large"}, "initial_sigma='large'"),
        ({"sigma_floor": -0.1}, "sigma_floor=-0.1"),
        ({"sigma_floor": INITIAL_SIGMA}, f"sigma_floor={INITIAL_SIGMA}"),
        ({"pixel_range": (255, 0)}, "smaller one first"),
        ({"pixel_range": 255}, "smaller one first"),
    ],
)
def test_what_is_no_start_or_no_range_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        PNILLayer(**arguments)


@pytest.mark.parametrize("shape", [(5,), (7, 5), (6, 7, 5), (3, 6, 7, 5)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_any_rank_keeps_its_shape(shape, per_channel):
    layer, x = PNILLayer(per_channel=per_channel), images(4, *shape)
    out = layer(x)
    assert out.shape == x.shape == layer.compute_output_shape(x.shape)
    assert not np.isclose(out, x).all()


def test_unknown_feature_sizes_need_per_channel():
    with pytest.raises(ValueError, match=r"Received: input_shape=\(None, None, 3\).*per_channel"):
        PNILLayer().build((None, None, 3))
    layer = PNILLayer(per_channel=True)
    layer.build((None, None, None, 3))
    assert layer(images(2, 4, 5, 3)).shape == (2, 4, 5, 3)
    assert layer(images(1, 7, 2, 3)).shape == (1, 7, 2, 3)
    with pytest.raises(ValueError, match="Received"):
        PNILLayer().build((3,))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float64"])
def test_any_numeric_input_is_taken(dtype):
    out = PNILLayer()(np.ones((2, 3), dtype))
    assert out.dtype == "float32"


def test_the_config_rebuilds_the_layer():
    layer = PNILLayer(
        per_channel=True,
        kernel_initializer=keras.initializers.Constant(0.5),
        bias_initializer=keras.initializers.Constant(-2.0),
        kernel_regularizer=keras.regularizers.L2(0.1),
        bias_regularizer=keras.regularizers.L1(0.2),
        kernel_constraint=keras.constraints.MaxNorm(3.0),
        bias_constraint=keras.constraints.NonNeg(),
        noise_at_inference=False,
        initial_sigma=0.5,
        pixel_range=(-1, 1),
        name="noisy",
    )
    again = PNILLayer.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.noise_at_inference is False
    assert again.pixel_range == PixelRange(-1, 1)
    again.build((None, 4))
    np.testing.assert_array_equal(again.bias, np.full(4, -2.0))
    assert isinstance(again.bias.constraint, keras.constraints.NonNeg)


def test_regularizers_count_as_losses():
    layer = PNILLayer(
        kernel_initializer="ones",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L1(0.5),
        bias_regularizer=keras.regularizers.L2(0.25),
    )
    layer(images(2, 3))
    assert sorted(float(loss) for loss in layer.losses) == [0.75, 1.5]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.noise = random_layer()
        self.head = keras.layers.Dense(2)

    def call(self, x, training=False):
        return self.head(self.noise(x, training=training))


def functional():
    inputs = keras.Input((5,))
    x = keras.layers.Dense(4)(random_layer()(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(random_layer()(x)))


def sequential():
    return keras.Sequential(
        [keras.Input((5,)), random_layer(), keras.layers.Dense(4), random_layer()]
    )


@pytest.mark.parametrize("make", [functional, sequential, Subclassed])
def test_every_kind_of_model_trains_and_predicts_with_noise(make):
    model, x = make(), images(16, 5)
    model.compile("sgd", "mse")
    before = [w.numpy() for w in model.weights] if model.built else None
    model.fit(x, np.ones((16, model(x).shape[-1])), epochs=1, verbose=0)
    if before is not None:
        for weight, value in zip(model.weights, before, strict=True):
            assert (weight.numpy() != value).any(), weight.path
    assert not np.isclose(model.predict(x, verbose=0), model.predict(x, verbose=0)).all()
    for batch in (1, 3):  # any batch, not the one it was built with
        assert model(x[:batch]).shape[0] == batch


@pytest.mark.parametrize("make", [functional, sequential])
def test_models_round_trip_through_keras_files(make, tmp_path):
    model, x = make(), images(3, 5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    with rng.noise_scope(1):
        expected = model(x).numpy()
    with rng.noise_scope(1):
        np.testing.assert_array_equal(again(x), expected)


def test_gaussian_noise_off_is_the_identity():
    layer, x = random_layer(), images(2, 5)
    with rng.noise_off():
        np.testing.assert_array_equal(layer(x, training=True), x)


def test_noise_at_inference_can_be_switched_off():
    layer, x = random_layer(noise_at_inference=False), images(2, 5)
    np.testing.assert_array_equal(layer(x, training=False), x)
    assert not np.isclose(layer(x, training=True), x).all()


@pytest.mark.parametrize("training", [False, True])
def test_noise_is_fresh_at_every_call(training):
    layer, x = random_layer(), images(2, 50)
    compiled = tf.function(lambda x: layer(x, training=training))
    for call in (lambda x: layer(x, training=training), compiled):
        assert not np.isclose(call(x), call(x)).any()
    assert not np.isclose(layer(x)[0] - x[0], layer(x)[1] - x[1]).all()


def test_a_scope_repeats_the_noise_and_two_layers_differ():
    x = tf.zeros((2, 50))
    layers = [PNILLayer(), PNILLayer()]
    with rng.noise_scope(3):
        first, second = (layer(x).numpy() for layer in layers)
    assert not np.isclose(first, second).any()
    with rng.noise_scope(3):
        np.testing.assert_array_equal(layers[0](x), first)
        np.testing.assert_array_equal(layers[1](x), second)


def test_a_function_traced_inside_a_scope_warns_and_stays_fresh():
    layer = PNILLayer()
    layer.build((None, 50))
    compiled, x = tf.function(layer), tf.zeros((2, 50))
    with rng.noise_scope(1), pytest.warns(UserWarning, match="Open the scope inside"):
        first = compiled(x)
    assert not np.isclose(first, compiled(x)).any()


def test_under_a_global_seed_training_repeats_and_inference_does_not():
    layer, x = PNILLayer(), tf.zeros((2, 50))
    drawn = {True: [], False: []}
    for training, draws in drawn.items():
        for _ in range(2):
            keras.utils.set_random_seed(1)
            draws.append(layer(x, training=training).numpy())
    np.testing.assert_array_equal(*drawn[True])
    assert not np.isclose(*drawn[False]).any()


@pytest.mark.parametrize("options", [{}, {"use_kernel": False}, {"sigma_floor": 0.1}], ids=str)
def test_float64_computes_noise_in_float32(options):
    layer, usual = (PNILLayer(dtype=dtype, **options) for dtype in ("float64", "float32"))
    x = images(4, 6)
    with rng.noise_scope(3):
        found = layer(x)
    with rng.noise_scope(3):
        expected = usual(x)
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_noise_in_float32(policy):
    layer, x = random_layer(dtype=policy), images(4, 6)
    with rng.noise_scope(1):
        mixed = layer(x)
    plain = PNILLayer()
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    with rng.noise_scope(1):
        expected = plain(x)
    assert mixed.dtype == policy.removeprefix("mixed_")
    assert layer.kernel.dtype == layer.sigma(x).dtype == layer.log_variance(x).dtype == "float32"
    coarse = tf.cast(tf.cast(x, mixed.dtype), tf.float32)
    np.testing.assert_allclose(tf.cast(mixed, tf.float32), expected, atol=0.05)
    with rng.noise_off():
        np.testing.assert_array_equal(tf.cast(layer(x), tf.float32), coarse)


def test_the_largest_noise_of_float16_is_finite_in_float32():
    # exp(Sigma) itself would overflow float16 here; its root, the noise's size, does not.
    layer = PNILLayer(bias_initializer=keras.initializers.Constant(14.0), dtype="mixed_float16")
    assert np.isfinite(layer(np.zeros((2, 3), np.float32))).all()
    np.testing.assert_allclose(layer.sigma(np.zeros((1, 3))), np.exp(7.0), rtol=1e-5)


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_empirical_noise_has_the_formulas_moments(per_channel):
    draws = 40_000
    layer, x = random_layer(per_channel=per_channel), images(1, 2, 2, 3)
    with rng.noise_scope(1):
        noise = layer(np.repeat(x, draws, axis=0)).numpy() - x
    log_variance = x[0] * layer.kernel.numpy() + layer.bias.numpy()
    sigma = np.exp(log_variance / 2)
    np.testing.assert_allclose(layer.log_variance(x)[0], log_variance, rtol=1e-6)
    np.testing.assert_allclose(layer.sigma(x)[0], sigma, rtol=1e-6)
    # The standard error of an empirical deviation is sigma / sqrt(2 n).
    np.testing.assert_allclose(noise.std(axis=0), sigma, rtol=5 / np.sqrt(2 * draws))
    assert (np.abs(noise.mean(axis=0)) < 5 * sigma / np.sqrt(draws)).all()
    flat = (noise / sigma).reshape(draws, -1)
    correlation = np.corrcoef(flat, rowvar=False) - np.eye(flat.shape[1])
    assert np.abs(correlation).max() < 5 / np.sqrt(draws)


@pytest.mark.parametrize("per_channel", [False, True])
def test_gradients_are_those_of_the_reparameterisation(per_channel):
    layer, x = random_layer(per_channel=per_channel), images(4, 3, 2)
    layer.build(x.shape)
    with rng.noise_scope(1):
        z = rng.layer_noise(tf.constant(x.shape), True).numpy()
    inputs, upstream = tf.constant(x), images(4, 3, 2, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        with rng.noise_scope(1):
            value = tf.reduce_sum(upstream * layer(inputs, training=True))
    by_x, by_w, by_b = tape.gradient(value, [inputs, layer.kernel.value, layer.bias.value])
    half = upstream * z * layer.sigma(x).numpy() / 2  # d out / d Sigma = z exp(Sigma / 2) / 2
    axes = (0, 1) if per_channel else (0,)
    np.testing.assert_allclose(by_b, half.sum(axes), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_w, (half * x).sum(axes), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_x, upstream + half * layer.kernel.numpy(), rtol=1e-4, atol=1e-5)


def test_without_a_kernel_the_noise_is_the_same_for_every_image():
    layer = PNILLayer(use_kernel=False, bias_initializer=keras.initializers.RandomNormal(-1.0, 0.5))
    x = images(5, 4, 3, 2)
    layer.build(x.shape)
    np.testing.assert_allclose(layer.log_variance(x), np.broadcast_to(layer.bias, x.shape))
    assert [weight.path.split("/")[-1] for weight in layer.trainable_weights] == ["bias"]
    assert layer.kernel is None


def test_whether_there_is_a_kernel_is_said_by_true_or_false():
    with pytest.raises(UserError, match=r"use_kernel='no'. Pass use_kernel=False"):
        PNILLayer(use_kernel="no")
    layer = PNILLayer(use_kernel=np.False_)
    assert layer.get_config()["use_kernel"] is False


@pytest.mark.parametrize("use_kernel", [False, True])
@pytest.mark.parametrize("pixel_range", [(0, 1), (-3, 7)])
def test_a_floor_is_added_to_the_variance_and_leaves_the_start(use_kernel, pixel_range):
    floor, x = 0.2, images(3, 6)
    layer = PNILLayer(
        use_kernel=use_kernel, sigma_floor=floor, initial_sigma=0.5, pixel_range=pixel_range
    )
    layer.build(x.shape)
    np.testing.assert_allclose(layer.sigma(x), np.full((3, 6), 0.5), rtol=1e-5)
    layer.bias.assign(np.array([-60, -4, -2, 0, 1, 3], np.float32))
    expected = np.sqrt(floor**2 + np.exp(layer.bias))
    np.testing.assert_allclose(layer.sigma(x)[0], expected, rtol=1e-5)
    np.testing.assert_allclose(layer.log_variance(x)[0], 2 * np.log(expected), rtol=1e-5)


def test_the_penalty_is_the_logarithm_of_the_sensitivity():
    sigma = np.array([0.1, 0.5, 2.0], np.float32)
    expected = np.log(np.sqrt((1 / sigma**2).sum()))
    assert float(SensitivityRegularizer(0.3)(np.log(sigma**2))) == pytest.approx(0.3 * expected)
    floor = 0.4
    expected = np.log(np.sqrt((1 / (sigma**2 + floor**2)).sum()))
    penalty = SensitivityRegularizer(2.0, floor)(np.log(sigma**2))
    assert float(penalty) == pytest.approx(2.0 * expected)
    layer = PNILLayer(use_kernel=False, bias_regularizer=SensitivityRegularizer(0.3))
    layer(images(2, 3))
    assert len(layer.losses) == 1
    with pytest.raises(UserError, match=r"no image changes.*Pass use_kernel=False"):
        PNILLayer(bias_regularizer=SensitivityRegularizer(0.3))
    with pytest.raises(UserError, match=r"0\.1 in the regularizer, sigma_floor=0 in the layer"):
        PNILLayer(use_kernel=False, bias_regularizer=SensitivityRegularizer(0.3, 0.1))
    with pytest.raises(UserError, match=r"sigma_floor=-0\.1"):
        SensitivityRegularizer(0.3, -0.1)


def test_a_layer_without_a_kernel_is_saved_and_loaded(tmp_path):
    layer = PNILLayer(
        use_kernel=False,
        sigma_floor=0.1,
        initial_sigma=0.5,
        bias_regularizer=SensitivityRegularizer(0.3, 0.1),
    )
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert again.get_config() == layer.get_config()
    assert again.bias_regularizer.get_config() == {"factor": 0.3, "sigma_floor": 0.1}
    np.testing.assert_array_equal(again.bias, layer.bias)
