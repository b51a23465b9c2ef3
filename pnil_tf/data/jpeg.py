"""Telling from the stored bytes whether, and how hard, images were compressed as JPEG."""

from __future__ import annotations

import struct

# Sum of the luminance table in annex K of the JPEG standard, the base of the IJG quality scale.
_BASE_SUM = 3688
_START_OF_SCAN = 0xDA
_QUANTIZATION_TABLE = 0xDB


def quality(encoded: bytes) -> int | None:
    """The quality from 1 to 100, on the scale of the Independent JPEG Group, of a JPEG image.

    Read from the sum of the luminance quantization table: exact from about 25 to 95, and an
    approximation beyond, where the table's entries are clipped.

    Returns:
        None if `encoded` is no JPEG file, or holds no such table.
    """
    if not encoded.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 4 <= len(encoded) and encoded[at] == 0xFF and encoded[at + 1] != _START_OF_SCAN:
        (length,) = struct.unpack(">H", encoded[at + 2 : at + 4])
        if encoded[at + 1] == _QUANTIZATION_TABLE:
            segment = encoded[at + 4 : at + 2 + length]
            form = ">64H" if segment[:1] > b"\x0f" else ">64B"
            luminance = segment[:1] in (b"\x00", b"\x10")
            if luminance and len(segment) > struct.calcsize(form):
                scale = 100 * sum(struct.unpack_from(form, segment, 1)) / _BASE_SUM
                return round(100 - scale / 2 if scale <= 100 else 5000 / scale)
        at += 2 + length
    return None
