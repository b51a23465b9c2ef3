"""Where images come from: nothing else in `pnil_tf` reads a data set.

`load` turns a `DataSettings` into a `Dataset` held in memory, and `training_stream` and `batches`
turn its image sets into `tf.data` pipelines.
"""

from pnil_tf.data.load import load
from pnil_tf.data.settings import DATA_SOURCES, DataSettings
from pnil_tf.data.streams import batches, training_stream
from pnil_tf.data.types import Dataset, ImageSet

__all__ = [
    "DATA_SOURCES",
    "DataSettings",
    "Dataset",
    "ImageSet",
    "batches",
    "load",
    "training_stream",
]
