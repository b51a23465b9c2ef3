"""Images and labels of the user's own, as arrays in an .npz file."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np

from pnil_tf.contract.batches import check_bytes
from pnil_tf.contract.image_axes import channels_first
from pnil_tf.contract.pixel_range import PixelRange, range_like
from pnil_tf.data import memory
from pnil_tf.data.image_set import ImageSet
from pnil_tf.data.types import SourceData
from pnil_tf.errors import UserError, argument

# Names of images and labels for each split, as Keras' own files and most people's have them.
_TRAIN = (("x_train", "y_train"), ("x", "y"))
_VALIDATION = (("x_val", "y_val"), ("x_valid", "y_valid"), ("x_validation", "y_validation"))
_TEST = (("x_test", "y_test"),)


def load(given: str, pixel_range: PixelRange) -> SourceData:
    """Read `x` and `y`, or `x_train`, `y_train`, and `x_val`, `y_val`, `x_test`, `y_test` if there.

    Images are `(n, height, width)` or `(n, height, width, channels)`, uint8, of which 255 is
    white, or floats in `pixel_range`. Labels are integers from 0, `(n,)` or `(n, 1)`. Objects are
    never unpickled.

    Args:
        given: the path as the user gave it.
        pixel_range: of float pixels.

    Raises:
        UserError: if the file cannot be read, or its arrays are others.
    """
    path = Path(given).expanduser()
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"There is no file at npz:{given}. Check the path.")
    arrays, left_out = _read(path, given)
    sets: dict[str, ImageSet] = {}
    for names in (_TRAIN, _VALIDATION, _TEST):
        for x, y in names:
            if x in arrays:
                images = _images(arrays.pop(x), x, given, pixel_range)
                sets[names[0][0]] = ImageSet(images, _labels(arrays.pop(y), y, images, given))
    train, validation, test = (sets.get(names[0][0]) for names in (_TRAIN, _VALIDATION, _TEST))
    assert train is not None  # `_read` refuses a file without it
    _check_together(sets, given)
    classes = max(int(one.labels.max()) for one in sets.values()) + 1
    return SourceData(
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(str(label) for label in range(classes)),
        detail=f"arrays in {path.name}",
        left_out=left_out,
    )


def _read(path: Path, given: str) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays that are used, and what else the file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = _wanted(set(sizes), given)
        memory.check_room(
            f"npz:{given}",
            (1 + memory.COPIES) * sum(sizes[name].file_size for name in wanted),
            "its arrays",
            "Use fewer or smaller images, or a machine with more memory.",
        )
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in wanted}
    except UserError:
        raise
    # Damaged archives end in errors of every kind in the two libraries.
    except Exception as error:
        said = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise UserError(
            f"npz:{given} cannot be read: {said}. Write it with np.savez(FILE, x=images, "
            "y=labels), with plain numbers in the arrays."
        ) from error
    others = sorted(set(sizes) - set(wanted))
    shown = ", ".join(ascii(name)[1:-1] for name in others[:5])
    more = f", and {len(others) - 5} more" if len(others) > 5 else ""
    return arrays, (f"arrays of other names: {shown}{more}",) if others else ()


def _wanted(there: set[str], given: str) -> list[str]:
    wanted: list[str] = []
    for names in (_TRAIN, _VALIDATION, _TEST):
        pairs = [(x, y) for x, y in names if x in there or y in there]
        if len(pairs) > 1 or (not pairs and names is _TRAIN):
            raise UserError(
                f"npz:{given} needs one array of images and one of labels: x and y, or x_train "
                "and y_train (and x_val, y_val, x_test, y_test). Found: "
                f"{', '.join(sorted(ascii(name)[1:-1] for name in there)[:10]) or 'none'}."
            )
        for pair in pairs:
            missing = [name for name in pair if name not in there]
            if missing:
                raise UserError(f"npz:{given} has no array {missing[0]}. Add it.")
            wanted += pair
    return wanted


def _images(x: np.ndarray, name: str, given: str, pixel_range: PixelRange) -> np.ndarray:
    """uint8, or float32 in [0, 1]; `(n, height, width, channels)`."""
    if channels_first(x.shape[1:]):
        raise UserError(
            f"{name} in npz:{given} has its channels first, in the shape {x.shape}. Write "
            f"{name}.transpose(0, 2, 3, 1)."
        )
    if x.ndim in (3, 4) and not len(x):
        raise UserError(
            f"{name} in npz:{given} must hold images, and holds none: it has the shape {x.shape}. "
            "Write at least one."
        )
    if x.ndim not in (3, 4) or not x.size:
        raise UserError(
            f"{name} in npz:{given} must hold images, of the shape (n, height, width) or "
            f"(n, height, width, channels). It has the shape {x.shape}. Reshape it."
        )
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind != "f":
        raise UserError(
            f"{name} in npz:{given} must hold uint8 (0 to 255) or floats in {pixel_range}. It "
            f"holds {x.dtype}. Write {name}.astype('uint8') if its values go from 0 to 255."
        )
    low, high = float(x.min()), float(x.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError(
            f"The float pixels of {name} in npz:{given} must be finite numbers. There is NaN or "
            "infinity among them. Replace those values, or leave these images out."
        )
    if not (pixel_range.low <= low and high <= pixel_range.high):
        seem = range_like(low, high)
        hint = (
            f"Give {argument('pixel_range', (seem.low, seem.high))} if that is what the "
            "model takes, or "
            if seem is not None and seem != pixel_range
            else ""
        )
        raise UserError(
            f"The float pixels of {name} in npz:{given} must lie in {pixel_range}. They go from "
            f"{low:.4g} to {high:.4g}. {hint}{'scale' if hint else 'Scale'} them."
        )
    if pixel_range.width > 100 and low >= 0 and 0 < high <= 1:
        raise UserError(
            f"The float pixels of {name} in npz:{given} go from {low:.4g} to {high:.4g}, so in "
            f"{pixel_range} every image would be black. Multiply them by {pixel_range.high:g}, or "
            f"leave {argument('pixel_range')} out."
        )
    unit = np.asarray(pixel_range.to_unit(x.astype(np.float32)), np.float32)
    return np.clip(unit, 0, 1)  # against a last bit of rounding


def _labels(y: np.ndarray, name: str, images: np.ndarray, given: str) -> np.ndarray:
    n = len(images)
    if y.shape == (n, 1):
        y = y[:, 0]
    if y.ndim == 2 and len(y) == n:
        raise UserError(
            f"{name} in npz:{given} must hold one class number for each image. It has the shape "
            f"{y.shape}; if it is one-hot, write {name}.argmax(axis=1)."
        )
    if y.shape != (n,):
        raise UserError(
            f"{name} in npz:{given} must hold {n} labels, one for each image. It has the shape "
            f"{y.shape}."
        )
    if y.dtype.kind in "SU":
        raise UserError(
            f"{name} in npz:{given} must hold integers, the numbers of the classes from 0. It "
            f"holds text, such as {str(y[0])!r}. Number the classes, for example by "
            f"numpy.unique({name}, return_inverse=True)[1]."
        )
    if y.dtype.kind not in "iu":
        raise UserError(
            f"{name} in npz:{given} must hold integers, the numbers of the classes from 0. It "
            f"holds {y.dtype}. Write {name}.astype('int32') if its values are whole."
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= 2**31 - 1:
        raise UserError(
            f"The labels {name} in npz:{given} must be the numbers of the classes from 0. They "
            f"go from {low} to {high}. Number the classes again."
        )
    return y.astype(np.int32)


def _check_together(sets: dict[str, ImageSet], given: str) -> None:
    shapes = {one.images.shape[1:] for one in sets.values()}
    kinds = {one.images.dtype.name for one in sets.values()}
    if len(shapes) > 1 or len(kinds) > 1:
        raise UserError(
            f"The images of the splits in npz:{given} differ: {sorted(shapes)} of "
            f"{', '.join(sorted(kinds))}. Give all of them one shape and one type."
        )
    if kinds == {"uint8"}:
        white = max(int(one.images.max()) for one in sets.values())
        check_bytes(white, f"The images in npz:{given}")
    train = set(sets[_TRAIN[0][0]].labels.tolist())
    for name, one in sets.items():
        unknown = sorted(set(one.labels.tolist()) - train)
        if unknown:
            raise UserError(
                f"{name} in npz:{given} has classes that have no training images: "
                f"{', '.join(map(str, unknown[:5]))}. Add such images, or leave these out."
            )
    gaps = sorted(set(range(max(train) + 1)) - train)
    if gaps or len(train) < 2:
        found = f"{len(train)} classes, numbered {min(train)} to {max(train)}"
        raise UserError(
            f"The training images in npz:{given} need at least two classes, numbered from 0 "
            f"without a gap. They have {found}. Number them again, for instance with "
            "np.unique(y, return_inverse=True)[1]."
        )
