"""Learning rate schedules: their values, their limits, and that they are functions of the step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pnil_tf.errors import UserError
from pnil_tf.training.schedules import OneCycle, Triangular

SCHEDULES = [
    Triangular(min_lr=1e-4, max_lr=1e-2, period_steps=7),
    OneCycle(max_lr=1e-2, total_steps=9, warmup_fraction=0.3, min_lr=1e-4),
]


def test_triangular_climbs_returns_and_repeats():
    rate = Triangular(min_lr=1.0, max_lr=3.0, period_steps=8)
    values = [float(rate(step)) for step in range(17)]
    np.testing.assert_allclose(values[:9], [1, 1.5, 2, 2.5, 3, 2.5, 2, 1.5, 1])
    assert values[8:] == values[:9]


def test_triangular_is_exact_beyond_the_integers_of_float32():
    rate = Triangular(min_lr=0.0, max_lr=1.0, period_steps=4)
    steps = [tf.constant(2**31 * 4 + step, tf.int64) for step in range(4)]
    assert [float(rate(step)) for step in steps] == [0.0, 0.5, 1.0, 0.5]


def test_one_cycle_follows_the_two_lines_of_wong_et_al():
    total = 50
    rate = OneCycle(max_lr=5e-3, total_steps=total, warmup_fraction=0.4)
    expected = np.interp(np.arange(1, total + 1), [0, 0.4 * total, total], [0, 5e-3, 0])
    np.testing.assert_allclose([float(rate(s)) for s in range(total)], expected, atol=1e-8)


def test_one_cycle_stays_at_its_lower_rate_afterwards():
    rate = OneCycle(max_lr=1.0, total_steps=10, min_lr=0.25)
    assert [float(rate(step)) for step in (9, 10, 1000)] == [0.25] * 3


@given(
    st.floats(0, 1),
    st.floats(1e-6, 1),
    st.integers(2, 10_000),
    st.floats(0.01, 0.99),
    st.integers(0, 2**31 - 1),
)
@settings(max_examples=50, deadline=None)
def test_rates_never_leave_their_bounds(low, span, steps, warmup, step):
    high = low + span
    for rate in (Triangular(low, high, steps), OneCycle(high, steps, warmup, low)):
        assert low - 1e-6 <= float(rate(step)) <= high + 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_survive_serialization(schedule):
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    optimizer = keras.optimizers.Adam(schedule)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert float(again.learning_rate) == float(optimizer.learning_rate) > 0.0


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_agree_inside_a_compiled_function(schedule, jit):
    compiled = tf.function(schedule, jit_compile=jit)
    for step in range(12):
        expected = float(schedule(step))
        for dtype in (tf.int32, tf.int64):
            assert float(compiled(tf.constant(step, dtype))) == pytest.approx(expected, rel=1e-6)


def test_an_optimizer_follows_its_step_count():
    variable = keras.Variable(0.0)
    optimizer = keras.optimizers.SGD(Triangular(min_lr=1.0, max_lr=2.0, period_steps=4))
    moved = []
    for _ in range(4):
        before = float(variable)
        optimizer.apply([tf.constant(1.0)], [variable])
        moved.append(before - float(variable))
    np.testing.assert_allclose(moved, [1.0, 1.5, 2.0, 1.5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Triangular(0.2, 0.1, 10), "min_lr=0.2"),
        (lambda: Triangular(-0.1, 0.1, 10), "min_lr=-0.1"),
        (lambda: Triangular(0.0, 0.0, 10), "max_lr=0.0"),
        (lambda: Triangular(0.0, float("nan"), 10), "max_lr=nan"),
        (lambda: Triangular(0.0, float("inf"), 10), "max_lr=inf"),
        (lambda: Triangular(0.0, 0.1, 1), "period_steps"),
        (lambda: Triangular(0.0, 0.1, 2.5), "period_steps"),
        (lambda: OneCycle(0.1, 0), "total_steps"),
        (lambda: OneCycle(0.1, 10, warmup_fraction=0.0), "warmup_fraction"),
        (lambda: OneCycle(0.1, 10, warmup_fraction=1.0), "warmup_fraction"),
        (lambda: OneCycle(0.1, 10, min_lr=0.2), "min_lr=0.2"),
    ],
)
def test_arguments_that_make_no_schedule_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
