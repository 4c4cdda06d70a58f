"""Server-sent events, as streams of OpenAI-compatible servers have them (the WHATWG standard, section 9.2).

Only CR, LF and CRLF end a line: U+2028, U+0085 and the like are characters of a text.
"""

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FIELDS = ("data", "event", "id", "retry")


@dataclass(frozen=True)
class Event:
    """One event: its data and its type; `type` is empty where the server gives none.

    `is_event` is false for lines that are not of the protocol, as when a server answers with one JSON object.
    """

    data: str
    type: str = ""
    is_event: bool = True


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream; what is not of the protocol comes last, as one `Event`.

    An event ends at an empty line, or as soon as its data is a JSON value or `[DONE]`, since some servers
    leave the empty lines out.
    """
    data: list[str] = []
    kind, foreign = "", list[str]()
    for line in lines(chunks):
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if any(data):
                yield Event("\n".join(data), kind)
            data, kind = [], ""
        elif colon and not name:
            continue  # a comment, which keeps the connection open
        elif name not in FIELDS:
            foreign.append(line)
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
            if _is_whole(joined := "\n".join(data)):
                yield Event(joined, kind)
                data = []
    if any(data):
        yield Event("\n".join(data), kind)
    if foreign:
        yield Event("\n".join(foreign), is_event=False)


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of UTF-8 text that comes in chunks, cut anywhere; a byte order mark at the start is left
    out."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    rest = ""
    for chunk in chunks:
        rest += decoder.decode(chunk)
        # A CR at the end of a chunk may be the first half of CRLF.
        held = "\r" if rest.endswith("\r") else ""
        whole = rest.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        yield from whole[:-1]
        rest = whole[-1] + held
    rest += decoder.decode(b"", final=True)
    if rest:
        yield from rest.removesuffix("\r").split("\n")


def _is_whole(data: str) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return data.strip() == "[DONE]"
    return True
