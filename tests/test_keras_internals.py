"""What is leaned on of Keras' and TensorFlow's insides is still there, and does what it did."""

import keras
import pytest
import tensorflow as tf

from pnil_tf.keras_internals import (
    ImagePreprocessing,
    LossFunctionWrapper,
    all_layers,
    answers_as_its_graph,
    attached_logits,
    called_with,
    global_seed_state,
    in_branch,
    is_operation,
    is_stateful,
    operation_of,
    parse_saved_model,
    saved_layers,
    shapes_of_variables,
    taken_by,
    takers,
    untrack,
)


def functional():
    inputs = keras.Input((4,), name="images")
    return keras.Model(inputs, keras.layers.Dense(3, name="last")(inputs), name="inner")


def test_a_branch_of_a_graph_is_known_also_from_a_loop_within_it():
    seen = {}

    def note(where, x):
        seen[where] = in_branch()
        return x

    def branch(x):
        return tf.while_loop(lambda x: x < 3, lambda x: note("loop in branch", x + 1), [x])[0]

    @tf.function(autograph=False)
    def graph(x):
        x = tf.while_loop(lambda x: x < 3, lambda x: note("loop", x + 1), [note("graph", x)])[0]
        return tf.cond(x > 2, lambda: branch(note("branch", x)), lambda: x)

    graph(tf.constant(0))
    note("eager", 0)
    assert seen == {
        "graph": False,
        "loop": False,
        "branch": True,
        "loop in branch": True,
        "eager": False,
    }


def test_all_layers_are_found_in_nested_models_and_attributes():
    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = functional()
            self.extra = [keras.layers.Dense(2, name="listed")]

        def call(self, x):
            return self.extra[0](self.body(x))

    outer = Outer()
    names = [layer.name for layer in all_layers(outer)]
    assert names[0] == outer.name
    assert {"inner", "last", "listed"} <= set(names)
    assert outer not in list(all_layers(outer, include_self=False))
    assert list(all_layers(keras.layers.ReLU(), include_self=False)) == []


def test_the_operation_behind_a_symbolic_tensor():
    model = functional()
    assert operation_of(model.outputs[0]) is model.get_layer("last")
    assert operation_of(model.inputs[0]).name == "images"


def test_what_a_nested_model_takes_where_it_is_called():
    inner, inputs = functional(), keras.Input((4,))
    scaled = keras.layers.Rescaling(2.0)(inputs)
    outer = keras.Model(inputs, inner(scaled))
    assert taken_by(outer, inner) == [scaled]
    assert taken_by(inner, inner.get_layer("last")) == [inner.inputs[0]]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_know_their_logits(activation):
    logits = tf.constant([[1.0, -2.0, 0.5]])
    outputs = keras.layers.Activation(activation)(logits)
    tf.debugging.assert_near(attached_logits(outputs), logits)
    assert attached_logits(logits) is None


def test_a_saved_model_is_read_and_not_run(tmp_path):
    model = tf.Module()
    model.f = tf.function(lambda x: tf.nn.relu(x), [tf.TensorSpec([2], tf.float32)])
    tf.saved_model.save(model, str(tmp_path))
    (graph,) = parse_saved_model(str(tmp_path)).meta_graphs
    nodes = [node.op for f in graph.graph_def.library.function for node in f.node_def]
    assert "Relu" in nodes
    (tmp_path / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(OSError, match=r"saved_model\.pb"):
        parse_saved_model(str(tmp_path))


def test_shapes_are_known_before_any_memory_is_taken():
    config = keras.saving.serialize_keras_object(functional())
    config["config"]["layers"][1]["config"]["units"] = 2**50
    assert shapes_of_variables(config) == [(4, 2**50), (2**50,)]
    keras.layers.Dense(2).build((None, 3))  # nothing was left for the next one to make
    with keras.StatelessScope():
        pass


def test_operations_are_known_by_name():
    assert is_operation("ReadFile")
    assert is_operation("_Arg")
    assert not is_operation("__inference_call_1")


def test_a_wrapped_loss_function_aligns_the_ranks():
    wrapped = LossFunctionWrapper(lambda y, p: keras.ops.mean((y - p) ** 2, axis=-1))
    values = wrapped.call(tf.constant([0.0, 1.0]), tf.constant([[0.5], [1.0]]))
    tf.debugging.assert_near(values, [0.25, 0.0])


def test_layers_that_augment_images_are_known():
    layers = keras.layers
    augment = [layers.RandomFlip(), layers.RandomZoom(0.1), layers.RandAugment(), layers.MixUp()]
    assert all(isinstance(layer, ImagePreprocessing) for layer in augment)
    assert not any(
        isinstance(layer, ImagePreprocessing)
        for layer in (layers.Dropout(0.5), layers.GaussianNoise(0.1), layers.Rescaling(1.0))
    )


def test_the_state_behind_unseeded_draws_moves_with_each():
    keras.random.normal((1,))
    state = global_seed_state()
    before = state.numpy()
    keras.random.normal((1,))
    assert global_seed_state() is state
    assert (state.numpy() != before).any()


def test_the_takers_of_a_tensor_are_found_each_time_they_take_it():
    inputs = keras.Input((4,))
    first, second = keras.layers.Dense(4), keras.layers.Dense(4)
    outputs = second(first(inputs)) + inputs
    first(outputs)  # another model's business
    found = takers(keras.Model(inputs, outputs), inputs)
    assert [type(operation).__name__ for operation, _ in found] == ["Dense", "Add"]
    assert found[0][0] is first
    assert takers(keras.Model(inputs, outputs), found[0][1][0])[0][0] is second


def test_the_arguments_of_calls_are_found():
    inputs = keras.Input((4,))
    dropout = keras.layers.Dropout(0.5)
    outputs = keras.layers.Dense(2)(dropout(inputs, training=True))
    assert called_with(keras.Model(inputs, outputs), "training") == [(dropout, True)]


def test_a_model_with_a_call_of_its_own_is_told_from_its_graph():
    class Own(keras.Sequential):
        def call(self, x, training=None, mask=None):
            return x

    layers = [keras.Input((4,)), keras.layers.Dense(2)]
    assert all(map(answers_as_its_graph, (functional(), keras.Sequential(layers))))
    assert not answers_as_its_graph(Own(layers))


def test_a_layer_that_is_taken_out_leaves_no_weights():
    outer = keras.Model()
    outer.inner = first = functional()
    assert len(outer.weights) == 2
    untrack(outer, first)
    outer.inner = functional()
    assert len(outer.weights) == 2
    assert first not in list(all_layers(outer))


def test_layers_are_found_as_they_are_saved_whatever_was_made_first():
    class Outer(keras.Model):
        def __init__(self, turned):
            super().__init__()
            parts = {"body": functional(), "extra": keras.layers.Dense(2)}
            for name, part in sorted(parts.items(), reverse=turned):
                setattr(self, name, part)
            self.bodies = {"listed": [keras.layers.Flatten()], "again": self.body}

    first, turned = Outer(False), Outer(True)
    turned.extra = keras.layers.Dense(2)
    kinds = [[type(layer).__name__ for layer in saved_layers(model)] for model in (first, turned)]
    assert kinds[0] == kinds[1]
    assert sorted(kinds[0]) == ["Dense", "Dense", "Flatten", "Functional", "InputLayer", "Outer"]


def test_it_is_known_which_operations_depend_on_more_than_their_inputs():
    for name in ("Timestamp", "LookupTableFindV2", "NoSuchOperation"):
        assert is_stateful(name)
    for name in ("Conv2D", "StatelessIf"):
        assert not is_stateful(name)
