"""Writes small sets of IDX files, as the MNIST family comes."""

import gzip
import struct

import numpy as np


def encode(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write_set(folder, n_train=60, n_test=40, zipped=False, separator="-", seed=0):
    """Write the four files of a small MNIST-like set; return its arrays by stem."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)
    arrays = {}
    for stem, n in (("train", n_train), ("t10k", n_test)):
        arrays[f"{stem}-images"] = random.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        arrays[f"{stem}-labels"] = (np.arange(n) % 10).astype(np.uint8)
    for stem, array in arrays.items():
        content = encode(array)
        name = f"{stem}{separator}idx{array.ndim}-ubyte"
        path = folder / (name + ".gz" if zipped else name)
        path.write_bytes(gzip.compress(content, 1) if zipped else content)
    return arrays
