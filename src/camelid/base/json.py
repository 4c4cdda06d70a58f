"""Reading a JSON file that must hold a table."""

import json
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError


def read_table(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """The object in a JSON file; raises `CamelidError` where it cannot be read or holds anything else.

    optional: a file that is not there is an empty table.
    """
    if optional and not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CamelidError(f"{path} cannot be read ({error.strerror}); fetch or export it again") from error
    except (ValueError, RecursionError) as error:
        raise CamelidError(f"{path} is no JSON ({error}); fetch or export it again") from error
    if not isinstance(table, dict):
        raise CamelidError(f"{path}: a JSON object is needed, got {type(table).__name__}")
    return table
