"""The compiled character table of a SentencePiece model, checked before a library walks it without looking.

Layout (SentencePiece's src/normalizer.cc): the size of a double-array trie as uint32, the trie as uint32 units
(darts-clone), then the replacements, UTF-8 strings that end in a zero byte. A leaf holds where its string begins.
"""

import struct

import numpy as np

from camelid.base.errors import CamelidError

LEAF, HAS_LEAF, WIDE, BLOCK = 1 << 31, 1 << 8, 1 << 9, 0xFF


def check_charsmap(charsmap: bytes) -> None:
    """Raises `CamelidError` where a walk through the table could leave it."""
    if len(charsmap) < 4:
        raise CamelidError("its table of characters is cut short")
    (size,) = struct.unpack_from("<I", charsmap)
    replacements = np.frombuffer(charsmap, np.uint8, offset=min(4 + size, len(charsmap)))
    if size == 0 or size % 4 or 4 + size >= len(charsmap):
        raise CamelidError(
            f"its table of characters says that {size} bytes of its {len(charsmap)} are the trie, which cannot be"
        )
    units = np.frombuffer(charsmap, "<u4", count=size // 4, offset=4).astype(np.int64)
    inner = (units & LEAF) == 0
    inner[0] = True  # a walk begins there without asking
    children = np.arange(len(units)) ^ ((units >> 10) << ((units & WIDE) >> 6))
    if ((children | BLOCK)[inner] >= len(units)).any():
        raise CamelidError("its table of characters points outside itself; the file is damaged")
    starts = units[children[inner & ((units & HAS_LEAF) != 0)]] & ~LEAF
    if (starts >= len(replacements)).any() or (replacements[starts] & 0xC0 == 0x80).any():
        raise CamelidError("its table of characters replaces by what is no text; the file is damaged")
    try:
        bytes(replacements).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CamelidError("its table of characters replaces by what is no UTF-8 text") from error
