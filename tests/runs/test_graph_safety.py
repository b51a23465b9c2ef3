"""SavedModels from strangers: an operation that could reach out of the memory keeps them out."""

import sqlite3

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.runs.allowed_operations import ALLOWED
from pnil_tf.runs.graph_safety import refused_operations
from pnil_tf.runs.load import load_model
from pnil_tf.serving.saved_model import export_saved_model

raw = tf.raw_ops
IMAGES = [tf.TensorSpec([None, 4, 4, 1], tf.float32, name="images")]


def saved_model(folder, body=lambda images: None, options=None, **others):
    """A SavedModel whose signature also does `body`, and that holds other functions besides."""
    module = tf.Module()
    module.weight = tf.Variable(1.0)

    @tf.function(input_signature=IMAGES)
    def serve(images):
        body(images)
        return {"logits": module.weight * tf.reshape(images, [-1, 16])[:, :3]}

    module.serve = serve
    for name, function in others.items():
        setattr(module, name, tf.function(function, input_signature=IMAGES))
    tf.saved_model.save(module, str(folder), signatures=serve, options=options)
    return folder


def changed(folder, change):
    """Edits a SavedModel's description, as no exporter would."""
    file = folder / "saved_model.pb"
    described = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(described)
    file.write_bytes(described.SerializeToString())
    return folder


def refused(folder, operation):
    with pytest.raises(UserError, match=rf"\b{operation}\b.*Export it again") as said:
        load_model(folder)
    assert len(str(said.value).splitlines()) == 1


def sql(path):
    query = "DELETE FROM thesis RETURNING 1"
    return raw.SqlDataset(
        driver_name="sqlite",
        data_source_name=path,
        query=query,
        output_types=[tf.int32],
        output_shapes=[[]],
    )


def records(path):
    return raw.FixedLengthRecordDataset(
        filenames=path, header_bytes=0, record_bytes=1, footer_bytes=0, buffer_size=0
    )


def table(path):
    found = raw.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    return raw.InitializeTableFromTextFileV2(
        table_handle=found, filename=path, key_index=-2, value_index=-1
    )


REACHING = {
    "WriteFile": lambda path, x: tf.io.write_file(path, "evil"),
    "ReadFile": lambda path, x: tf.io.read_file(path),
    "MatchingFiles": lambda path, x: tf.io.matching_files(path),
    "PrintV2": lambda path, x: tf.print("evil", output_stream=f"file://{path}"),
    "SaveV2": lambda path, x: raw.SaveV2(
        prefix=path, tensor_names=["x"], shape_and_slices=[""], tensors=[x]
    ),
    "RestoreV2": lambda path, x: raw.RestoreV2(
        prefix=path, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
    ),
    "PyFunc": lambda path, x: tf.numpy_function(lambda v: v, [x], tf.float32),
    "SqlDataset": lambda path, x: sql(path),
    "TextLineDataset": lambda path, x: raw.TextLineDataset(
        filenames=path, compression_type="", buffer_size=0
    ),
    "TFRecordDataset": lambda path, x: raw.TFRecordDataset(
        filenames=path, compression_type="", buffer_size=0
    ),
    "FixedLengthRecordDataset": lambda path, x: records(path),
    "LoadDataset": lambda path, x: tf.data.Dataset.load(path, tf.TensorSpec([])),
    "ImmutableConst": lambda path, x: raw.ImmutableConst(
        dtype=tf.float32, shape=[1], memory_region_name=path
    ),
    "InitializeTableFromTextFileV2": lambda path, x: table(path),
    "FixedUnigramCandidateSampler": lambda path, x: raw.FixedUnigramCandidateSampler(
        true_classes=[[0]],
        num_true=1,
        num_sampled=1,
        unique=True,
        range_max=1,
        vocab_file=path,
    ),
    "DebugNanCount": lambda path, x: raw.DebugNanCount(input=x, debug_urls=[f"file://{path}"]),
    "DebugNumericSummary": lambda path, x: raw.DebugNumericSummary(
        input=x, debug_urls=[f"file://{path}"]
    ),
    "Abort": lambda path, x: raw.Abort(error_msg="evil"),
}


@pytest.mark.parametrize("operation", REACHING)
def test_an_operation_that_reaches_out_of_the_memory_is_refused(operation, tmp_path):
    evil = tmp_path / "evil"

    def body(x):
        with tf.control_dependencies([x]):
            REACHING[operation](str(evil), x)

    try:
        folder = saved_model(tmp_path / "model", body)
    except (tf.errors.OpError, ValueError, FileNotFoundError):
        pytest.skip("this TensorFlow cannot even make one")
    refused(folder, operation)
    assert not list(tmp_path.glob("evil*"))


def test_a_database_is_neither_made_nor_emptied(tmp_path):
    path = tmp_path / "thesis.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE thesis (page INTEGER)")
        database.execute("INSERT INTO thesis VALUES (1)")

    def rows(x):
        for _ in tf.data.experimental.SqlDataset(
            "sqlite", str(path), "DELETE FROM thesis RETURNING page", (tf.int32,)
        ):
            pass

    refused(saved_model(tmp_path / "model", rows), "SqlDataset")
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT * FROM thesis").fetchall() == [(1,)]


def read(x):
    return tf.strings.length(tf.io.read_file("/etc/passwd"))


@pytest.mark.parametrize(
    "body",
    [
        tf.function(read),
        lambda x: tf.cond(tf.size(x) > 3, lambda: read(x), lambda: 0),
        lambda x: tf.while_loop(lambda i: i < 1, lambda i: [i + read(x)], [0]),
        lambda x: tf.map_fn(lambda y: read(y), x, fn_output_signature=tf.int32),
        lambda x: tf.switch_case(tf.size(x), [lambda: 1, lambda: read(x)]),
    ],
    ids=["function", "branch", "loop", "map", "case"],
)
def test_an_operation_within_a_function_is_found(body, tmp_path):
    refused(saved_model(tmp_path / "model", body), "ReadFile")


def test_an_operation_of_a_function_that_no_signature_names_is_found(tmp_path):
    refused(saved_model(tmp_path / "model", other=lambda x: read(x)), "ReadFile")


def test_an_operation_within_a_gradient_is_found(tmp_path):
    @tf.custom_gradient
    def evil(x):
        def gradient(upstream):
            with tf.control_dependencies([read(x)]):
                return tf.identity(upstream)

        return tf.identity(x), gradient

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    refused(saved_model(tmp_path / "model", evil, options), "ReadFile")


def test_saving_variables_counts_as_soon_as_a_signature_does_it(tmp_path):
    def name_the_saver(described):
        graph = described.meta_graphs[0]
        savers = {
            f.signature.name for f in graph.graph_def.library.function if "save" in f.signature.name
        }
        for function in graph.graph_def.library.function:
            if function.signature.name not in savers:
                node = function.node_def.add(name="evil", op="PartitionedCall")
                node.attr["f"].func.name = sorted(savers)[0]

    refused(changed(saved_model(tmp_path / "model"), name_the_saver), "SaveV2")


def without_a_call(described):
    """Adds a function that saves, which nothing calls yet, and returns its name."""
    library = described.meta_graphs[0].graph_def.library
    function = library.function.add()
    function.signature.name = "__inference__traced_save_evil"
    function.node_def.add(name="save", op="SaveV2")
    return function.signature.name


def named_by_an_object(described):
    objects = described.meta_graphs[0].object_graph_def
    objects.nodes.add().bare_concrete_function.concrete_function_name = without_a_call(described)


def named_by_a_polymorphic_object(described):
    objects = described.meta_graphs[0].object_graph_def
    objects.nodes.add().function.concrete_functions.append(without_a_call(described))


def handed_to_a_function(described):
    called = described.meta_graphs[0].graph_def.library.function[0].node_def[0].attr["f"].func
    called.attr["g"].func.name = without_a_call(described)


def in_the_place_of_another(described):
    name = without_a_call(described)
    for function in described.meta_graphs[0].graph_def.library.function:
        if function.signature.name == name:
            function.attr["api_implements"].s = b"serving"


def by_default(described):
    attribute = described.meta_graphs[0].graph_def.library.function[0].signature.attr.add(name="g")
    attribute.default_value.func.name = without_a_call(described)


@pytest.mark.parametrize(
    "change",
    [
        named_by_an_object,
        named_by_a_polymorphic_object,
        handed_to_a_function,
        in_the_place_of_another,
        by_default,
    ],
)
def test_saving_counts_by_whichever_way_it_could_be_called(change, tmp_path):
    folder = saved_model(tmp_path / "model")
    assert not refused_operations(str(changed(folder, without_a_call)))
    refused(changed(folder, change), "SaveV2")


def without_objects(described):
    described.meta_graphs[0].ClearField("object_graph_def")


def with_a_twin(described):
    described.meta_graphs.add().CopyFrom(described.meta_graphs[0])


@pytest.mark.parametrize("change", [without_objects, with_a_twin])
def test_what_is_loaded_as_tensorflow_1_did_is_judged_by_what_runs_then(change, tmp_path):
    """The main graph then runs, and with it the functions that save and restore."""
    refused(changed(saved_model(tmp_path / "model"), change), "SaveV2")


def test_an_operation_does_not_pass_under_the_name_of_a_function(tmp_path):
    def name_it_so(described):
        function = described.meta_graphs[0].graph_def.library.function.add()
        function.signature.name = "ReadFile"

    folder = saved_model(tmp_path / "model", read)
    refused(changed(folder, name_it_so), "ReadFile")


# --- What is loaded all the same.


def everyday(size=8):
    """A classifier of layers of many kinds, as people build them."""
    layers = keras.layers
    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 255.0)(inputs)
    for augment in (
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.RandomContrast(0.1),
        layers.RandomTranslation(0.1, 0.1),
    ):
        x = augment(x)
    x = layers.Resizing(size, size)(layers.CenterCrop(size - 2, size - 2)(x))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", activation="gelu")(x))
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    x = layers.GroupNormalization(2)(layers.SeparableConv2D(4, 3, activation="swish")(x))
    x = layers.LayerNormalization()(layers.Conv2DTranspose(4, 3, activation="elu")(x))
    x = layers.Dropout(0.2)(layers.GaussianNoise(0.1)(layers.MaxPooling2D()(x)))
    tokens = layers.Reshape((-1, 4))(x)
    tokens = layers.MultiHeadAttention(2, 2)(tokens, tokens)
    recurrent = [layers.LSTM(3)(tokens), layers.GRU(3)(tokens), layers.SimpleRNN(3)(tokens)]
    pooled = [layers.GlobalAveragePooling1D()(tokens), layers.GlobalMaxPooling2D()(x)]
    x = layers.Concatenate()([*recurrent, *pooled])
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def test_layers_of_many_kinds_are_loaded(tmp_path):
    everyday().export(tmp_path / "model", verbose=False)
    answer = load_model(tmp_path / "model").model(tf.zeros((2, 8, 8, 3)))
    assert answer.shape == (2, 3)


def test_our_own_exports_are_loaded(tmp_path):
    layers = [keras.Input((4, 4, 1)), PNILLayer(), keras.layers.Flatten(), keras.layers.Dense(3)]
    folder = export_saved_model(keras.Sequential(layers), tmp_path / "model", resized=True)
    assert load_model(folder).model(tf.zeros((2, 4, 4, 1))).shape == (2, 3)


def test_tables_in_memory_are_loaded(tmp_path):
    inputs = keras.Input((4,), dtype="int64")
    found = keras.layers.IntegerLookup(vocabulary=[3, 4, 5], output_mode="multi_hot")(inputs)
    keras.Model(inputs, found).export(tmp_path / "model", verbose=False)
    assert not refused_operations(str(tmp_path / "model"))


def test_a_model_without_the_operation_is_loaded_with_its_weights(tmp_path):
    answer = load_model(saved_model(tmp_path / "model")).model(tf.ones((2, 4, 4, 1)))
    np.testing.assert_array_equal(answer, np.ones((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("ConvNeXtTiny", "DenseNet121", "EfficientNetV2B0", "MobileNetV3Small", "NASNetMobile"),
        *("ResNet50V2", "Xception"),
    ],
)
def test_keras_applications_are_loaded(name, tmp_path):
    model = getattr(keras.applications, name)(weights=None)
    model.export(tmp_path / "model", verbose=False)
    assert load_model(tmp_path / "model").kind == "SavedModel"


def test_the_list_holds_names_that_tensorflow_knows():
    known = {name for name in ALLOWED if hasattr(raw, name)}
    # Of TensorFlow 1's control flow, and of other versions.
    assert len(ALLOWED - known) < 5, ALLOWED - known
