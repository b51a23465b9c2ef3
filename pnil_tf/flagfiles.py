"""The flagfiles that come with the package, one for each of the paper's trainings."""

from __future__ import annotations

from pathlib import Path

from pnil_tf.errors import UserError
from pnil_tf.validation import meant

PREFIX = "preset:"
"""What stands before the name of one of ours in `--flagfile=`."""

_FOLDER = Path(__file__).resolve().parent / "configs"


def presets() -> list[str]:
    """The names of all of them."""
    return sorted(file.stem for file in _FOLDER.glob("*.cfg"))


def preset(name: str) -> Path:
    """The flagfile of a name.

    Raises:
        UserError: If there is none.
    """
    names = presets()
    if name not in names:
        [advice] = meant(name, names) or [f"There are: {', '.join(names)}."]
        raise UserError(f"There is no flagfile {PREFIX}{name}. {advice}")
    return _FOLDER / f"{name}.cfg"
