"""What strangers hand over beside models and runs: clusters, data sets, image files, programs."""

import json

import numpy as np
import pytest
import tensorflow as tf
from fuzzing import SIZES, ReachedTheWorkError, damaged_bytes, damaged_json, fuzz
from hypothesis import strategies as st
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from pnil_tf.data import feature_safety
from pnil_tf.errors import UserError
from pnil_tf.runs.load import load_model
from pnil_tf.serving.decoding import decode
from pnil_tf.training.cluster import check_cluster

CLUSTER = {
    "cluster": {"worker": ["localhost:2222", "localhost:2223"], "chief": ["localhost:2221"]},
    "task": {"type": "worker", "index": 0},
}
ADDRESSES = st.one_of(
    st.sampled_from(
        ["a:99999", "a:0", ":1", "a:-1", "a:1e3", "a:٣", "[::1]:1", "a", "a:1:2", " :1"]
    ),
    st.text(max_size=6).map("{}:2222".format),
)


@pytest.mark.parametrize("many", SIZES)
def test_clusters(many):
    def check(text):
        check_cluster(text)
        config = json.loads(text)
        if config.get("cluster"):  # TensorFlow would go on with it
            addresses = config["cluster"][config["task"]["type"]]
            assert 0 < int(addresses[int(config["task"]["index"])].rpartition(":")[2]) < 2**16

    def with_address(address):
        return {**CLUSTER, "cluster": {"worker": ["localhost:1", address]}}

    values = st.one_of(damaged_json(CLUSTER), ADDRESSES.map(with_address))
    whole = json.dumps(CLUSTER).encode()
    texts = damaged_bytes(whole, b"[" * 10_000).map(lambda content: content.decode("latin-1"))
    fuzz(many, st.one_of(values.map(json.dumps), texts), check, 50, 3000)


HOME = "tensorflow_datasets.core.features."
FEATURES = {
    "pythonClassName": f"{HOME}features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "image": {"pythonClassName": f"{HOME}image_feature.Image", "image": {"dtype": "uint8"}},
            "label": {"python_class_name": f"{HOME}class_label_feature.ClassLabel"},
            "old": {"type": f"{HOME}text_feature.Text"},
        }
    },
}


@pytest.mark.parametrize("many", SIZES)
def test_features_of_data_sets(many, tmp_path):
    file = tmp_path / "features.json"

    def names(value):
        if isinstance(value, list):
            value = dict(enumerate(value))
        for key, inner in value.items() if isinstance(value, dict) else ():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(inner, str):
                yield inner
            yield from names(inner)

    def check(content):
        file.write_bytes(content)
        feature_safety.check(file)
        assert all(name.startswith(HOME) for name in names(json.loads(content)))

    whole = json.dumps(FEATURES).encode()
    values = damaged_json(FEATURES).map(lambda value: json.dumps(value).encode())
    fuzz(many, st.one_of(damaged_bytes(whole), values), check, 50, 3000)


PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)
GOOD = [tf.io.encode_png(PIXELS).numpy(), tf.io.encode_jpeg(PIXELS).numpy()]


@pytest.mark.parametrize("many", SIZES)
def test_image_files_that_are_served(many):
    served = tf.function(
        lambda files: decode(files, PIXELS.shape, True),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )

    def check(content):
        images, good = (found.numpy() for found in served([GOOD[0], content, GOOD[0]]))
        assert good[0]
        assert good[2]
        assert good[1] or not images[1].any()
        np.testing.assert_array_equal(images[[0, 2]], [PIXELS, PIXELS])

    fuzz(many, damaged_bytes(*GOOD), check, 30, 3000)


def multiplied(x):
    return tf.cond(tf.size(x) > 3, lambda: tf.map_fn(lambda row: row * 2.0, x), lambda: x)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A SavedModel with functions in functions, and its description as TensorFlow reads it."""
    folder = tmp_path_factory.mktemp("program")
    module = tf.Module()
    module.call = tf.function(multiplied, [tf.TensorSpec([None, 2], tf.float32)])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})
    return folder


def load_nothing(monkeypatch):
    def load(folder):
        raise ReachedTheWorkError

    monkeypatch.setattr(tf.saved_model, "load", load)


@pytest.mark.parametrize("many", SIZES)
def test_damaged_programs(many, program, monkeypatch):
    """TensorFlow would be handed some of them, and may fail; before that there is a sentence."""
    load_nothing(monkeypatch)
    file = program / "saved_model.pb"
    whole = file.read_bytes()

    def check(content):
        file.write_bytes(content)
        load_model(program)

    try:
        fuzz(many, damaged_bytes(whole), check, 50, 3000)
    finally:
        file.write_bytes(whole)


FORBIDDEN = ["WriteFile", "ReadFile", "SqlDataset", "DebugNanCount", "PyFunc", "Abort", "RestoreV2"]


@pytest.mark.parametrize("many", SIZES)
def test_programs_with_an_operation_that_reaches_out(many, program, monkeypatch):
    """Whatever node of whatever function it is put into, or is added to."""
    load_nothing(monkeypatch)
    file = program / "saved_model.pb"
    whole = file.read_bytes()
    functions = range(len(_parse(whole).meta_graphs[0].graph_def.library.function))

    def check(case):
        number, place, operation, added = case
        model = _parse(whole)
        function = model.meta_graphs[0].graph_def.library.function[number]
        saves = {"SaveV2", "RestoreV2"} & {node.op for node in function.node_def}
        if added or not function.node_def:
            function.node_def.add(name="evil", op=operation)
        else:
            function.node_def[place % len(function.node_def)].op = operation
        file.write_bytes(model.SerializeToString())
        if saves and operation == "RestoreV2":
            return  # such a function may: the loader reads the variables without it
        with pytest.raises(UserError, match=operation):
            load_model(program)

    case = st.tuples(
        st.sampled_from(functions),
        st.integers(0, 100),
        st.sampled_from(FORBIDDEN),
        st.booleans(),
    )
    try:
        fuzz(many, case, check, 50, 3000)
    finally:
        file.write_bytes(whole)


def _parse(content):
    return SavedModel.FromString(content)
