"""A client that has TensorFlow alone: loads an exported classifier and measures it.

    python -I serve_check.py MODEL IMAGES.npy LABELS.npy [ANSWERS.npz]

Prints one JSON line: accuracy and images per second of a single draw and of 16, and which of the
forbidden modules got in. ANSWERS.npz receives what every signature says of the first images.
"""

import importlib.abc
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FORBIDDEN = ("pnil_tf", "keras")
BATCH, DRAWS, FIRST = 500, 16, 4


class _Blocker(importlib.abc.MetaPathFinder):
    """Stands for an environment in which the forbidden modules are not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"{name} is not to be had here", name=name)


def accuracy_and_speed(answer, images, labels):
    """The share of right classes, and images per second after one batch that does not count."""
    answer(images[:BATCH])
    started = time.perf_counter()
    right = sum(
        int((answer(images[i : i + BATCH])["class"].numpy() == labels[i : i + BATCH]).sum())
        for i in range(0, len(images), BATCH)
    )
    seconds = time.perf_counter() - started
    return {
        "accuracy": right / len(images),
        "images_per_second": round(len(images) / seconds, 1),
    }


def main(model, images_file, labels_file, answers_file=None):
    import numpy as np
    import tensorflow as tf

    # Only now: importing TensorFlow imports Keras. Without it, loading must get along.
    for name in [name for name in sys.modules if name.partition(".")[0] in FORBIDDEN]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Blocker())

    images, labels = np.load(images_file), np.load(labels_file)
    loaded = tf.saved_model.load(model)  # kept: the functions do not keep the variables
    signatures = loaded.signatures
    draws = tf.constant(DRAWS)

    def single(batch):
        return signatures["serving_default"](images=tf.constant(batch))

    def many(batch):
        return signatures["monte_carlo"](images=tf.constant(batch), draws=draws)

    report = {
        "tensorflow": tf.__version__,
        "images": len(images),
        "single": accuracy_and_speed(single, images, labels),
        f"monte_carlo_{DRAWS}": accuracy_and_speed(many, images, labels),
    }
    if answers_file is not None:
        first = tf.constant(images[:FIRST])
        pixels = tf.cast(tf.round(first * 255.0), tf.uint8)
        given = {
            "images": first,
            "draws": draws,
            "seed": tf.constant(7, tf.int64),
            "image_bytes": tf.stack([tf.io.encode_png(image) for image in pixels]),
        }
        answers = {}
        for name, signature in signatures.items():
            wanted = signature.structured_input_signature[1]
            inputs = {key: given[key] for key in wanted} | (
                {"images": pixels} if name == "serving_uint8" else {}
            )
            for key, value in signature(**inputs).items():
                answers[f"{name}/{key}"] = value.numpy()
        np.savez(answers_file, **answers)
    report["got_in"] = sorted(name for name in FORBIDDEN if name in sys.modules)
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
