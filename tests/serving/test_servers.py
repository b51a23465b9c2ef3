"""Real servers answer as the model does, under load.

`pytest -m servers`. The first needs tensorflow-serving-api (extra `servers`), the second, in
PNIL_TRITON_PYTHON, the interpreter of an environment with nvidia-pytriton and TensorFlow.
"""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.layers import PNILLayer
from pnil_tf.models import small_cnn
from pnil_tf.serving.saved_model import export_saved_model

pytestmark = pytest.mark.servers

HERE = Path(__file__).parent
REQUESTS, CONCURRENCY = 1000, 8
IMAGES = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    return small_cnn((28, 28, 1), 10, pnil=PNILLayer(initial_sigma=1.0))


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return export_saved_model(model, tmp_path_factory.mktemp("servers") / "1")


@contextlib.contextmanager
def server(python, script, path):
    """Starts a server and yields its port."""
    process = subprocess.Popen(
        [python, HERE / script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.strip().isdigit(), f"{script} did not start: {line!r}"
        yield int(line)
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def load_test(ask, what):
    """Sends all requests and returns the answers in their order; says how fast they came."""
    ask(0)

    def timed(number):
        started = time.perf_counter()
        answer = ask(number)
        return answer, time.perf_counter() - started

    started = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        answers, seconds = zip(*pool.map(timed, range(REQUESTS)), strict=True)
    rate = REQUESTS / (time.perf_counter() - started)
    p99 = 1000 * np.quantile(seconds, 0.99)
    print(
        f"\n{what}: {REQUESTS} requests of {len(IMAGES)} images at concurrency {CONCURRENCY}: "
        f"{rate:.0f} requests/s, p99 {p99:.1f} ms",
    )
    return answers


def check(model, ask, what, capsys):
    """Compares 1,000 fresh and 1,000 seeded answers with those of the model."""
    with capsys.disabled():
        fresh = load_test(lambda _: ask("serving_default", images=IMAGES), f"{what}, fresh")
        seeded = load_test(
            lambda n: ask("seeded", images=IMAGES, seed=np.int64(n)), f"{what}, seeded"
        )

    @tf.function
    def own(seed):
        with rng.noise_scope(rng.seed_of(seed)):
            return model(IMAGES, training=False)

    expected = np.stack([own(tf.constant(n, tf.int64)).numpy() for n in range(REQUESTS)])
    logits = np.stack([answer["logits"] for answer in seeded])
    np.testing.assert_allclose(logits, expected, atol=1e-4)

    logits = np.stack([answer["logits"] for answer in fresh])
    assert len(np.unique(logits.reshape(REQUESTS, -1), axis=0)) == REQUESTS
    p = np.stack([answer["probabilities"] for answer in fresh])
    q = tf.nn.softmax(expected).numpy()
    error = np.sqrt((p.var(axis=0) + q.var(axis=0)) / REQUESTS)
    assert (np.abs(p.mean(axis=0) - q.mean(axis=0)) < 5 * error).all()
    np.testing.assert_allclose(p.std(axis=0), q.std(axis=0), rtol=0.2)


def test_tensorflow_servings_protocol(model, path, capsys):
    pytest.importorskip("tensorflow_serving")
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with (
        server(sys.executable, "tf_serving.py", path) as port,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def ask(signature, **inputs):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "classifier"
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            answer = stub.Predict(request, timeout=60)
            return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}

        check(model, ask, "TensorFlow Serving's protocol", capsys)
        summary = ask("monte_carlo", images=IMAGES, draws=np.int32(10))
        assert summary["agreement"].shape == (len(IMAGES),)
        with pytest.raises(grpc.RpcError, match="number of draws must be"):
            ask("monte_carlo", images=IMAGES, draws=np.int32(0))


def test_triton(model, path, capsys):
    python = os.environ.get("PNIL_TRITON_PYTHON")
    if not python:
        pytest.skip("PNIL_TRITON_PYTHON names no environment with nvidia-pytriton")
    local = threading.local()
    types = {"float32": "FP32", "int64": "INT64"}
    with server(python, "triton_server.py", path) as port:

        def ask(signature, **inputs):
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            tensors = [
                {
                    "name": name,
                    "shape": list(np.shape(value)) or [1],
                    "datatype": types[value.dtype.name],
                    "data": np.ravel(value).tolist(),
                }
                for name, value in inputs.items()
            ]
            body = json.dumps({"inputs": tensors})
            local.connection.request("POST", f"/v2/models/{signature}/infer", body)
            answer = json.loads(local.connection.getresponse().read())
            assert "outputs" in answer, answer
            return {
                output["name"]: np.reshape(output["data"], output["shape"])
                for output in answer["outputs"]
            }

        check(model, ask, "Triton", capsys)
