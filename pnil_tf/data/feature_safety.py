"""Whether a prepared data set's `features.json` names nothing but features.

TensorFlow Datasets imports whatever module the file names, and a run's record chooses the folder:
somebody else's run must not execute code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pnil_tf.errors import UserError
from pnil_tf.files import refuse_pipes

FILE = "features.json"
_HOME = "tensorflow_datasets.core.features."
# As the file says it today, as protocol buffers read it, too, and as it was said before 2021.
_KEYS = ("pythonClassName", "python_class_name", "type")
_DEPTHS = ("", "*/", "*/*/")


def check_all(folder: Path) -> None:
    """Check every version and configuration of a data set in `folder`; see `check`."""
    for depth in _DEPTHS:
        for file in sorted(folder.glob(depth + FILE)):
            check(file)


def check(file: Path) -> None:
    """Refuse a `features.json` that names another class than TensorFlow Datasets' own features.

    Raises:
        UserError: if it does, cannot be read, or has a pipe beside it, which would be waited for.
    """
    refuse_pipes(file.parent, "Remove it, or prepare the data set again.")
    named: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        named.extend(value for key, value in pairs if key in _KEYS and isinstance(value, str))
        return dict(pairs)

    try:
        json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=note)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}. Prepare the data set again.") from error
    import tensorflow_datasets as tfds

    for name in named:
        inner, _, last = name.removeprefix(_HOME).rpartition(".")
        if not name.startswith(_HOME) or "." in inner or not hasattr(tfds.features, last):
            raise UserError(
                f"{file} names the class {name!r}, which is no feature of TensorFlow Datasets, and "
                "loading it would run its code. Prepare the data set again, or do not use it."
            )
