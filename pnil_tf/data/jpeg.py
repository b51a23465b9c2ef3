"""Telling from the stored bytes whether, and how hard, images were compressed as JPEG."""

from __future__ import annotations

import io

from PIL import Image

# Sum of the luminance table in annex K of the JPEG standard, the base of the IJG quality scale.
_BASE_SUM = 3688


def quality(encoded: bytes) -> int | None:
    """The quality from 1 to 100, on the scale of the Independent JPEG Group, of a JPEG image.

    Read from the sum of the luminance quantization table: exact from about 25 to 95, and an
    approximation beyond, where the table's entries are clipped.

    Returns:
        None if `encoded` is no JPEG file, or holds no such table.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
            luminance = getattr(image, "quantization", {}).get(0)
    except Exception:  # Pillow's errors on damaged files are of every kind
        return None
    if not luminance:
        return None
    scale = 100 * sum(luminance) / _BASE_SUM
    return round(100 - scale / 2 if scale <= 100 else 5000 / scale)
