"""From the builders of TensorFlow Datasets to labelled images."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from pnil_tf.data import memory, records
from pnil_tf.data.grain_stream import held_in_memory
from pnil_tf.data.image_files import ImageFiles
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.resizing import resize
from pnil_tf.data.types import READ_WHEN_NEEDED, Images, SourceData
from pnil_tf.errors import UserError, argument, reason

TRAIN = "train"
# In the order of preference: several sets publish their test images without labels.
TEST_SPLITS = ("test", "validation")

_BATCH = 512


def read(
    name: str,
    builder: Any,
    image_size: tuple[int, int] | None,
    detail: str,
    data_in_memory: str = "auto",
) -> SourceData:
    """Read the training and test images of a prepared data set.

    Args:
        name: of the data set, for messages.
        builder: a prepared `tfds.core.DatasetBuilder`.
        image_size: `(height, width)` to resize to, or None to keep the images as they are.
        detail: one phrase on where the images came from.
        data_in_memory: one of `IN_MEMORY`; see `DataSettings`.

    Returns:
        The split `train`, and the first labelled one of `TEST_SPLITS`, if any.

    Raises:
        UserError: if this is no image classification set, its images have several sizes and no
            size is asked for, its files are damaged, memory is too small, or images are to stay in
            files that cannot be read in any order.
    """
    image_key, label_key = _keys(name, builder.info)
    splits = builder.info.splits
    if TRAIN not in splits or not splits[TRAIN].num_examples:
        raise UserError(
            f"'{name}' has no training images. Received splits: {', '.join(splits) or 'none'}. "
            "Choose a data set with a split named 'train'."
        )
    candidates = [split for split in TEST_SPLITS if split in splits and splits[split].num_examples]
    shape = _image_shape(name, builder.info.features[image_key], image_size)
    images = sum(splits[split].num_examples for split in [TRAIN, *candidates[:1]])
    in_any_order = records.are_stored(builder)
    if in_any_order:
        in_memory = held_in_memory(f"'{name}'", images, shape, data_in_memory)
    else:
        in_memory = True
        _refuse_to_stream(name, data_in_memory)
        memory.check_fits(name, images, shape, advice=f"prepare it by {records.HOW}")

    def read_split(split: str) -> Images | None:
        """Its images, or None if they have no labels."""
        classes = builder.info.features[label_key].num_classes
        if in_any_order:
            stored = records.Records(name, builder, split, image_key, label_key)
            pixels, labels, digests = stored.read_all(shape, in_memory)
        else:
            pixels, labels = _read_split(name, builder, split, image_key, label_key, shape)
        if labels.max(initial=0) >= classes:
            raise UserError(
                f"The {split} labels of '{name}' go up to {labels.max()}, but it has {classes} "
                "classes. Prepare the data set again."
            )
        if split != TRAIN and labels.min() < 0:
            return None
        if pixels is None:
            reader = records.RecordReader(stored, labels, digests, shape)
            return ImageFiles(reader, np.arange(len(labels)))
        return ImageSet(pixels, labels)

    train = read_split(TRAIN)
    assert train is not None
    tests = (read_split(split) for split in candidates)
    return SourceData(
        train=train,
        test=next((images for images in tests if images is not None), None),
        class_names=tuple(builder.info.features[label_key].names),
        detail=detail,
        remarks=() if in_memory else (READ_WHEN_NEEDED,),
    )


def _refuse_to_stream(name: str, data_in_memory: str) -> None:
    if data_in_memory == "false":
        raise UserError(
            f"The images of '{name}' are prepared as records that cannot be read in any order. "
            f"Received: {argument('data_in_memory', data_in_memory)}. Prepare the data set by "
            f"{records.HOW}, or leave it out."
        )


def check_usable(name: str, info: Any, image_size: tuple[int, int] | None) -> None:
    """Refuse a data set that `read` could not use, by its `tfds.core.DatasetInfo` alone.

    Raises:
        UserError: if it is no image classification set, or its images have several sizes and
            none is asked for.
    """
    image_key, _ = _keys(name, info)
    _image_shape(name, info.features[image_key], image_size)


def first_encoded_image(name: str, builder: Any) -> bytes:
    """The first training image as it is stored on disk."""
    import tensorflow_datasets as tfds

    image_key, label_key = _keys(name, builder.info)
    if records.are_stored(builder):
        return records.Records(name, builder, TRAIN, image_key, label_key).encoded(0)
    stored = builder.as_dataset(
        split=TRAIN, read_config=_in_order(), decoders={image_key: tfds.decode.SkipDecoding()}
    )
    (example,) = stored.take(1).as_numpy_iterator()
    return bytes(example[image_key])


def _keys(name: str, info: Any) -> tuple[str, str]:
    """The names of the image and label features of an image classification set."""
    import tensorflow_datasets as tfds

    keys = info.supervised_keys
    if keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        keys = ("image", "label")
    image, label = (dict(info.features).get(key) for key in keys)
    is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
    if not is_image or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(
            f"'{name}' is no image classification set: it needs one 8-bit image and one class "
            f"label per example. Received features: {', '.join(info.features)}. Choose another "
            "data set, or put the images in class folders and use folder:PATH."
        )
    return keys[0], keys[1]


def _image_shape(
    name: str, feature: Any, image_size: tuple[int, int] | None
) -> tuple[int, int, int]:
    height, width, channels = feature.shape
    if image_size is not None:
        height, width = image_size
    if height is None or width is None:
        raise UserError(
            f"The images of '{name}' have several sizes, and a network needs one. Give an image "
            "size, for instance 64x64."
        )
    return height, width, channels


def _read_split(
    name: str,
    builder: Any,
    split: str,
    image_key: str,
    label_key: str,
    shape: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    height, width, channels = shape

    def image_and_label(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        image = example[image_key]
        if builder.info.features[image_key].shape[:2] != shape[:2]:
            image = resize(image, (height, width))
        return tf.ensure_shape(image, shape), tf.cast(example[label_key], tf.int32)

    n = builder.info.splits[split].num_examples
    images = np.empty((n, height, width, channels), np.uint8)
    labels = np.empty((n,), np.int32)
    options = tf.data.Options()
    options.autotune.enabled = False
    filled = 0
    try:
        examples = builder.as_dataset(split=split, read_config=_in_order())
        stream = examples.map(image_and_label, num_parallel_calls=4).batch(_BATCH).prefetch(2)
        for image_batch, label_batch in stream.with_options(options).as_numpy_iterator():
            images[filled : filled + len(label_batch)] = image_batch
            labels[filled : filled + len(label_batch)] = label_batch
            filled += len(label_batch)
    except (tf.errors.OpError, OSError, ValueError, AssertionError) as error:
        raise UserError(
            f"The {split} images of '{name}' cannot be read: {_damage(builder, split, error)}. "
            "Prepare the data set again."
        ) from error
    if filled != n:
        raise UserError(
            f"The {split} split of '{name}' is incomplete: {filled:,} of {n:,} images. Prepare "
            "the data set again."
        )
    return images, labels


def _in_order() -> Any:
    """Read the examples in the order on disk: the same in every run."""
    import tensorflow_datasets as tfds

    return tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)


def _damage(builder: Any, split: str, error: Exception) -> str:
    """What is wrong, with the file that it is wrong with where its records say so."""
    for path in builder.info.splits[split].filepaths:
        if "tfrecord" not in str(path):
            continue
        try:
            for _ in tf.data.TFRecordDataset(str(path)):
                pass
        except tf.errors.OpError as found:
            return f"the file {path} is damaged ({reason(found)})"
    return reason(error)
