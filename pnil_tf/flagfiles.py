"""The flagfiles that come with the package, and the recipes: short names for some of them."""

from __future__ import annotations

from pathlib import Path

from pnil_tf.errors import UserError, argument
from pnil_tf.validation import meant

PREFIX = "preset:"
"""What stands before the name of one of ours in `--flagfile=`."""

DATASETS = ("mnist", "fashion_mnist", "cifar10")
"""The data sets that they are for: the paper's."""

RECIPES = {
    "paper": "{}_nfgsm_pnil",
    "fast": "{}_fast",
    "best": "{}_best",
    "certified": "{}_certified",
}
"""The flagfile behind each recipe, with a gap for the data set."""

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


def recipe(name: str, dataset: str) -> Path:
    """The flagfile of a recipe for a data set.

    Raises:
        UserError: If there is none.
    """
    there = {one: flagfile.format(dataset) for one, flagfile in RECIPES.items()}
    there = {one: flagfile for one, flagfile in there.items() if flagfile in presets()}
    if not there:
        said = [f"There is no recipe for {argument('dataset', dataset)}."]
        said += [*meant(dataset, DATASETS), f"There are some for {', '.join(DATASETS)}."]
        raise UserError(" ".join(said))
    if name not in there:
        said = [f"There is no recipe {name!r} for {dataset}."]
        said += [*meant(name, there), f"There are: {', '.join(there)}."]
        raise UserError(" ".join(said))
    return preset(there[name])
