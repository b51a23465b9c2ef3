"""The losses of the attacks: closed forms, gradients, invariances."""

import numpy as np
import pytest
import tensorflow as tf

from pnil_tf.attacks.losses import (
    LOSSES,
    as_judged,
    attack_loss,
    dlr,
    margin,
    scale_free_margin,
    told,
    wrong,
)
from pnil_tf.errors import UserError

LOGITS = tf.constant([[3.0, 1.0, 0.0, -2.0], [0.0, 5.0, 4.0, 2.0]])


def test_margin_is_the_gap_to_the_best_other_class():
    np.testing.assert_allclose(margin(tf.constant([0, 2]), LOGITS), [-2.0, 1.0])


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e12])
def test_margin_and_its_gradient_grow_with_the_logits(scale):
    logits = tf.constant([[3.0, 1.0, 0.0, -2.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = margin(tf.constant([0]), scale * logits)
    np.testing.assert_allclose(value, [-2.0 * scale], rtol=1e-3)
    gradient = tape.gradient(value, logits)
    np.testing.assert_allclose(gradient, [[-scale, scale, 0.0, 0.0]], rtol=1e-3)


def test_dlr_is_the_margin_in_units_of_the_gap_to_the_third():
    np.testing.assert_allclose(dlr(tf.constant([0, 2]), LOGITS), [-2 / 3, 1 / 3], rtol=1e-6)


def test_dlr_ignores_the_scale_and_the_shift_of_the_logits():
    labels = tf.constant([0, 2])
    scaled = dlr(labels, 1000.0 * LOGITS + 7.0)
    np.testing.assert_allclose(scaled, dlr(labels, LOGITS), rtol=1e-4)


def test_targeted_dlr_by_hand():
    # (target - best other) / (first - (third + fourth) / 2)
    values = attack_loss("dlr", targeted=True)(tf.constant([1, 1]), LOGITS)
    np.testing.assert_allclose(values, [-2 / 4, 1 / 4], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_grow_as_the_attack_gets_its_way(name):
    away, towards = attack_loss(name), attack_loss(name, targeted=True)
    label = tf.constant([0])
    steps = [tf.constant([[3.0 + shift, 1.0, 0.0, -2.0]]) for shift in (0.5, 0.0, -0.5)]
    values = [float(away(label, logits)[0]) for logits in steps]
    assert values == sorted(values)
    values = [float(towards(label, logits)[0]) for logits in steps]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_losses_work_where_the_number_of_classes_is_unknown(name, targeted):
    loss = attack_loss(name, targeted)
    labels = tf.constant([0, 2])
    signature = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None])]
    unknown = tf.function(loss, input_signature=signature)
    np.testing.assert_allclose(unknown(labels, LOGITS), loss(labels, LOGITS), rtol=1e-6)


def test_equal_logits_give_finite_gradients():
    logits = tf.zeros((2, 4))
    for name in LOSSES:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = attack_loss(name)(tf.constant([0, 1]), logits)
        assert np.isfinite(tape.gradient(value, logits)).all()


def test_dlr_needs_three_classes():
    with pytest.raises(UserError, match="at least 3 classes"):
        dlr(tf.constant([0]), tf.zeros((1, 2)))


def test_targeted_dlr_of_few_classes_by_hand():
    """Of three the third logit stands for the fourth, too; two leave no scale."""
    targeted = attack_loss("dlr", targeted=True)
    np.testing.assert_allclose(targeted(tf.constant([1]), LOGITS[:1, :3]), [-2 / 3], rtol=1e-6)
    np.testing.assert_allclose(targeted(tf.constant([1]), LOGITS[:1, :2]), [-2.0])


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_loss_of_apgd_dlr_towards_a_class_is_the_targeted_dlr(classes):
    labels, logits = tf.constant([1]), LOGITS[:1, :classes]
    expected = attack_loss("dlr", targeted=True)(labels, logits)
    np.testing.assert_array_equal(scale_free_margin(labels, logits, targeted=True), expected)


def test_what_is_not_finite_is_wrong_as_the_judge_says():
    """Argmax alone takes an answer for the label that is none."""
    logits = tf.constant([[np.nan, 1.0], [2.0, np.nan], [np.inf, 0.0], [2.0, 1.0], [1.0, 2.0]])
    labels = tf.constant([0, 0, 0, 0, 0])
    np.testing.assert_array_equal(wrong(labels, logits), [1, 1, 1, 0, 1])
    away = as_judged(told(margin)(labels, logits))
    np.testing.assert_array_equal(away, [np.inf, np.inf, np.inf, -1, 1])
    towards = told(attack_loss("margin", targeted=True))(labels, logits)
    expected = [-np.inf, -np.inf, -np.inf, 1, -1]
    np.testing.assert_array_equal(as_judged(towards, targeted=True), expected)


def test_a_draw_without_an_answer_counts_as_on_the_boundary_beside_others():
    """As the mean of two draws each: right and none, wrong and none, none and none."""
    logits = tf.constant([[3.0, 1.0], [1.0, 3.0], [np.nan, 3.0]] + [[np.nan, 3.0]] * 3)
    draws = tf.reshape(told(margin)(tf.zeros([6], tf.int32), logits), [2, 3, 2])
    means = tf.reduce_mean(draws, axis=0)
    np.testing.assert_array_equal(as_judged(means), [-1, 1, np.inf])
    np.testing.assert_array_equal(as_judged(means, targeted=True), [-1, 1, -np.inf])


def test_unknown_loss_is_refused():
    with pytest.raises(UserError, match="No loss has this name"):
        attack_loss("hinge")


@pytest.mark.parametrize("scale", [1.0, 10.0, 30.0, 1000.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_cross_entropy_has_its_whole_direction_however_large_the_margin(scale, classes):
    logits = tf.constant(np.array([[3.0, 1.0, 0.5, -2.0]])[:, :classes] * scale, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = attack_loss("cross_entropy")(tf.constant([0]), logits)
    slope = tape.gradient(value, logits).numpy()[0]
    exact = np.exp((logits.numpy() - logits.numpy().max()).astype(np.longdouble))[0]
    exact /= exact.sum()
    exact[0] = -exact[1:].sum()
    np.testing.assert_allclose(slope / -slope[0], (exact / -exact[0]).astype(float), atol=1e-5)
    if scale < 20:  # beyond, a size stands for one that float32 cannot tell from nothing
        np.testing.assert_allclose(slope[0], float(exact[0]), rtol=1e-4)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits([0], logits)
    np.testing.assert_allclose(value, expected)
