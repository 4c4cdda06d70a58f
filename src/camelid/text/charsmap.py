"""Bounds checks for the compiled character map of a SentencePiece model; the library itself has none.

Layout (SentencePiece's src/normalizer.cc): the size of a double-array trie as uint32, the trie as uint32
units (darts-clone), then the replacements, zero-terminated UTF-8 strings. A leaf holds the offset of its
string.
"""

import struct

import numpy as np

from camelid.base.errors import CamelidError

LEAF, HAS_LEAF, WIDE, BLOCK = 1 << 31, 1 << 8, 1 << 9, 0xFF


def check_charsmap(charsmap: bytes) -> None:
    """Raises `CamelidError` if a lookup could read outside the table."""
    if len(charsmap) < 4:
        raise CamelidError("its character map (precompiled_charsmap) is truncated")
    (size,) = struct.unpack_from("<I", charsmap)
    replacements = np.frombuffer(charsmap, np.uint8, offset=min(4 + size, len(charsmap)))
    if size == 0 or size % 4 or 4 + size >= len(charsmap):
        raise CamelidError(
            f"its character map has {len(charsmap)} bytes and claims a trie of {size}; the file is damaged"
        )
    units = np.frombuffer(charsmap, "<u4", count=size // 4, offset=4).astype(np.int64)
    inner = (units & LEAF) == 0
    inner[0] = True  # every lookup starts at unit 0
    children = np.arange(len(units)) ^ ((units >> 10) << ((units & WIDE) >> 6))
    if ((children | BLOCK)[inner] >= len(units)).any():
        raise CamelidError("its character map points outside itself; the file is damaged")
    starts = units[children[inner & ((units & HAS_LEAF) != 0)]] & ~LEAF
    if (starts >= len(replacements)).any() or (replacements[starts] & 0xC0 == 0x80).any():
        raise CamelidError("its character map points to invalid replacements; the file is damaged")
    try:
        bytes(replacements).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CamelidError(
            "its character map holds replacements that are not valid UTF-8; the file is damaged"
        ) from error
