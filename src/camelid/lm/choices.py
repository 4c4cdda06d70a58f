"""The texts in what OpenAI-compatible servers return, read as far as it means something."""

import json
from collections.abc import Mapping
from typing import Any

from camelid.base.errors import CamelidError
from camelid.lm.interface import FinishReason

CUT = frozenset({"length", "max_tokens", "max_output_tokens", "max_new_tokens", "model_length"})
"""What servers call the end at the length limit."""
FAILED = frozenset({"error", "abort", "aborted", "cancelled"})
NOT_TEXT = (
    "embed",
    "rerank",
    "bge-",
    "e5-",
    "gte-",
    "minilm",
    "whisper",
    "tts",
    "dall-e",
    "moderation",
    "clip",
)
"""Parts of the names and types of models that do not generate text."""
GENERATING = ("completion", "chat_completion", "completion_chat", "chat")
"""Abilities of models that do, where a server lists abilities."""


def choices_of(url: str, content: Any) -> list[dict[str, Any]]:
    """The choices of a response, in the order of their `index`; raises `CamelidError` if it has none."""
    found = content.get("choices") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found or not all(isinstance(choice, dict) for choice in found):
        raise CamelidError(f"{url}: the response has no choices: {_short(content)}")
    indices = [choice.get("index") for choice in found]
    if all(isinstance(index, int) for index in indices):
        return sorted(found, key=lambda choice: int(choice["index"]))
    return found


def text_of_choice(url: str, choice: Mapping[str, Any]) -> str:
    """The text of a whole choice; raises `CamelidError` if it has neither `text` nor `message`."""
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise CamelidError(f"{url}: a choice has neither 'text' nor 'message': {_short(choice)}")
    return content_of(url, message) or content_of(url, {"content": message.get("refusal")})


def piece_of_choice(url: str, choice: Mapping[str, Any]) -> str:
    """The text that a streamed choice adds; empty if it adds none, as those with only a role or null."""
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    parts = [part for part in (choice.get("delta"), choice.get("message")) if isinstance(part, dict)]
    return next((text for part in parts if (text := content_of(url, part))), "")


def content_of(url: str, message: Mapping[str, Any]) -> str:
    """The content as text: a string, null, or a list of parts, whose texts are joined (thoughts are left
    out)."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    return "".join(_text_of_part(url, part) for part in parts)


def reason_of_choice(url: str, choice: Mapping[str, Any]) -> FinishReason | None:
    """Why a choice ended, None if the server does not say; raises `CamelidError` if it failed."""
    reason = choice.get("finish_reason")
    if not isinstance(reason, str) or not reason:
        return None
    if reason.lower() in FAILED:
        raise CamelidError(f"{url}: the server broke the completion off: finish_reason is {reason!r}")
    return "length" if reason.lower() in CUT else "stop"


def usage_of(content: Any) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of all completions as the response counts them; None where it does not."""
    usage = content.get("usage") if isinstance(content, dict) else None
    found = usage if isinstance(usage, dict) else {}
    read, written = (
        count if type(count) is int and count >= 0 else None
        for count in (found.get("prompt_tokens"), found.get("completion_tokens"))
    )
    return read, written


def models_of(url: str, content: Any) -> list[dict[str, Any]]:
    """The models in a server's list, which may be bare; raises `CamelidError` if it has no list of them."""
    found = content.get("data") if isinstance(content, dict) else content
    if not isinstance(found, list):
        raise CamelidError(f"{url}: the list of models has no 'data': {_short(content)}; pass --model-name")
    return [model for model in found if isinstance(model, dict) and model.get("id")]


def the_model(url: str, models: list[dict[str, Any]]) -> dict[str, Any]:
    """The one model of a server that generates text; raises `CamelidError` if there is none, or a choice.

    Several names of one model (the same `root`) are not a choice.
    """
    names = ", ".join(str(model["id"]) for model in models)
    able = [model for model in models if _generates(model)]
    if not able:
        what = f"lists only {names}, which do not generate text" if models else "lists no models"
        raise CamelidError(f"{url}: the server {what}; load one, or pass --model-name (model=... in Python)")
    roots = {str(model.get("root") or model["id"]) for model in able}
    if len(able) > 1 and len(roots) > 1:
        raise CamelidError(
            f"{url}: the server has several models: {names}; choose one with --model-name "
            "(model=... in Python)"
        )
    return able[0]


def _generates(model: Mapping[str, Any]) -> bool:
    """Whether a listed model generates text, by its type where the server gives one, else by its name."""
    abilities = model.get("capabilities")
    if isinstance(abilities, dict) and any(name in abilities for name in GENERATING):
        return any(abilities.get(name) for name in GENERATING)
    fields = ("id", "type", "task", "model_type", "metadata", "custom_metadata")
    described = json.dumps([model.get(name) for name in fields]).lower()
    return not any(part in described for part in NOT_TEXT)


def _text_of_part(url: str, part: Any) -> str:
    if part is None or isinstance(part, str):
        return part or ""
    if isinstance(part, dict):
        text = part.get("text")
        if isinstance(text, str):
            return text if part.get("type") not in ("thinking", "reasoning") else ""
        if isinstance(part.get("type"), str) and text is None:
            return str(part.get("refusal") or "")  # an image, a thought, a call: not text
    raise CamelidError(f"{url}: the content is not text: {_short(part)}")


def _short(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)[:200]
