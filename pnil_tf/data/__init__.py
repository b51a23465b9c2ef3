"""Where images come from: nothing else in `pnil_tf` reads a data set.

`load` turns a `DataSettings` into a `Dataset` held in memory, and `training_stream` and `batches`
turn its image sets into `tf.data` pipelines. They are imported when first used: the settings and
the names of data sets need no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pnil_tf.data.settings import DATA_SOURCES, DataSettings

if TYPE_CHECKING:
    from pnil_tf.data.image_set import ImageSet
    from pnil_tf.data.loading import load
    from pnil_tf.data.streams import batches, training_stream
    from pnil_tf.data.types import Dataset

__all__ = [
    "DATA_SOURCES",
    "DataSettings",
    "Dataset",
    "ImageSet",
    "batches",
    "load",
    "training_stream",
]

_HOMES = {
    "Dataset": "types",
    "ImageSet": "image_set",
    "batches": "streams",
    "load": "loading",
    "training_stream": "streams",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pnil_tf.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pnil_tf.data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
