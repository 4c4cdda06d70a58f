"""Models in several GGUF files: llama.cpp's parts, NAME-00001-of-00003.gguf, and files cut in pieces of
bytes.

Each part is a GGUF file of its own with `split.no` (from 0), `split.count` and some of the tensors; the first
has all other metadata (llama.cpp, tools/gguf-split).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError, shortened

MOST_PARTS = 99_999
"""The names have five digits."""
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_PIECE = re.compile(r"(.+\.gguf)[.-](?:part(\d+)of(\d+)|split-[a-z]+)")


def split_count(metadata: Mapping[str, Any], path: Path) -> int:
    """The number of parts of the model to which a file belongs; 1 if it is whole."""
    count = metadata.get("split.count", 1)
    if type(count) is not int or not 0 <= count <= MOST_PARTS:
        raise CamelidError(f"{path}: split.count is {shortened(count)}; it must be 1 to {MOST_PARTS:,}")
    return count


def part_paths(path: Path, metadata: Mapping[str, Any], count: int) -> list[Path]:
    """All parts, the first first; raises `CamelidError` that names those that are not beside this one."""
    number = metadata.get("split.no")
    which = f"part {number + 1 if type(number) is int else '?'} of {count}"
    name = _PART.fullmatch(path.name)
    if name is None or int(name[3]) != count:
        raise CamelidError(
            f"{path} is {which} of a split model: give them all, in one folder, under their names "
            f"NAME-00001-of-{count:05d}.gguf; parts joined with cat are not a model, those joined with "
            "llama-gguf-split --merge are"
        )
    paths = [path.with_name(f"{name[1]}-{index:05d}-of-{count:05d}.gguf") for index in range(1, count + 1)]
    if missing := [part.name for part in paths if not part.is_file()]:
        more = f" and {len(missing) - 3} more" if missing[3:] else ""
        raise CamelidError(
            f"{path} is {which} of a split model: give them all; "
            f"its folder lacks {', '.join(missing[:3])}{more}"
        )
    return paths


def cut_file(path: Path) -> str:
    """What to do with a piece of a file that was cut by bytes, as its name shows; empty for other names."""
    piece = _PIECE.fullmatch(path.name)
    if piece is None:
        return ""
    which = f"piece {piece[2]} of {piece[3]}" if piece[2] else "one piece"
    return f"it is {which} of {piece[1]}, cut by bytes: join them in order with cat"
