import dataclasses
from typing import Any

import numpy as np
import pytest

from pnil_tf.errors import UserError
from pnil_tf.validation import check_types


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"whole": True},
        {"whole": 1.0},
        {"whole": None},
        {"real": "0.5"},
        {"maybe": 3},
        {"pair": (1,)},
        {"pair": (1, "2")},
        {"pair": [1, 2]},
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
