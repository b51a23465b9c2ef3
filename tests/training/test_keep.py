"""Of several epochs the right one's classifier is in the file."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from pnil_tf.training.callbacks import InvalidLossError
from pnil_tf.training.keep import KeepClassifier, why_kept
from pnil_tf.training.model import AdversarialModel


@pytest.fixture(scope="module")
def model():
    classifier = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    return AdversarialModel(classifier, "none")


def go_on(keep, model, losses, guard=None, first=1):
    """Ends an epoch for each loss, with the epoch's number as the classifier's biases."""
    keep.set_model(model)
    for epoch, loss in enumerate(losses, start=first):
        model.classifier.layers[-1].bias.assign([epoch, epoch])
        if guard is not None:
            guard.collapsed = guard.script[epoch - 1]
        keep.on_epoch_end(epoch - 1, {"val_loss": loss})


def kept_epoch(keep, path):
    """The epoch in the file, which the state must name, too."""
    [bias, *_] = keras.saving.load_model(path).layers[-1].bias.numpy()
    assert keep.get_state()["epoch"] == bias
    return bias


@pytest.mark.parametrize(("rule", "epoch"), [("best", 2), ("last", 4)])
def test_the_kept_epoch_is_the_rule_s(model, tmp_path, rule, epoch):
    keep = KeepClassifier(tmp_path / "kept.keras", rule, "val_loss")
    go_on(keep, model, losses := [3.0, 1.0, 1.0, 2.0])
    assert kept_epoch(keep, tmp_path / "kept.keras") == epoch
    assert keep.get_state()["value"] == losses[epoch - 1]


@pytest.mark.parametrize(("rule", "epoch"), [("best", 2), ("last", 4)])
def test_an_epoch_that_the_guard_finds_collapsed_is_passed_over(model, tmp_path, rule, epoch):
    guard = SimpleNamespace(script=[False, False, True, False, True])
    keep = KeepClassifier(tmp_path / "kept.keras", rule, "val_loss", guard)
    go_on(keep, model, [3.0, 1.0, 0.5, 2.0, 0.4], guard)
    assert kept_epoch(keep, tmp_path / "kept.keras") == epoch


@pytest.mark.parametrize(("rule", "epoch"), [("best", 1), ("last", 3)])
def test_a_resumed_training_keeps_as_if_never_interrupted(model, tmp_path, rule, epoch):
    path = tmp_path / "kept.keras"
    first, second = (KeepClassifier(path, rule, "val_loss") for _ in range(2))
    go_on(first, model, [1.0, 3.0])
    second.set_state(first.get_state())
    go_on(second, model, [2.0], first=3)
    assert kept_epoch(second, path) == epoch


@pytest.mark.parametrize("rule", ["best", "last"])
def test_a_loss_that_is_no_number_leaves_the_epoch_before(model, tmp_path, rule):
    keep = KeepClassifier(tmp_path / "kept.keras", rule, "val_loss")
    with pytest.raises(InvalidLossError, match="val_loss is nan after step 0"):
        go_on(keep, model, [1.0, math.nan])
    assert kept_epoch(keep, tmp_path / "kept.keras") == 1


def test_a_process_that_does_not_write_tells_the_same(model, tmp_path):
    keep = KeepClassifier(tmp_path / "kept.keras", "last", "val_loss", write=False)
    go_on(keep, model, [1.0, 2.0])
    assert keep.get_state()["epoch"] == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rule", "epoch", "why"),
    [
        ("best", 3, "epoch 3 of 12, whose val_loss, 0.1235, is the lowest."),
        ("last", 12, "epoch 12 of 12, the last."),
        ("last", 9, "epoch 9 of 12, the last that had not collapsed."),
    ],
)
def test_it_is_said_which_was_kept_and_why(rule, epoch, why):
    kept = {"rule": rule, "monitor": "val_loss", "epoch": epoch, "value": np.float64(0.12345)}
    assert why_kept(kept, 12) == f"Kept the classifier of {why}"
