"""Makes Keras able to load what pnil_tf saved, once the package was imported; no TensorFlow here.

`import pnil_tf` must stay quick and yet be enough for `keras.models.load_model`. So Keras is told
names, not classes: a class is imported when Keras first asks for an object of it. If Keras is not
there yet, it is told when somebody imports it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

REGISTERED = {
    "AdversarialModel": "pnil_tf.training.model",
    "ClassifierAccuracy": "pnil_tf.training.accuracy",
    "ConvLogVariance": "pnil_tf.log_variance",
    "OneCycle": "pnil_tf.training.schedules",
    "PNILLayer": "pnil_tf.layers",
    "SensitivityRegularizer": "pnil_tf.layers",
    "Triangular": "pnil_tf.training.schedules",
}
"""The classes that are registered with Keras under the package name pnil_tf, and their homes."""


def register() -> None:
    """Tells Keras the names, now if it is imported, otherwise as soon as it is."""
    keras = sys.modules.get("keras")
    if keras is not None:
        _tell(keras)
    elif not any(isinstance(finder, _TellsKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TellsKeras())


class _ClassToCome:
    """Stands for a class in Keras' registry until that class is imported and takes its place."""

    def __init__(self, name: str) -> None:
        self._name = name

    def from_config(self, config: dict[str, Any]) -> Any:
        module = importlib.import_module(REGISTERED[self._name])
        return getattr(module, self._name).from_config(config)


def _tell(keras: ModuleType) -> None:
    names = keras.saving.get_custom_objects()
    for name in REGISTERED:
        names.setdefault(f"pnil_tf>{name}", _ClassToCome(name))


class _TellsKeras(importlib.abc.MetaPathFinder):
    """Finds Keras like anybody else, and adds one step to the end of its import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_tell(module: ModuleType) -> None:
            execute(module)
            _tell(module)
            sys.meta_path.remove(self)

        # On the loader itself: one in its place would hide its other abilities, such as sources.
        spec.loader.exec_module = execute_and_tell  # type: ignore[method-assign]
        return spec
