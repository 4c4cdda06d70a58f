"""Finds what a row gives and its rendering does not show.

A template that has no place for tools, reasoning or a system message drops them without an error, and then
something else is trained. Unique words are planted into every string and number of a row, and looked for in
its rendering, as TRL does for tools. What does not come back is changed once more by itself: the template may
have used it otherwise, such as in a condition.
"""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from camelid.base.errors import CamelidError
from camelid.text.chat_template import ChatTemplate
from camelid.text.conversation import LOSS_KEYS, REASONING, Conversation

_TAGS = re.compile(r"<[^<>\n]*>|\[/?[A-Z_]+\]")
_LAST_WORD = re.compile(r"\w(?=\W*$)")
_INDEX = re.compile(r"\[\d+\]")
_NUMBER = 7_310_000_000
_CALL = re.compile(r"messages\[\d+\]\.tool_calls\[\d+\](\.function)?\.(name|arguments.*)")
_TOOL_NAME = re.compile(r"tools\[\d+\](\.function)?\.name")
_CONTENT = re.compile(r"messages\[\d+\]\.content.*")
_ID = re.compile(r".*\.(tool_call_)?id")


@dataclass
class _Planted:
    """One part of a string, or a number, and what stands for it in the changed row."""

    path: str
    reasoning: bool
    change: Callable[[], None]
    """Changes it in the row."""
    undo: Callable[[], None]
    mark: str | None
    """What its change writes; None if only a comparison tells."""
    found: bool = False


def hidden_keys(template: ChatTemplate, conversation: Conversation) -> tuple[str, ...]:
    """The keys of a row that its rendering does not show, such as `messages[].tool_call_id`.

    Raises `CamelidError` if it does not show a message's content, a tool or a call, documents, or any
    reasoning, that before the last answer above all.
    """
    given = copy.deepcopy(template.given(conversation))
    planted = list(_plant(given))
    _look(template, given, planted)
    own = {f"messages[{index}].{key}" for index, one in enumerate(conversation.as_dicts()) for key in one}
    hidden = [one for one in planted if not one.found and (one.path in own or not _is_reasoning(one.path))]
    answers = (index for index, message in enumerate(conversation.messages) if message.role == "assistant")
    # Templates drop earlier reasoning on purpose; one that shows none has no place for it.
    anywhere = any(one.reasoning and one.found for one in planted)
    needed = f"messages[{max(answers, default=-1)}]." if anywhere else ""
    for one in hidden:
        if problem := _problem(one, needed):
            raise CamelidError(
                f"the chat template does not show {one.path}: {problem}; remove it from the row, or use a "
                "template that shows it"
            )
    return tuple(dict.fromkeys(_INDEX.sub("[]", one.path) for one in hidden))


def _problem(one: _Planted, needed: str) -> str | None:
    """Why a row with this hidden key is refused; None if it may be left out, as reasoning that is not
    `needed`."""
    if one.reasoning:
        return "the reasoning would not be trained" if one.path.startswith(needed) else None
    if _CALL.fullmatch(one.path):
        return "it has no place for tool calls, so the call would not be trained"
    if _TOOL_NAME.fullmatch(one.path):
        return "it has no place for tools, so the model would not see them"
    if _CONTENT.fullmatch(one.path):
        return "that part of the message would be lost"
    if one.path.startswith("documents["):
        return "it has no place for documents, so the model would not see them"
    return None


def _look(template: ChatTemplate, given: dict[str, Any], planted: Sequence[_Planted]) -> None:
    """Marks those that the rendering shows."""

    def rendered(prompt_too: bool = False) -> str | None:
        try:
            return template.text(given) + (
                template.text(given, add_generation_prompt=True) if prompt_too else ""
            )
        except CamelidError:
            return None

    marked = [one for one in planted if one.mark is not None]
    for one in marked:
        one.change()
    together = (rendered() or "").lower()
    for one in reversed(marked):
        one.undo()
        one.found = one.mark is not None and one.mark in together
    missing = [one for one in planted if not one.found]
    before = rendered(prompt_too=True) if missing else None
    for one in missing:
        one.change()
        one.found = rendered(prompt_too=True) != before
        one.undo()
    # Reasoning is given under several names, of which a template reads one.
    shown = {_message_of(one.path) for one in planted if one.found and _is_reasoning(one.path)}
    for one in planted:
        one.found = one.found or (_is_reasoning(one.path) and _message_of(one.path) in shown)


def _message_of(path: str) -> str:
    return path.partition(".")[0]


def _is_reasoning(path: str) -> bool:
    return path.startswith("messages[") and path.partition(".")[2] in REASONING


def _plant(given: dict[str, Any]) -> Iterator[_Planted]:
    """Every part of the row that can be changed, except what the loss and the template's own logic need."""
    numbers, ids = count(1), dict[str, str]()
    for holder, key, path in _slots(given, ""):
        name, value = path.rpartition(".")[2], holder[key]
        if name in LOSS_KEYS or (path.startswith("messages[") and name == "role"):
            continue
        if name == "type" and value == "function":
            continue
        if isinstance(value, str) and _ID.fullmatch(path) and len(value) > 6:
            # Templates check the length of ids, and look for the call with the id of its result.
            mark = ids.setdefault(value, f"{next(numbers):0{len(value)}d}")
            yield _planted(holder, key, path, value, mark, mark)
        elif isinstance(value, str):
            yield from _parts(holder, key, path, numbers)
        elif isinstance(value, bool):
            yield _planted(holder, key, path, value, not value, None)
        elif isinstance(value, int | float):
            number = type(value)(_NUMBER + next(numbers))
            yield _planted(holder, key, path, value, number, str(number))


def _slots(value: Any, path: str) -> Iterator[tuple[Any, Any, str]]:
    """Every leaf of a nested value as its holder, its key there and its path."""
    entries: Iterator[tuple[Any, Any]]
    if isinstance(value, dict):
        entries = iter(list(value.items()))
    elif isinstance(value, list):
        entries = iter(list(enumerate(value)))
    else:
        return
    for key, entry in entries:
        place = f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}" if path else str(key)
        if isinstance(entry, dict | list):
            yield from _slots(entry, place)
        else:
            yield value, key, place


def _parts(holder: Any, key: Any, path: str, numbers: Iterator[int]) -> Iterator[_Planted]:
    """A string's parts between tags, each with a word planted behind its last word."""
    text: str = holder[key]
    if not text.strip():
        return
    borders = [0, *(at for tag in _TAGS.finditer(text) for at in tag.span()), len(text)]
    spans = [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=True) if text[a:b].strip()]
    for begin, end in spans or [(0, len(text))]:
        word = _LAST_WORD.search(text, begin, end)
        at = word.end() if word else begin + len(text[begin:end].rstrip())
        inside = text.rfind("<think>", 0, at) > text.rfind("</think>", 0, at)
        yield _insertion(holder, key, path, at, f"zq{next(numbers)}qz", inside or _is_reasoning(path))


def _insertion(holder: Any, key: Any, path: str, at: int, mark: str, reasoning: bool) -> _Planted:
    """A planted word; of several in one string the later ones move when an earlier one is there."""
    text: str = holder[key]

    def change() -> None:
        now: str = holder[key]
        place = len(now) - (len(text) - at)  # the parts are planted from the first to the last
        holder[key] = f"{now[:place]}{mark}{now[place:]}"

    def undo() -> None:
        holder[key] = holder[key].replace(mark, "", 1)

    return _Planted(path, reasoning, change, undo, mark)


def _planted(holder: Any, key: Any, path: str, old: Any, new: Any, mark: str | None) -> _Planted:
    return _Planted(
        path,
        _is_reasoning(path),
        lambda: holder.__setitem__(key, new),
        lambda: holder.__setitem__(key, old),
        mark,
    )
