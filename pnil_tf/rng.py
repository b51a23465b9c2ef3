"""The one rule for randomness: whoever runs a model decides its noise.

Random numbers come from TensorFlow's stateless generators, so a draw depends on its seed
alone: not on what ran before, on the device, or on where a run was interrupted. A seed is an
int32 tensor of shape (2,). `noise_scope` opens a scope in which every `PNILLayer` draws from
one seed; `stateless_layers` does the same for the stock Keras layers that hold a
`SeedGenerator` (Dropout, GaussianNoise, ...), and for layers that draw by `keras.random` without
one.

Outside a scope a `PNILLayer` draws fresh noise. In training that noise follows
`tf.random.set_seed`, as Keras users expect. At inference it follows no seed at all: a model
that was exported or served must not repeat its noise after a restart, since an attacker
could then learn it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import warnings
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from pnil_tf.keras_internals import HeldState, ImagePreprocessing, all_layers, global_seed_state
from pnil_tf.tensors import Scalar, Seed, Shape, Tensor

_MAX_INT32 = 2**31 - 1


def make_seed(*parts: int) -> Seed:
    """Returns the int32 seed pair that belongs to one or more non-negative Python ints."""
    seed = tf.constant([20021, 10097], tf.int32)
    for part in parts:
        # A Python int may exceed int32 (a time, a hash): fold it in by 31-bit words, and mark
        # each further word by -1, which is no part's, so that it is not taken for a part.
        for shift in range(0, max(part.bit_length(), 1), 31):
            if shift:
                seed = fold(seed, -1)
            seed = fold(seed, part >> shift & _MAX_INT32)
    return seed


def seed_of(number: Tensor) -> Seed:
    """Returns what `make_seed` returns, for a number known only when a graph runs.

    Args:
        number: Integer scalar tensor, at least 0.
    """
    number = tf.cast(number, tf.int64)
    words = [tf.bitwise.right_shift(number, tf.constant(n, tf.int64)) for n in (0, 31, 62)]
    low, middle, high = (tf.bitwise.bitwise_and(word, _MAX_INT32) for word in words)
    one = fold(make_seed(), low)
    two = fold(fold(one, -1), middle)
    three = fold(fold(two, -1), high)
    return tf.where(words[2] > 0, three, tf.where(words[1] > 0, two, one))


def fresh_seed() -> Seed:
    """Returns a seed from the system's entropy, another one each time the op runs.

    In an exported graph it is drawn afresh in every process, whatever `tf.random.set_seed` said
    when the graph was made: seeds of 0 make the kernel seed itself.
    """
    return tf.raw_ops.RandomUniformInt(
        shape=[2], minval=-_MAX_INT32, maxval=_MAX_INT32, seed=0, seed2=0
    )


def fresh_key() -> Scalar:
    """Returns 64 random bits, int64, from the system's entropy; drawn as in `fresh_seed`."""
    seed = tf.cast(fresh_seed(), tf.int64)
    return seed[0] * 2**32 + seed[1]


def fold(seed: Seed, data: Scalar) -> Seed:
    """Derives a new, independent seed from `seed` and an integer (Python or int tensor)."""
    return tf.stack([_word(tf.convert_to_tensor(seed)), tf.cast(data, tf.int32)])


# A graph calls these functions, or each seed of a step would add the fifty operations by which
# TensorFlow makes a generator of it: they took a fifth of the time to trace a training step.


@tf.function(autograph=False)
def _word(seed: Seed) -> Scalar:
    # As tf.random.experimental.stateless_fold_in does, which lets XLA choose another generator.
    return tf.random.stateless_uniform([], seed, None, None, tf.int32, alg="philox")


@tf.function(autograph=False)
def _two_rows(length: Scalar, seed: Seed) -> Tensor:
    return tf.random.stateless_uniform([2, length], seed, alg="philox")


def replica_seed(seed: Seed) -> Seed:
    """Folds in the replica's number, so that replicas draw different noise.

    With one replica the seed is still folded (with 0): the rule has no special case.
    """
    context = tf.distribute.get_replica_context()
    replica = 0 if context is None else context.replica_id_in_sync_group
    return fold(seed, replica)


def uniform(shape: Shape, seed: Seed, bound: Scalar = 1.0) -> Tensor:
    """Returns float32 noise, uniform in [-bound, bound)."""
    return bound * tf.random.stateless_uniform(shape, seed, -1.0, 1.0, alg="philox")


def normal(shape: Shape, *seeds: Seed, signs: list[Scalar] | None = None) -> Tensor:
    """Returns float32 standard normal noise (Box and Muller 1958).

    Args:
        shape: Shape of the noise of one seed, of at least one axis.
        *seeds: Seeds, at least one. Their noise lies behind each other along the first axis.
        signs: One factor for the noise of each seed, 1 unless given.
    """
    # As tf.random.stateless_normal does, which takes its logarithms and sines one at a time: on a
    # CPU TensorFlow's functions of whole tensors need two thirds of its time.
    shape = tf.convert_to_tensor(shape, tf.int32)
    size = tf.reduce_prod(shape)
    half = (size + 1) // 2
    pairs = tf.stack([_two_rows(half, tf.convert_to_tensor(seed)) for seed in seeds], axis=1)
    radius = tf.sqrt(-2.0 * tf.math.log1p(-pairs[0]))  # Of 1 - u in (0, 1]: never infinite.
    if signs is not None:
        radius *= tf.reshape(tf.cast(tf.stack(signs), tf.float32), [len(seeds), 1])
    angle = 2.0 * math.pi * pairs[1]
    both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)
    return tf.reshape(both[:, :size], tf.concat([[-1], shape[1:]], axis=0))


@dataclasses.dataclass
class _Scope:
    seeds: list[Seed]
    graph: tf.Graph | None
    signs: list[Scalar] | None = None
    frozen: bool = False
    source: Callable[[Shape, int], Tensor] | None = None
    calls: int = 0

    def draw(self, shape: Shape) -> Tensor:
        """Returns standard normal noise of `shape`, other noise at each call."""
        call, self.calls = self.calls, self.calls + 1
        if self.source is not None:
            return self.source(shape, call)
        if not self.seeds:
            return tf.zeros(shape)
        if self.frozen:
            one = normal(tf.concat([[1], shape[1:]], axis=0), fold(self.seeds[0], call))
            return tf.broadcast_to(one, shape)
        # Several draws lie stacked along the batch axis. Each has its own seed, so that a
        # draw's noise does not depend on how many others share the forward pass.
        part = tf.concat([shape[:1] // len(self.seeds), shape[1:]], axis=0)
        return normal(part, *(fold(seed, call) for seed in self.seeds), signs=self.signs)


_local = threading.local()  # MirroredStrategy traces each replica in a thread of its own


@contextlib.contextmanager
def noise_scope(
    *seeds: Seed | int, signs: list[Scalar] | None = None, frozen: bool = False
) -> Iterator[None]:
    """Makes every `PNILLayer` called inside draw its noise from the given seeds.

    Args:
        *seeds: One seed (a Python int or an int32 pair) for each draw stacked along the batch
            axis of the inputs, draw after draw; one seed if the batch is a single draw. With
            no seed at all the noise is switched off.
        signs: One factor for each seed, 1 unless given. A seed used with 1 and with -1 makes
            an antithetic pair.
        frozen: Whether all images share one draw (of the first seed), so that the noise is a
            constant of the model, whatever the batch.

    The scope acts on what is traced or run inside it. A function that was compiled earlier
    with `tf.function` keeps the noise it was traced with, and one that is compiled *inside*
    the scope would freeze this scope's noise forever; the layer notices the latter and draws
    fresh noise instead, with a warning.
    """
    pairs = [make_seed(seed) if isinstance(seed, int) else seed for seed in seeds]
    scope = _Scope(
        seeds=pairs,
        signs=signs,
        graph=_current_graph(),
        frozen=frozen,
    )
    with _within(scope):
        yield


@contextlib.contextmanager
def noise_from(source: Callable[[Shape, int], Tensor]) -> Iterator[None]:
    """Makes every `PNILLayer` called inside add the noise that `source` returns.

    Args:
        source: Returns standard normal noise, float32, for the shape of a layer's input (int32
            tensor) and the number of the call, from 0.

    The scope acts as that of `noise_scope`.
    """
    with _within(_Scope(seeds=[], graph=_current_graph(), source=source)):
        yield


@contextlib.contextmanager
def _within(scope: _Scope) -> Iterator[None]:
    outer = getattr(_local, "scope", None)
    _local.scope = scope
    try:
        yield
    finally:
        _local.scope = outer


def noise_off() -> contextlib.AbstractContextManager[None]:
    """Switches the noise of every `PNILLayer` called inside off.

    As for `noise_scope`, what is called directly inside; `predict`, `evaluate` and `fit` run
    functions of their own, which Keras compiles once, and keep their noise.
    """
    return noise_scope()


def in_noise_scope() -> bool:
    """Whether a surrounding noise scope decides the noise."""
    return getattr(_local, "scope", None) is not None


def in_seeded_scope() -> bool:
    """Whether a surrounding noise scope gives the noise a seed."""
    scope: _Scope | None = getattr(_local, "scope", None)
    return scope is not None and bool(scope.seeds)


def layer_noise(shape: Shape, training: bool) -> Tensor:
    """Returns the standard normal noise (float32) a noise layer adds at this call.

    Args:
        shape: int32 tensor, the shape of the layer's input.
        training: Whether the layer is called for training; matters outside a scope alone.
    """
    scope: _Scope | None = getattr(_local, "scope", None)
    if scope is not None:
        if _same_function(_current_graph(), scope.graph):
            return scope.draw(shape)
        warnings.warn(
            "A tf.function was traced inside a pnil_tf noise scope. Its noise is drawn fresh at "
            "each call and does not follow the scope's seed. Open the scope inside the function.",
            stacklevel=2,
        )
    if training or op_determinism():
        return tf.random.normal(shape)
    # Seeds of 0 make the kernel seed itself from the system's entropy, even where
    # tf.random.set_seed was called and would otherwise be baked into an exported graph.
    return tf.raw_ops.RandomStandardNormal(shape=shape, dtype=tf.float32, seed=0, seed2=0)


@contextlib.contextmanager
def stateless_layers(
    model: keras.Model,
    seed: Seed | None = None,
    transforms: Seed | None = None,
    *,
    seeds_alone: bool = False,
) -> Iterator[HeldState]:
    """Runs a model without leaving a trace in its state.

    Stock random layers (Dropout and its kin) draw from the seed of the surrounding noise scope
    as well. With `training=True` BatchNormalization uses the batch's statistics, but its moving
    statistics stay as they were: every update of the model's variables is dropped. Variables that
    are not the model's change as ever: a generator that several models share is one, whose draws
    would else be one and the same.

    Args:
        model: The model.
        seed: int32 seed pair of the stock layers, where there is no scope.
        transforms: int32 seed pair of the layers that augment images (`RandomFlip` and its kin),
            as for `reseed_layers`; that of the others by default.
        seeds_alone: Whether variables of the model that are no seeds change as ever, too: noise
            may follow one that counts the calls.
    """
    seed = _local.scope.seeds[0] if seed is None else seed
    values = _state_values(model, seed, transforms)
    shared = global_seed_state()
    if shared is not None:
        values.append((shared, _state_value(shared, seed, -1)))  # -1 is no layer's number
    with HeldState(values, [] if seeds_alone else model.variables) as scope:
        yield scope


def reseed_layers(model: keras.Model, seed: Seed, transforms: Seed | None = None) -> None:
    """Sets the state of every stock random layer in `model` from `seed`.

    Keras saves the state of a `SeedGenerator` in no checkpoint and gives every replica the
    same one; setting it at each step from the step's seed cures both.

    Args:
        model: The model.
        seed: int32 seed pair.
        transforms: That of the layers that augment images; `seed` by default. Two passes that
            share it see their images flipped, turned and so on alike.
    """
    for state, value in _state_values(model, seed, transforms):
        state.assign(value)


def has_random_layers(model: keras.Model) -> bool:
    """Whether the model holds stock random layers, whose state is a seed.

    Where anything has drawn by `keras.random` without a seed, it may have been this model.
    """
    return bool(_seed_states(model)) or global_seed_state() is not None


def draws_without_seed(model: keras.Model, call: Callable[[], object]) -> bool:
    """Whether a call of the model draws by `keras.random` without a seed.

    Args:
        model: The model.
        call: Calls it.
    """
    for _ in range(2):  # the first call may be the one that makes the state
        with stateless_layers(model, make_seed(0)) as scope:
            shared = global_seed_state()
            before = None if shared is None else scope.get_current_value(shared)
            call()
            if before is not None:
                return scope.get_current_value(shared) is not before
    return False


def _seed_states(model: keras.Model) -> list[tuple[int, keras.Variable]]:
    return [
        (i, variable)
        for i, variable in enumerate(model.non_trainable_variables)
        if is_seed(variable)
    ]


def is_seed(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a `SeedGenerator`."""
    return bool(variable.path.endswith("seed_generator_state"))


def _state_values(
    model: keras.Model, seed: Tensor, transforms: Tensor | None
) -> list[tuple[keras.Variable, Tensor]]:
    states = _seed_states(model)
    augment: set[int] = set()
    if states and transforms is not None:
        augment = {
            id(variable)
            for layer in all_layers(model)
            if isinstance(layer, ImagePreprocessing)
            for variable in layer.non_trainable_variables
        }
    return [
        (state, _state_value(state, transforms if id(state) in augment else seed, i))
        for i, state in states
    ]


def _state_value(state: keras.Variable, seed: Seed, index: int) -> Tensor:
    # Folded once more than the noise of a PNILLayer under the same seed, whose calls are
    # numbered from 0: no two layers may share their noise. Both words are random, since Keras
    # counts a layer's draws up in the second: a second draw must not be another layer's first.
    own = fold(fold(seed, _MAX_INT32), index)
    words = tf.random.stateless_uniform([2], own, None, None, tf.int32, alg="philox")
    return tf.cast(words & _MAX_INT32, state.dtype)


def _current_graph() -> tf.Graph | None:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _same_function(graph: tf.Graph | None, scope_graph: tf.Graph | None) -> bool:
    """Whether `graph` is `scope_graph` or a branch or loop body within it."""
    while graph is not None and graph is not scope_graph:
        if type(graph).__name__ not in ("WhileBodyFuncGraph", "CondBranchFuncGraph"):
            return False
        graph = graph.outer_graph
    return graph is scope_graph


def op_determinism() -> bool:
    """Whether TensorFlow refuses unseeded random ops (`enable_op_determinism`)."""
    try:
        with tf.init_scope():
            tf.raw_ops.RandomStandardNormal(shape=[1], dtype=tf.float32, seed=0, seed2=0)
    except (tf.errors.InvalidArgumentError, RuntimeError):
        return True
    return False
