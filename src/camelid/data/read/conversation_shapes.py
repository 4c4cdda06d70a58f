"""The row formats of conversations and comparisons: what identifies them, and how they are read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from camelid.base.errors import CamelidError, shortened
from camelid.data.read.comparisons import (
    Ranking,
    Rankings,
    Verdicts,
    better_and_worse,
    chosen_and_rejected,
    labelled,
    two_outputs,
)
from camelid.data.read.conversation_shape import ConversationShape, text_in
from camelid.data.read.rankings import best_and_worst, is_ranked, scored_answers
from camelid.data.read.renaming import named, renaming
from camelid.data.read.rows import Row
from camelid.data.read.transcripts import is_transcript, transcript_messages
from camelid.data.read.trees import best_thread, gathered, ranked_verdicts, tree_rankings
from camelid.text.conversation import functions


def _openai(row: Row) -> list[dict[str, Any]]:
    return _list_of_tables(row, "messages")


_CALL = "function_call"
"""LLaMA-Factory's speaker of a call; the value is the JSON text of a call or of several."""
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    _CALL: "assistant",
}


def _sharegpt(row: Row) -> list[dict[str, Any]]:
    turns = _list_of_tables(row, "conversations")
    if all("role" in turn for turn in turns):
        return turns
    messages = []
    for index, turn in enumerate(turns):
        speaker, value = turn.get("from"), turn.get("value")
        if not isinstance(speaker, str) or speaker not in _SHAREGPT_ROLES:
            raise CamelidError(
                f"conversations[{index}].from is {shortened(speaker)}; allowed: {', '.join(_SHAREGPT_ROLES)}"
            )
        if not isinstance(value, str | None) or (value is None and not turn.get("tool_calls")):
            raise CamelidError(f"conversations[{index}].value is {shortened(value)}; it must be a string")
        others = {key: entry for key, entry in turn.items() if key not in ("from", "value")}
        if speaker == _CALL and isinstance(value, str):
            others["tool_calls"], value = _calls(value, f"conversations[{index}].value"), None
        messages.append({"role": _SHAREGPT_ROLES[speaker], "content": value, **others})
    return messages


def _calls(text: str, where: str) -> tuple[Mapping[str, Any], ...] | None:
    """The calls in a text: one JSON object, or a list of them."""
    return functions(f"[{text}]" if text.lstrip().startswith("{") else text, where)


def _instruction(context: str, answer: str) -> Callable[[Row], list[dict[str, Any]]]:
    """Reads `instruction`, an optional context field and an optional `history` of pairs."""

    def read(row: Row) -> list[dict[str, Any]]:
        given = text_in(row, context, optional=True)
        question = text_in(row, "instruction") + (f"\n\n{given}" if given else "")
        history = row.get("history") or []
        if not isinstance(history, list) or not all(
            isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
            for turn in history
        ):
            raise CamelidError("`history` must be a list of [question, answer] pairs of strings")
        return _turns([*history, [question, text_in(row, answer)]])

    return read


def _prompt(answer: str) -> Callable[[Row], list[dict[str, Any]]]:
    """Reads a `prompt` and its answer, each a string or a list of messages."""

    def read(row: Row) -> list[dict[str, Any]]:
        if isinstance(row["prompt"], list) and isinstance(row[answer], list):
            return [*_list_of_tables(row, "prompt"), *_list_of_tables(row, answer)]
        return _turns([[text_in(row, "prompt"), text_in(row, answer)]])

    return read


def _transcript(row: Row) -> list[dict[str, Any]]:
    return transcript_messages(text_in(row, "transcript"))


def _ranked(question: str) -> Rankings:
    """Reads the scored answers to the prompt in a field: a text, a transcript or messages."""

    def read(row: Row) -> list[Ranking]:
        prompt = row[question]
        if isinstance(prompt, list):
            return scored_answers(row, _list_of_tables(row, question))
        text = text_in(row, question)
        turns = transcript_messages(text) if is_transcript(text) else [{"role": "user", "content": text}]
        return scored_answers(row, turns)

    return read


def _best_and_worst(ranked: Rankings) -> Verdicts:
    return lambda row: best_and_worst(ranked(row))


RATINGS = ("margin", "score_chosen", "score_rejected")
"""How much better the chosen answer is, under TRL's and Argilla's names."""


def _is_flat(row: Row) -> bool:
    return "replies" not in row


def _has_label(row: Row) -> bool:
    return str(row["label"]).lower() in ("true", "false")  # CSV has only strings


def _is_tree(row: Row) -> bool:
    return isinstance(row["prompt"], dict)


COMPARISON_SHAPES = (
    ConversationShape(
        "chosen and rejected",
        ("chosen", "rejected"),
        None,
        ("prompt", "question", "instruction", "input", "output", "messages", "conversations", *RATINGS),
        verdicts=chosen_and_rejected,
    ),
    ConversationShape(
        "question with a better and a worse response",
        ("question", "response_j", "response_k"),
        None,
        ("qid", "date", "metadata"),
        verdicts=better_and_worse,
    ),
    ConversationShape(
        "AlpacaEval annotations", ("instruction", "output_1", "output_2", "preference"), None, (), two_outputs
    ),
    ConversationShape(
        "OASST trees",
        ("message_tree_id", "prompt"),
        best_thread,
        ("tree_state",),
        ranked_verdicts,
        _is_tree,
        None,
        tree_rankings,
    ),
    ConversationShape(
        "OASST messages, one a row",
        ("message_id", "parent_id", "message_tree_id", "text", "role"),
        best_thread,
        ("prompt",),
        ranked_verdicts,
        _is_flat,
        gathered,
        tree_rankings,
    ),
    ConversationShape(
        "OASST messages",
        ("message_id", "text", "role", "replies"),
        best_thread,
        ("parent_id", "lang", "rank"),
        ranked_verdicts,
        ranked=tree_rankings,
    ),
    *(
        ConversationShape(
            f"{question} with scored answers",
            (question, "answers"),
            None,
            ("judge",),
            _best_and_worst(_ranked(question)),
            is_ranked,
            ranked=_ranked(question),
        )
        for question in ("prompt", "question")
    ),
    ConversationShape("OpenAI with label", ("messages", "label"), None, (), labelled(_openai), _has_label),
    ConversationShape(
        "ShareGPT with label", ("conversations", "label"), None, (), labelled(_sharegpt), _has_label
    ),
    ConversationShape(
        "prompt, completion and label",
        ("prompt", "completion", "label"),
        None,
        (),
        labelled(_prompt("completion")),
        _has_label,
    ),
)
PLAIN_SHAPES = (
    ConversationShape("OpenAI", ("messages",), _openai),
    ConversationShape("ShareGPT", ("conversations",), _sharegpt),
    ConversationShape(
        "Alpaca", ("instruction", "output"), _instruction("input", "output"), ("input", "history")
    ),
    ConversationShape(
        "GPTeacher", ("instruction", "input", "response"), _instruction("input", "response"), ("history",)
    ),
    ConversationShape(
        "Dolly", ("instruction", "response"), _instruction("context", "response"), ("context", "history")
    ),
    ConversationShape("prompt and completion", ("prompt", "completion"), _prompt("completion")),
    ConversationShape("prompt and response", ("prompt", "response"), _prompt("response")),
    ConversationShape("transcript", ("transcript",), _transcript),
)
CONVERSATION_SHAPES = (*PLAIN_SHAPES, *COMPARISON_SHAPES)


def known_shape(row: Row) -> ConversationShape | None:
    """The shape of a row; None if it is not one of a conversation."""
    # Comparisons have the fields of other shapes, too.
    return next((shape for shape in (*COMPARISON_SHAPES, *PLAIN_SHAPES) if shape.fits(row)), None)


def shape_of(row: Row, where: str) -> ConversationShape:
    """The shape of a file's first row; raises `CamelidError`, which lists the known ones."""
    if (found := known_shape(row)) is not None:
        return found
    known = "; ".join(f"{shape.name}: {shape.layout}" for shape in CONVERSATION_SHAPES)
    shapes = [shape.fields for shape in CONVERSATION_SHAPES]
    hint = "; rows with `text` are for pretraining" if "text" in row else renaming(row, *shapes)
    raise CamelidError(
        f"{where}: the fields {named(row)} are not a known conversation shape{hint}. Known: {known}"
    )


def _turns(pairs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": content}
        for pair in pairs
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]


def _list_of_tables(row: Row, name: str) -> list[dict[str, Any]]:
    turns = row[name]
    if not isinstance(turns, list):
        raise CamelidError(f"`{name}` is {str(turns)[:60]!r}; it must be a list of objects")
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise CamelidError(f"{name}[{index}] is {shortened(turn)}; it must be an object")
    return turns
