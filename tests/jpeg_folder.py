"""A folder of small JPEG files, of which every one is another picture."""

import numpy as np
from PIL import Image


def write_jpegs(root, train=24, test=12, size=16, classes=("cat", "dog"), seed=0):
    """Writes `root/{train,test}/CLASS/*.jpg`, every second image larger; returns `root`."""
    generator = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count // len(classes)):
                side = size * (1 + i % 2)
                noise = generator.integers(0, 60, (side, side, 3))
                brightness = np.linspace(20, 180, side)
                waves = brightness if label else brightness[::-1]
                pixels = (noise + waves[:, None, None]).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
    return root
