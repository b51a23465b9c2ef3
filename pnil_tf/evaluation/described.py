"""What is said of the images of an evaluation, looked at before the work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pnil_tf.errors import UserError


def described(data: Mapping[str, Any] | None, num_classes: int) -> dict[str, Any]:
    """Returns what results may say of the images, as JSON keeps it.

    Args:
        data: What was said: JSON types, or NumPy's numbers and arrays in their place.
        num_classes: The model's classes.

    Raises:
        UserError: If the results could not be written with it, or it does not fit the model.
    """
    if data is None:
        return {"source": "arrays"}
    try:
        found = json.loads(json.dumps(dict(data), allow_nan=False, default=_plain))
    except (RecursionError, TypeError, ValueError) as error:
        raise UserError(
            f"The argument data must hold what JSON can: text, finite numbers, lists ({error}). "
            "Leave the rest out."
        ) from error
    names = found.get("class_names")
    if names and (
        not isinstance(names, list)
        or len(names) != num_classes
        or not all(isinstance(name, str) for name in names)
    ):
        count = f"{len(names)} of them" if isinstance(names, list) else repr(names)[:100]
        raise UserError(
            f"Each of the model's {num_classes} classes needs a name, a list of texts in all. "
            f"Received: {count} as class_names in data. Give one for each, or none."
        )
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no type of JSON")
