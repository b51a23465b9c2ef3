"""An exported classifier answers as the model does, with noise that nobody can foresee."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from served_models import CLASSES, SHAPE, load, noise_layer, noisy, offered, sequential

from pnil_tf import rng
from pnil_tf.errors import RunFailedError, UserError
from pnil_tf.evaluation.runner import evaluate
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.target import as_target
from pnil_tf.runs.load import load_model
from pnil_tf.serving import saved_model
from pnil_tf.serving.monte_carlo import MAX_DRAWS, monte_carlo
from pnil_tf.serving.record import Record
from pnil_tf.serving.saved_model import export_saved_model
from pnil_tf.training.model import AdversarialModel

X = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype(np.uint8)
IMAGES = tf.constant(X / np.float32(255))
SEED = tf.constant(7, tf.int64)
CLIENT = Path(__file__).with_name("serve_check.py")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)  # must not end up in the export
    return noisy()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return export_saved_model(model, tmp_path_factory.mktemp("served") / "1")


@pytest.fixture
def served(path):
    return load(path)


def export(model, tmp_path, **arguments):
    return load(export_saved_model(model, tmp_path / "m", **arguments))


def differ(a, b):
    return not np.isclose(a, b, atol=1e-6).all(axis=-1).any()


def test_a_process_that_has_tensorflow_alone(tmp_path):
    model = sequential(noise_layer(0.5))
    path = export_saved_model(model, tmp_path / "1")
    served = load(path)
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", np.zeros(len(X), np.int64))
    arguments = [path, tmp_path / "x.npy", tmp_path / "y.npy", tmp_path / "answers.npz"]
    result = subprocess.run(
        [sys.executable, "-I", CLIENT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["got_in"] == []
    found = np.load(tmp_path / "answers.npz")
    images, draws = IMAGES[:4], tf.constant(16)
    with rng.noise_scope(7, frozen=True):
        expected = model(images, training=False)
    np.testing.assert_allclose(found["seeded/logits"], expected, atol=1e-5)
    # This process, which has loaded the same file, draws other noise unless the seed is given.
    here = served["serving_default"](images=images)["logits"]
    for name in ("serving_default", "serving_uint8", "serving_bytes"):
        assert differ(here, found[f"{name}/logits"]), name
    name = "mean_probabilities"
    many = served["monte_carlo"](images=images, draws=draws)
    assert differ(many[name], found[f"monte_carlo/{name}"])
    proved = served["certified"](images=images, draws=draws)
    assert json.loads((path / "assets" / "certificate.json").read_text())["alpha"] == 0.001
    assert set(proved) == {"class", "radius_linf", "radius_l2", "p_low"}
    assert (proved["p_low"] != found["certified/p_low"]).any()
    many = served["monte_carlo_seeded"](images=images, draws=draws, seed=SEED)
    for key, value in many.items():
        np.testing.assert_allclose(value, found[f"monte_carlo_seeded/{key}"], atol=1e-6)


def test_every_call_and_every_image_has_noise_of_its_own(served):
    same = tf.repeat(IMAGES[:1], 5, axis=0)
    logits = [served["serving_default"](images=same)["logits"] for _ in range(2)]
    rows = np.concatenate(logits)
    assert len(np.unique(rows.round(5), axis=0)) == len(rows)


@pytest.mark.parametrize("stock", [False, True], ids=["PNIL", "stock layers"])
@pytest.mark.parametrize("name", ["seeded", "monte_carlo_seeded"])
def test_a_seeded_answer_is_the_same_in_every_batch(name, stock, served):
    if stock:
        layers = [keras.Input(SHAPE), Twice(0.5), keras.layers.Flatten()]
        layers += [Twice(0.5), keras.layers.Dense(CLASSES)]
        served = offered(keras.Sequential(layers), pixel_range=(0, 1))
    words = {"seed": SEED} | ({"draws": tf.constant(3)} if "monte" in name else {})
    many = tf.concat([IMAGES] * 6 + [IMAGES[:1]], axis=0)
    among = served[name](images=many, **words)
    for place in (0, 5, 17, 36):
        alone = served[name](images=many[place : place + 1], **words)
        for key, value in alone.items():
            np.testing.assert_allclose(among[key][place], value[0], rtol=1e-5, atol=1e-6)
    other = served[name](images=many, **(words | {"seed": SEED + 1}))
    first = next(key for key in among if "probabilities" in key)
    assert differ(among[first], other[first])


@pytest.mark.parametrize("value", [1e30, -1e30, 2.1, np.nan])
def test_all_signatures_agree_on_which_images_have_no_class(value, served):
    images = IMAGES.numpy()
    images[1, 0, 0, 0] = value
    images[2, 0, 0, 0] = 1.9
    words = {"images": tf.constant(images)}
    many, seed = {"draws": tf.constant(2)}, {"seed": SEED}
    for name, others in (
        ("serving_default", {}),
        ("monte_carlo", many),
        ("seeded", seed),
        ("monte_carlo_seeded", {**many, **seed}),
    ):
        classes = served[name](**words, **others)["class"]
        assert (classes == -1).tolist() == [False, True, False, False, False, False], name


def test_noise_layers_draw_independently():
    """Twice the same noise, one subtracted from the other, would vanish."""
    inputs = keras.Input(SHAPE)
    noise = [noise_layer(1.0)(inputs) for _ in range(2)]
    outputs = keras.layers.Flatten()(keras.layers.Subtract()(noise))
    model = keras.Model(inputs, outputs)
    served = offered(model)
    for answer in (
        served["serving_default"](images=IMAGES),
        served["seeded"](images=IMAGES, seed=SEED),
    ):
        assert answer["logits"].std() == pytest.approx(2**0.5, rel=0.2)


def test_the_mean_over_1000_draws_is_the_models(model, served):
    count = 1000
    exported = served["monte_carlo"](images=IMAGES, draws=tf.constant(count))
    draws = tf.function(lambda: tf.nn.softmax(model(IMAGES, training=False)))
    own = np.stack([draws().numpy() for _ in range(count)])
    error = np.sqrt((own.var(axis=0) + exported["standard_deviation"] ** 2) / count)
    assert (np.abs(own.mean(axis=0) - exported["mean_probabilities"]) < 5 * error).all()
    np.testing.assert_allclose(own.std(axis=0), exported["standard_deviation"], rtol=0.2)


def test_monte_carlo_is_the_statistics_of_its_draws(model, served):
    count = 20
    answer = served["monte_carlo_seeded"](images=IMAGES, draws=tf.constant(count), seed=SEED)
    probabilities = []
    for number in range(count):
        with rng.noise_scope(rng.fold(rng.make_seed(7), number), frozen=True):
            probabilities.append(tf.nn.softmax(model(IMAGES, training=False)).numpy())
    p = np.stack(probabilities).astype(np.float64)
    mean = p.mean(axis=0)
    votes = np.stack([(p.argmax(axis=2) == c).sum(axis=0) for c in range(CLASSES)], axis=1)
    chosen = (votes + mean).argmax(axis=1)
    np.testing.assert_allclose(answer["mean_probabilities"], mean, atol=1e-5)
    np.testing.assert_allclose(answer["standard_deviation"], p.std(axis=0, ddof=1), atol=1e-5)
    entropy = -(mean * np.log(mean)).sum(axis=1)
    np.testing.assert_allclose(answer["predictive_entropy"], entropy, rtol=1e-4)
    np.testing.assert_array_equal(answer["class"], chosen)
    np.testing.assert_allclose(answer["agreement"], (p.argmax(axis=2) == chosen).mean(axis=0))


def test_the_class_is_that_of_most_draws_and_of_equals_the_more_probable():
    often = [[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]]  # two draws of three are for 0, their mean for 1
    equal = [[0.6, 0.4], [0.1, 0.9], [np.nan, np.nan]]
    for draws, chosen, share in ((often, 0, 2 / 3), (equal[:2], 1, 1 / 2), (equal, -1, 0)):
        found = monte_carlo(
            lambda number, draws=draws: tf.gather(tf.constant([draws]), number, axis=1),
            tf.constant(len(draws)),
            1,
            2,
        )
        assert found["class"].numpy().tolist() == [chosen]
        np.testing.assert_allclose(found["agreement"], [share])


def test_one_draw_has_no_scatter(served):
    answer = served["monte_carlo"](images=IMAGES, draws=tf.constant(1))
    assert not answer["standard_deviation"].any()
    assert (answer["agreement"] == 1).all()


def test_monte_carlo_keeps_no_draw(path):
    """Memory that grew with the draws would show as a list of tensors in the graph."""
    graph = tf.saved_model.load(str(path)).signatures["monte_carlo"].graph.as_graph_def()
    nodes = [node for function in graph.library.function for node in function.node_def]
    assert not [node.name for node in nodes if node.op.startswith("TensorList")]
    loops = [node for node in nodes if node.op in ("While", "StatelessWhile")]
    assert [loop.attr["parallel_iterations"].i for loop in loops] == [1]


@pytest.mark.parametrize("seed", [0, 5, 2**31 - 1, 2**31, 2**40 + 3, 2**62, 2**63 - 1])
def test_a_seed_in_a_graph_is_the_seed_outside_it(seed):
    found = tf.function(rng.seed_of)(tf.constant(seed, tf.int64))
    np.testing.assert_array_equal(found, rng.make_seed(seed))


def test_quiet_models_answer_alike_to_all_kinds_of_images(tmp_path):
    model = sequential(noise_layer(0.5, noise_at_inference=False))
    served = export(model, tmp_path)
    answers = [
        served["serving_default"](images=IMAGES),
        served["serving_uint8"](images=tf.constant(X)),
        served["serving_bytes"](image_bytes=tf.stack([tf.io.encode_png(x) for x in X])),
        served["seeded"](images=IMAGES, seed=SEED),
    ]
    logits = model(IMAGES).numpy()
    for answer in answers:
        np.testing.assert_allclose(answer["logits"], logits, atol=1e-5)
        np.testing.assert_allclose(answer["probabilities"], tf.nn.softmax(logits), atol=1e-5)
        np.testing.assert_array_equal(answer["class"], logits.argmax(axis=1))
    summary = served["monte_carlo"](images=IMAGES, draws=tf.constant(3))
    np.testing.assert_allclose(summary["standard_deviation"], 0, atol=1e-6)


def test_a_softmax_at_the_end_leaves_the_logits():
    model = sequential()
    model.add(keras.layers.Softmax())
    answer = offered(model)["serving_default"](images=IMAGES)
    np.testing.assert_allclose(answer["probabilities"], model(IMAGES), atol=1e-5)


def test_a_model_that_resizes_by_area_is_served_though_it_has_no_gradient():
    model = sequential(keras.layers.Resizing(14, 14, interpolation="area"))
    answer = offered(model)["serving_default"](images=IMAGES)
    np.testing.assert_allclose(answer["logits"], model(IMAGES), atol=1e-5)


@pytest.fixture(scope="module")
def convolved(tmp_path_factory):
    """Convolutions, which are harder to please than dense layers."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            noise_layer(0.3),
            layers.Conv2D(16, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    return load(export_saved_model(model, tmp_path_factory.mktemp("convolved") / "1"))


@pytest.mark.parametrize("kind", ["served", "convolved"])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_batches_of_any_size(kind, count, request):
    served, images = request.getfixturevalue(kind), IMAGES[:count]
    assert served["serving_default"](images=images)["logits"].shape == (count, CLASSES)
    answer = served["monte_carlo"](images=images, draws=tf.constant(2))
    assert answer["mean_probabilities"].shape == (count, CLASSES)
    assert answer["class"].shape == (count,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3.0])
@pytest.mark.parametrize("kind", ["served", "convolved"])
def test_an_image_that_is_not_finite_has_no_class_and_harms_no_other(kind, value, request):
    served, images = request.getfixturevalue(kind), IMAGES.numpy()
    images[0, 3, 3, 0] = value  # one pixel is enough
    single = served["serving_default"](images=tf.constant(images))
    many = served["monte_carlo"](images=tf.constant(images), draws=tf.constant(3))
    for answer, probabilities in (single, "probabilities"), (many, "mean_probabilities"):
        assert answer["class"][0] == -1
        assert np.isnan(answer[probabilities][0]).all()
        assert (answer["class"][1:] >= 0).all()
        assert np.isfinite(answer[probabilities][1:]).all()
    assert many["agreement"][0] == 0


@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 9, 8, 1), (2, 8, 8, 3), (1, 2, 8, 8, 1)])
@pytest.mark.parametrize("signature", ["serving_default", "serving_uint8", "monte_carlo", "seeded"])
def test_images_of_another_shape_are_refused(convolved, signature, shape):
    images = tf.zeros(shape, tf.uint8 if signature == "serving_uint8" else tf.float32)
    others = {"monte_carlo": {"draws": tf.constant(2)}, "seeded": {"seed": SEED}}
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected"):
        convolved[signature](images=images, **others.get(signature, {}))


@pytest.mark.parametrize("draws", [0, -1, MAX_DRAWS + 1])
def test_numbers_of_draws_that_are_refused(served, draws):
    with pytest.raises(tf.errors.InvalidArgumentError, match="number of draws must be"):
        served["monte_carlo"](images=IMAGES, draws=tf.constant(draws))


def test_a_negative_seed_is_refused(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="seed must be"):
        served["seeded"](images=IMAGES, seed=-SEED)


def coloured(height, width):
    return tf.constant(np.random.default_rng(1).integers(0, 256, (height, width, 3)), tf.uint8)


def test_encoded_images_become_grey_and_keep_their_size():
    served = offered(sequential())
    files = [tf.io.encode_png(coloured(8, 8)), tf.io.encode_jpeg(coloured(8, 8))]
    grey = tf.stack([tf.io.decode_image(file, channels=1) for file in files])
    np.testing.assert_allclose(
        served["serving_bytes"](image_bytes=tf.stack(files))["logits"],
        served["serving_uint8"](images=grey)["logits"],
        atol=1e-6,
    )


def test_encoded_images_are_resized_where_training_did():
    from pnil_tf.data.resizing import resize

    served = offered(sequential(), resized=True)
    images = [coloured(30, 20)[..., :1], tf.constant(X[0])]
    answer = served["serving_bytes"](image_bytes=[tf.io.encode_png(image) for image in images])
    small = tf.stack([resize(image, (8, 8)) for image in images])
    np.testing.assert_array_equal(small[1], X[0])
    expected = served["serving_uint8"](images=small)["logits"]
    np.testing.assert_allclose(answer["logits"], expected, atol=1e-6)


def test_many_channels_have_no_files():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    assert "serving_bytes" not in offered(model)


class StockNoise(keras.layers.Layer):
    """Random at inference, from a state, as Keras' own layers are in training."""

    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(tf.shape(x), seed=self.generator)


def test_stock_noise_is_fresh_in_every_load_and_repeats_by_seed(tmp_path):
    """It would replay from the state it was saved with."""
    model = sequential(StockNoise())
    first = export(model, tmp_path)
    second = load(tmp_path / "m")
    fresh = [served["serving_default"](images=IMAGES)["logits"] for served in (first, second)]
    assert differ(*fresh)
    seeded = [served["seeded"](images=IMAGES, seed=SEED)["logits"] for served in (first, second)]
    np.testing.assert_array_equal(*seeded)


class Twice(keras.layers.Dropout):
    """Draws twice at a call, and never rests."""

    def call(self, x):
        return super().call(super().call(x, training=True), training=True)


def test_stock_layers_that_draw_repeatedly_share_nothing():
    # A second draw of the first layer must not be the first one of the second layer.
    first, second = Twice(0.5), Twice(0.5)
    images = keras.Input(SHAPE)
    answers = [keras.layers.Flatten()(layer(images)) for layer in (first, second)]
    model = keras.Model(images, keras.layers.Concatenate()(answers))
    served = offered(model, image_shape=SHAPE, pixel_range=(0, 1))
    drawn = served["serving_default"](images=tf.ones([400, *SHAPE]))["logits"]
    one, other = np.split(drawn > 0, 2, axis=1)
    # A pixel passes two draws of a half: a quarter of the time. Both pass 1 in 16 times if they
    # are independent, and 1 in 8 times if they have a draw in common.
    assert (one & other).mean() == pytest.approx(1 / 16, abs=0.01)


def test_dropout_rests():
    model = sequential(keras.layers.Dropout(0.5))
    answer = offered(model)["serving_default"](images=IMAGES)
    np.testing.assert_allclose(answer["logits"], model(IMAGES), atol=1e-5)


class Foreign(keras.layers.Layer):
    """Noise of a kind this package knows nothing of."""

    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


def test_foreign_noise_is_fresh_in_every_load_and_promises_no_repetition(tmp_path):
    first = export(sequential(Foreign()), tmp_path)
    second = load(tmp_path / "m")
    fresh = [served["serving_default"](images=IMAGES)["logits"] for served in (first, second)]
    assert differ(*fresh)
    assert set(first) == {"serving_default", "serving_uint8", "serving_bytes", "monte_carlo"}


class Counting(keras.layers.Layer):
    """Noise that follows the number of the call."""

    def __init__(self):
        super().__init__()
        self.calls = self.add_weight(shape=(), dtype="int32", trainable=False)

    def call(self, x):
        self.calls.assign_add(1)
        return x + tf.random.stateless_normal(tf.shape(x), tf.stack([self.calls.value, 7]))


def test_noise_that_counts_the_calls_goes_on_beside_stock_layers(tmp_path):
    served = export(sequential(Counting(), keras.layers.Dropout(0.5)), tmp_path)
    first, second = (served["serving_default"](images=IMAGES)["logits"] for _ in range(2))
    assert differ(first, second)


def test_the_evaluation_attacks_the_exported_model(path, tmp_path):
    results = evaluate(
        load_model(path).model,
        X,
        np.arange(len(X), dtype=np.int32) % CLASSES,
        EvaluationSettings(epsilon=0.1, attacks=("pgd",), steps=2, eot_samples=2, checks=False),
        tmp_path / "evaluation",
        pixel_range=(0, 1),
    )
    assert results["model"]["stochastic"]
    assert results["model"]["outputs"] == "logits"


def test_gradients_pass_through_the_exported_model(tmp_path):
    model = sequential(noise_layer(0.5, noise_at_inference=False))
    export_saved_model(model, tmp_path / "m")
    predict = as_target(load_model(tmp_path / "m").model, IMAGES.numpy()).predict

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(IMAGES)
            loss = tf.reduce_sum(tf.nn.softmax(function(IMAGES))[:, 0])
        return tape.gradient(loss, IMAGES).numpy()

    assert np.abs(gradient(model)).max() > 1e-3
    np.testing.assert_allclose(gradient(predict), gradient(model), atol=1e-6)


def test_gradients_pass_through_the_noise(path):
    predict = as_target(load_model(path).model, IMAGES.numpy()).predict
    gradients = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(IMAGES)
            loss = tf.reduce_sum(tf.nn.softmax(predict(IMAGES))[:, 0])
        gradients.append(tape.gradient(loss, IMAGES).numpy())
    assert np.abs(gradients[0]).max() > 1e-3
    assert differ(*(gradient.reshape(len(X), -1) for gradient in gradients))


def test_what_travels_with_the_model(model, tmp_path):
    names = ["a", "b\n", "<c>", "d|"]
    path = export_saved_model(model, tmp_path / "m", class_names=names)
    loaded = tf.saved_model.load(str(path))
    assert json.loads(Path(loaded.class_names.asset_path.numpy().decode()).read_text()) == names
    steps = json.loads(Path(loaded.preprocessing.asset_path.numpy().decode()).read_text())
    assert steps["image_shape"] == list(SHAPE)
    for file in path.rglob("*"):
        if file.is_file():
            assert str(tmp_path).encode() not in file.read_bytes()
            assert b"pnil_tf_" not in file.read_bytes()  # the folder the assets were made in


def test_a_wrapper_gives_its_classifier():
    classifier = sequential()
    served = offered(AdversarialModel(classifier, "fgsm", 0.1))
    answer = served["serving_default"](images=IMAGES)
    np.testing.assert_allclose(answer["logits"], classifier(IMAGES), atol=1e-5)


def test_an_export_is_replaced_only_when_asked_and_only_by_a_whole_one(tmp_path, monkeypatch):
    path = export_saved_model(sequential(), tmp_path / "m")
    before = (path / "saved_model.pb").read_bytes()
    with pytest.raises(UserError, match="There is an export already"):
        export_saved_model(sequential(), path)

    def fail(classifier, folder):
        assert (folder / "saved_model.pb").exists()
        raise RunFailedError("as if it answered otherwise")

    with monkeypatch.context() as patch:
        patch.setattr(saved_model, "_check", fail)
        with pytest.raises(RunFailedError, match="as if"):
            export_saved_model(noisy(), path, overwrite=True)
        with pytest.raises(RunFailedError, match="as if"):
            export_saved_model(noisy(), tmp_path / "new")
    assert (path / "saved_model.pb").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
    export_saved_model(noisy(), path, overwrite=True)
    assert (path / "saved_model.pb").read_bytes() != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_a_file_is_no_place_for_an_export(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"/file/1', but '.*/file' is a file"):
        export_saved_model(noisy(), tmp_path / "file" / "1")


def test_what_is_no_export_is_never_replaced(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(UserError, match="place of an earlier export"):
        export_saved_model(sequential(), tmp_path, overwrite=True)
    with pytest.raises(UserError, match="/precious', which is a file"):
        export_saved_model(sequential(), tmp_path / "precious", overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious"]


def test_an_export_that_answers_otherwise_is_refused(tmp_path):
    class Forgetful(keras.layers.Layer):
        def call(self, x):
            return x if tf.executing_eagerly() else 0.0 * x

    with pytest.raises(RunFailedError, match="differ from the model"):
        export_saved_model(sequential(Forgetful()), tmp_path / "m", pixel_range=(0, 1))
    assert not list(tmp_path.iterdir())


class Stateful(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.hidden = [tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)]

    def call(self, x):
        return x + self.hidden[0].lookup(tf.constant(1, tf.int64))

    def compute_output_shape(self, shape):
        return shape


def pictures():
    """Answers with images."""
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(2, 3)])


def bytewise():
    pixels = keras.Input(SHAPE, dtype="uint8")
    return keras.Model(pixels, sequential()(keras.layers.Rescaling(1 / 255)(pixels)))


def several_labels():
    images = keras.Input(SHAPE)
    return keras.Model(images, keras.layers.Dense(4, "sigmoid")(keras.layers.Flatten()(images)))


@pytest.mark.parametrize("epochs", [0, 1])
def test_the_averaged_classifier_is_served(epochs, tmp_path):
    training = AdversarialModel(sequential(), "nfgsm", 0.1, weight_averaging=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    training.compile(keras.optimizers.Adam(0.1), loss)
    for _ in range(epochs):
        training.fit(IMAGES, np.arange(len(X)) % CLASSES, batch_size=2, verbose=0)
    served = export(training, tmp_path)["serving_default"](images=IMAGES)["logits"]
    np.testing.assert_allclose(served, training.averaged_classifier()(IMAGES), atol=1e-5)
    assert np.allclose(served, training.classifier(IMAGES), atol=1e-3) == (not epochs)


def growing():
    return keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(name="pool")]
    )


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        (lambda: "runs/name", {}, "Received: str"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), {}, "Call it on a batch first"),
        (growing, {}, "Pass image_shape"),
        (
            lambda: keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(2, 3)]),
            {},
            r"one row of numbers for each image\. Received: shape \(4, 6, 6, 2\)",
        ),
        (sequential, {"class_names": ["one"]}, "1 names for 4 classes"),
        (sequential, {"class_names": "abcd"}, "Received: str. Give a list"),
        (sequential, {"class_names": set("abcd")}, "Received: set. Give a list"),
        (bytewise, {}, "whose input is uint8"),
        (several_labels, {}, "ends in 4 sigmoids"),
        (lambda: sequential(Stateful()), {}, "cannot be saved"),
    ],
)
def test_models_that_cannot_be_exported(tmp_path, model, arguments, words):
    with pytest.raises(UserError, match=words):
        export_saved_model(model(), tmp_path / "m", **arguments)
    assert not list(tmp_path.iterdir())


def test_the_size_of_images_can_be_said():
    served = offered(growing(), image_shape=(5, 6, 3), outputs="logits")
    answer = served["serving_default"](images=tf.ones([2, 5, 6, 3]))
    np.testing.assert_allclose(answer["logits"], np.ones([2, 3]), atol=1e-6)


def test_an_export_leaves_the_seed_of_the_process_alone(tmp_path):
    def drawn(work):
        tf.random.set_seed(3)
        first = tf.random.normal([4])
        work()
        return first.numpy(), tf.random.normal([4]).numpy()

    calm = drawn(lambda: None)
    busy = drawn(lambda: export_saved_model(noisy(), tmp_path / "1"))
    np.testing.assert_array_equal(calm, busy)


def test_an_export_within_a_noise_scope_is_refused(tmp_path):
    with rng.noise_off(), pytest.raises(UserError, match="within a noise scope"):
        export_saved_model(noisy(), tmp_path / "m")


def test_a_record_is_completed(tmp_path):
    record = Record(name="mine", class_names=tuple("abcd"))
    path = export_saved_model(noisy(), tmp_path / "1", record=record, class_names=list("wxyz"))
    assert json.loads((path / "assets" / "class_names.json").read_text()) == list("wxyz")
    assert "# mine" in (path / "model_card.md").read_text()


def test_a_link_leads_to_the_export(tmp_path):
    old = export_saved_model(sequential(), tmp_path / "v1")
    (tmp_path / "current").symlink_to(old)
    export_saved_model(noisy(), tmp_path / "current", overwrite=True)
    assert (tmp_path / "current").is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["current", "v1"]
    images = load(old)["serving_default"]
    assert differ(*(images(images=IMAGES)["logits"] for _ in range(2)))


def test_op_determinism_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rng, "op_determinism", lambda: True)
    with pytest.raises(UserError, match="op determinism"):
        export_saved_model(noisy(), tmp_path / "m")
