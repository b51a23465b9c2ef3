import dataclasses
from typing import Any

import numpy as np
import pytest

from pnil_tf.data.settings import DataSettings
from pnil_tf.errors import UserError, speaking_of_flags
from pnil_tf.runs.settings import TrainSettings
from pnil_tf.training.settings import AttackTrainingSettings, OptimizationSettings
from pnil_tf.validation import (
    LARGEST_COUNT,
    check_types,
    require_count,
    require_known,
    require_one_of,
    require_positive,
    use_plain_numbers,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    whole: int = 1
    real: float = 0.5
    maybe: str | None = None
    pair: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    anything: Any = None
    either: float | str = "auto"
    yes: bool = False


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"whole": np.int64(3), "real": 1},
        {"real": np.float32(0.5), "either": 2.0},
        {"maybe": "x", "pair": (1, 2), "names": ("a", "b", "c"), "anything": [1]},
    ],
)
def test_values_of_the_right_types(right):
    check_types(Settings(**right))


def test_numbers_become_those_of_python():
    settings = Settings(whole=np.int64(3), real=np.float32(0.5), either=np.float64(2), yes=True)
    use_plain_numbers(settings)
    assert [type(value) for value in dataclasses.astuple(settings)[:2]] == [int, float]
    assert (type(settings.either), settings.yes) == (float, True)


def test_a_whole_number_in_the_place_of_a_real_one_becomes_one():
    settings = Settings(real=2)
    use_plain_numbers(settings)
    assert type(settings.real) is float
    settings = Settings(real=10**400)  # no float is as large
    use_plain_numbers(settings)
    assert settings.real == 10**400


@pytest.mark.parametrize("pair", [[1, 2], np.array([1, 2])], ids=["list", "array"])
def test_a_list_or_an_array_in_the_place_of_a_tuple_becomes_one(pair):
    settings = Settings(pair=pair)
    check_types(settings)
    assert settings.pair == (1, 2)
    assert type(settings.pair[0]) is int


@pytest.mark.parametrize(
    "wrong",
    [
        {"whole": True},
        {"whole": 1.0},
        {"whole": None},
        {"real": "0.5"},
        {"maybe": 3},
        {"whole": np.array(1)},
        {"yes": np.True_},
        {"pair": (1,)},
        {"pair": np.array([[1, 2], [3, 4]])},
        {"pair": (1, "2")},
        {"pair": [1, "2"]},
        {"names": ("a", 1)},
        {"names": "ab"},
        {"either": None},
        {"yes": 1},
    ],
)
def test_values_of_other_types_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"{name} must be of the type .* Received"):
        check_types(Settings(**wrong))


def test_a_number_in_quotes_is_said_to_need_none():
    for text in ("8/255", "0.1"):
        with pytest.raises(UserError, match=f"Received: '{text}'. Write {text} without quotes"):
            check_types(Settings(real=text))
    with pytest.raises(UserError, match=r"Received: 'auto'\.$"):
        check_types(Settings(real="auto"))


def test_errors_speak_of_arguments_in_python_and_of_flags_in_a_command():
    with pytest.raises(UserError, match=r"^epochs must be a whole number.* Received: 0\.$"):
        OptimizationSettings(epochs=0)
    with speaking_of_flags(), pytest.raises(UserError, match=r"^--epochs must be"):
        OptimizationSettings(epochs=0)
    with pytest.raises(UserError, match=r"so norm='l2' needs a radius of its own\. Pass epsilon"):
        TrainSettings(DataSettings("mnist"), attack=AttackTrainingSettings(norm="l2"))


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_what_must_be_positive(wrong):
    require_positive("x", 1e-9)
    with pytest.raises(UserError, match="x must be greater than 0"):
        require_positive("x", wrong)


def test_what_must_be_a_count():
    require_count("x", LARGEST_COUNT)
    for wrong in (0, -1, LARGEST_COUNT + 1):
        with pytest.raises(UserError, match=f"x must be a whole number.*Received: {wrong}"):
            require_count("x", wrong)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), 0])
def test_numbers_that_are_too_large_or_none_are_said_to_be(value):
    with pytest.raises(UserError, match=r"epsilon must be greater than 0, and finite.{0,80}$"):
        require_positive("epsilon", value)


def test_a_whole_number_of_very_many_digits_is_not_written_out():
    with pytest.raises(UserError, match="more than 10,000 digits"):
        require_count("draws", 10**10_000)


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one():
    with pytest.raises(UserError, match=r"Received: 'thorogh'\. Did you mean 'thorough'\?$"):
        require_one_of("effort", "thorogh", ("quick", "thorough"))
    with pytest.raises(UserError, match=r"Received: 'x'\.$"):
        require_one_of("effort", "x", ("quick", "thorough"))
    with pytest.raises(UserError, match=r"Received: 'pdg'\. Did you mean 'pgd'\? Choose from pgd,"):
        require_known("attack", "pdg", ("pgd", "fgsm"))
    with pytest.raises(UserError, match=r"Received: 7\. Choose from pgd"):
        require_known("attack", 7, ("pgd", "fgsm"))
