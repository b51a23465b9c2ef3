"""ONNX models have fresh noise and the model's means, or say why not."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from served_models import CLASSES, SHAPE, noise_layer, noisy, sequential

from pnil_tf import rng
from pnil_tf.errors import UserError
from pnil_tf.serving import onnx_model
from pnil_tf.serving.onnx_model import export_onnx

X = np.random.default_rng(0).random((5, *SHAPE), np.float32)


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'pnil_tf\[onnx\]'"):
        export_onnx(noisy(), tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def runtime():
    pytest.importorskip("tf2onnx")
    return pytest.importorskip("onnxruntime")


def ask(runtime, path, **inputs):
    session = runtime.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_noise_within(runtime, tmp_path):
    model = noisy()
    path = export_onnx(model, tmp_path / "m", class_names=["a", "b", "c", "d"])
    session = runtime.InferenceSession(path / "model.onnx", providers=["CPUExecutionProvider"])
    first, second = (session.run(["logits"], {"images": X})[0] for _ in range(2))
    assert first.shape == (5, CLASSES)
    assert not np.isclose(first, second).any()
    same = session.run(["logits"], {"images": np.repeat(X[:1], 5, axis=0)})[0]
    assert len(np.unique(same.round(5), axis=0)) == 5

    script = (
        "import sys; import numpy, onnxruntime; "
        "session = onnxruntime.InferenceSession(sys.argv[1]); "
        "print(session.run(['logits'], {'images': numpy.zeros((1, 8, 8, 1), 'f4')}))"
    )
    command = [sys.executable, "-c", script, str(path / "model.onnx")]
    said = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2)]
    assert said[0] != said[1]

    count = 2000
    many = np.repeat(X[:1], count, axis=0)
    p = session.run(["probabilities"], {"images": many})[0]
    q = tf.nn.softmax(model(many, training=False)).numpy()
    error = np.sqrt((p.var(axis=0) + q.var(axis=0)) / count)
    assert (np.abs(p.mean(axis=0) - q.mean(axis=0)) < 5 * error).all()
    np.testing.assert_allclose(p.std(axis=0), q.std(axis=0), rtol=0.2)
    assert "clock" in (path / "model_card.md").read_text()
    assert (path / "class_names.json").exists()


@pytest.mark.parametrize(("model", "most"), [(noisy, 32), (sequential, 4)])
def test_the_check_takes_few_images_at_once(runtime, tmp_path, monkeypatch, model, most):
    """A thousand at once would not fit into memory where images are large."""
    batches = []
    original = onnx_model._run

    def counting(session, **inputs):
        batches.append(len(inputs["images"]))
        return original(session, **inputs)

    monkeypatch.setattr(onnx_model, "_run", counting)
    export_onnx(model(), tmp_path / "m")
    assert max(batches) == most
    assert sum(batches) == (4 * 256 + 4 if model is noisy else 4)


def test_a_model_that_answers_otherwise_is_refused(runtime, tmp_path, monkeypatch):
    original = onnx_model._run

    def wrong(session, **inputs):
        return {name: value[:, ::-1] for name, value in original(session, **inputs).items()}

    monkeypatch.setattr(onnx_model, "OUTPUTS", ["logits", "probabilities"])
    monkeypatch.setattr(onnx_model, "_run", wrong)
    with pytest.raises(UserError, match="mean probabilities are not the model's"):
        export_onnx(sequential(), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_process_that_fails_leaves_nothing_behind(runtime, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(onnx_model.sys, "executable", "false")
    path = export_onnx(noisy(), tmp_path / "m")
    assert "The ONNX model cannot be run" in caplog.text
    files = {file.name for file in path.iterdir()}
    assert files - {"SHA256SUMS", "model_card.md"} == {
        *("model.onnx", "class_names.json", "preprocessing.json")
    }


def test_noise_layers_draw_independently(runtime, tmp_path):
    """The converter gives all of them one seed, unless that is taken away."""
    inputs = keras.Input(SHAPE)
    noise = [noise_layer(1.0)(inputs) for _ in range(2)]
    outputs = keras.layers.Flatten()(keras.layers.Subtract()(noise))
    path = export_onnx(keras.Model(inputs, outputs), tmp_path / "m")
    assert ask(runtime, path, images=X)["logits"].std() == pytest.approx(2**0.5, rel=0.2)


def test_noise_as_input(runtime, tmp_path):
    model = noisy()
    path = export_onnx(model, tmp_path / "m", noise_as_input=True)
    generator = np.random.default_rng(1)
    noise = [generator.standard_normal((5, *s)).astype(np.float32) for s in (SHAPE, (CLASSES,))]
    answer = ask(runtime, path, images=X, noise_0=noise[0], noise_1=noise[1])
    with rng.noise_from(lambda shape, call: tf.constant(noise[call])):
        expected = model(X, training=False).numpy()
    np.testing.assert_allclose(answer["logits"], expected, atol=1e-5)
    np.testing.assert_array_equal(answer["class"], expected.argmax(axis=1))
    assert "`noise_0` (batch, 8, 8, 1)" in (path / "model_card.md").read_text()


def test_a_quiet_model(runtime, tmp_path):
    model = sequential()
    path = export_onnx(model, tmp_path / "m")
    np.testing.assert_allclose(ask(runtime, path, images=X)["logits"], model(X), atol=1e-5)
    with pytest.raises(UserError, match="Received: a model without"):
        export_onnx(model, tmp_path / "n", noise_as_input=True)


def test_noise_of_another_kind_is_refused(runtime, tmp_path):
    class Foreign(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    with pytest.raises(UserError, match="another kind"):
        export_onnx(sequential(Foreign()), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_noise_that_onnx_cannot_express_becomes_an_input(runtime, tmp_path, monkeypatch, caplog):
    """Stateless noise, as it happens: it converts, but into a graph that does not run."""

    def stateless(shape, call):
        return rng.normal(shape, rng.make_seed(call))

    monkeypatch.setattr(onnx_model, "_drawn_within", stateless)
    path = export_onnx(noisy(), tmp_path / "m")
    assert "ONNX model does not run" in caplog.text
    assert "becomes an input instead" in caplog.text
    noise = {"noise_0": np.zeros_like(X), "noise_1": np.zeros((5, CLASSES), np.float32)}
    assert ask(runtime, path, images=X, **noise)["logits"].shape == (5, CLASSES)


def test_noise_that_repeats_is_noticed(runtime, tmp_path, monkeypatch, caplog):
    original = onnx_model._convert

    def seeded(*arguments):
        original(*arguments)
        import onnx

        proto = onnx.load(arguments[-1])
        for node in proto.graph.node:
            if node.op_type.startswith("RandomNormal"):
                node.attribute.append(onnx.helper.make_attribute("seed", 0.0))
        onnx.save(proto, arguments[-1])

    monkeypatch.setattr(onnx_model, "_convert", seeded)
    export_onnx(noisy(), tmp_path / "m")
    assert "repeats its noise in every process" in caplog.text
