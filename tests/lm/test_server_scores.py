"""Scores through servers: missing values are missing, not 0, and no score is of no tokens."""

from typing import Any

import pytest
from scripted_server import Answer, Script

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.interface import Score
from camelid.lm.remote import RemoteLM
from camelid.lm.scripted import ScriptedLM


def score(
    script: Script, logprobs: Any, prompt: str = "The cat", continuation: str = " sat", **more: Any
) -> Score:
    usage = {key: more.pop(key) for key in ("usage",) if key in more}
    script.answers = [Answer({"choices": [{"logprobs": logprobs, **more}], **usage})]
    [found] = RemoteLM(script.url).score([prompt], [continuation])
    return found


def listed(tokens: list[str], values: list[float | None], offsets: Any = None) -> dict[str, Any]:
    top = [None if value is None else {token: value} for token, value in zip(tokens, values, strict=True)]
    return {"tokens": tokens, "token_logprobs": values, "text_offset": offsets, "top_logprobs": top}


def test_offsets_that_count_bos(script: Script) -> None:
    """vLLM: `<s>` counts three characters, and a space is a token of none."""
    found = listed(["<s>", "", "The", "cat", "sat"], [None, -0.1, -1.0, -2.0, -3.0], [0, 3, 3, 6, 9])
    assert score(script, found) == Score(-3.0, 1, True)
    found = listed(["<s>", "The", " cat", " s", "at"], [None, -1.0, -2.0, -3.0, -4.0], [0, 3, 6, 10, 12])
    assert score(script, found) == Score(-7.0, 2, True)


def test_scores_of_public_reports(script: Script) -> None:
    """vllm#5334 as it was reported; lingua#28, where every log-likelihood is 0; litellm#699, without the
    prompt."""
    tokens = [
        "<s>",
        "",
        "\n",
        "1",
        ".",
        "\n Carol",
        "\n\n has",
        "\n\n\n ",
        "\n\n\n\n2",
        "\n\n\n\n\n0",
        "0",
        "0",
    ]
    values = [None, -4.1, -4.1, -5.7, -0.9, -10.6, -6.3, -1.0, -2.0, -4.0, -9.0, -9.0]
    places = [0, 3, 3, 4, 5, 6, 13, 19, 23, 28, 34, 35]
    assert score(script, listed(tokens, values, places), "\n1. Carol has ", "20") == Score(-7.0, 3, True)
    with pytest.raises(CamelidError, match="every log-probability is null or 0"):
        score(script, listed(["<s>", "The", " cat", " sat"], [None, 0.0, 0.0, 0.0]))
    generated = listed(["on", " Guardian", " you"], [-3.8, -12.9, -2.2])
    with pytest.raises(CamelidError, match="does not repeat the prompt"):
        score(script, generated, text="on Guardian you")


@pytest.mark.parametrize(
    ("tokens", "values"),
    [
        (["<s>", "▁The", "▁cat", "▁sat"], [None, -1.0, -2.0, -3.0]),
        (["The", "Ġcat", "Ġsat"], [None, -2.0, -3.0]),
        (["<|begin_of_text|>", "The", " cat", " sat"], [None, -1.0, -2.0, -3.0]),
        (["", "The", " cat", " sat", "!"], [None, -1.0, -2.0, -3.0, -9.0]),
        ([" The", " cat", " sat"], [None, -2.0, -3.0]),
        (["The ", "cat ", "sat "], [None, -2.0, -3.0]),
        (["<s>", "T", "he", " ", "cat", " sat", "</s>"], [None, -1.0, -1.0, -1.0, -2.0, -3.0, -9.0]),
    ],
)
@pytest.mark.parametrize("offsets", [None, "wrong"])
def test_tokens_decide_not_offsets(
    script: Script, tokens: list[str], values: list[float | None], offsets: str | None
) -> None:
    places = None if offsets is None else [0] * len(tokens)
    assert score(script, listed(tokens, values, places)) == Score(-3.0, 1, True)


def test_pieces_of_characters(script: Script) -> None:
    text = ["The", " cat", " bytes:\\xf0\\x9f", "bytes:\\x98\\x80"]
    text[2] = "bytes:\\x20\\xf0\\x9f"
    assert score(script, listed(text, [None, -1.0, -2.0, -3.0]), continuation=" 😀").logprob == -5.0
    text = ["<s>", "▁The", "▁cat", "▁", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]
    values = [None, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]
    assert score(script, listed(text, values), continuation=" 😀") == Score(-5.0, 5, True)


def test_a_token_of_both_is_counted_as_the_engine_counts(script: Script) -> None:
    """lm-evaluation-harness scores what is past as many tokens as the prompt by itself has."""

    def answer(path: str, body: dict[str, Any]) -> Answer:
        tokens = ["<s>", "The", " ca"] if body["prompt"] == "The ca" else ["<s>", "The", " cat", " s", "at"]
        return Answer(
            {"choices": [{"logprobs": listed(tokens, [None, -1.0, -2.0, -3.0, -4.0][: len(tokens)])}]}
        )

    script.answer = answer
    assert RemoteLM(script.url).score(["The ca"], ["t sat"]) == [Score(-7.0, 2, True)]


def test_tokens_that_cannot_be_matched_are_counted(script: Script) -> None:
    """Halves of characters decode to U+FFFD; then the tokens of the prompt by itself are subtracted."""

    def answer(path: str, body: dict[str, Any]) -> Answer:
        tokens = ["The", " cat", " ", "�", "�", "�"][: 2 if body["prompt"] == "The cat" else 6]
        values = [None, -1.0, -2.0, -3.0, -4.0, -5.0][: len(tokens)]
        found = {"logprobs": listed(tokens, values), "text": body["prompt"]}
        return Answer({"choices": [found], "usage": {"prompt_tokens": len(tokens)}})

    script.answer = answer
    found = RemoteLM(script.url).score(["The cat"] * 2, [" 漢", " 字"])
    assert found == [Score(-14.0, 4, True)] * 2


@pytest.mark.parametrize(
    ("logprobs", "more", "what"),
    [
        (None, {}, "'logprobs' is missing or null"),
        ({"content": [{"token": "a", "logprob": -1.0}]}, {}, "form of chat completions"),
        ({"token_logprobs": None}, {}, "'token_logprobs' is missing or empty"),
        ({"token_logprobs": []}, {}, "'token_logprobs' is missing or empty"),
        (listed(["The", " cat", " sat"], [None, None, None]), {}, "every log-probability is null or 0"),
        (listed(["The", " cat", " sat"], [None, 0.0, 0.0]), {}, "every log-probability is null or 0"),
        (
            listed(["The", " cat", " sat"], [None, -1.0, None]),
            {},
            "1 of the continuation's 1 tokens have no value",
        ),
        (listed(["The", " cat", " sat"], [None, 0.5, 0.9]), {}, "holds 0.5, which is not a log-probability"),
        (listed(["The", " cat", " sat"], [None, -1.0, float("nan")]), {}, "holds nan"),
        ({"token_logprobs": [None, "-1"]}, {}, "holds '-1'"),
        (listed([" on"], [-1.0], [0]), {"text": " on"}, "does not repeat the prompt"),
        (listed([" on"], [-1.0], [11]), {"text": " on"}, "does not repeat the prompt"),
        (listed([" on"], [-1.0], [0]), {"usage": {"prompt_tokens": 3}}, "1 of 3 tokens"),
    ],
)
def test_a_server_without_prompt_probabilities(
    script: Script, logprobs: Any, more: dict[str, Any], what: str
) -> None:
    with pytest.raises(CamelidError, match=f"gives no prompt probabilities.*{what}"):
        score(script, logprobs, **more)


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_server_that_refuses_echo(script: Script, status: int) -> None:
    script.answers = [Answer("echo is not supported", status)]
    with pytest.raises(CamelidError, match=f"gives no prompt probabilities.*HTTP {status}"):
        RemoteLM(script.url, retries=0).score(["The cat"], [" sat"])


def test_a_score_of_no_tokens_is_an_error(script: Script) -> None:
    found = listed(["dogs", " run"], [None, -1.0])
    with pytest.raises(CamelidError, match=r"cannot be told which tokens.*' sat', so none would be scored"):
        score(script, found)
    offsets = {"token_logprobs": [None, -1.0], "text_offset": [0, 3], "top_logprobs": None}
    with pytest.raises(CamelidError, match="cannot be told which tokens"):
        score(script, offsets)
    with pytest.raises(WrongCall, match="the continuation is empty"):
        score(script, found, continuation="")


def test_the_first_token_of_a_text_has_no_probability(script: Script) -> None:
    with pytest.raises(CamelidError, match="first token of a text has none: give a prompt"):
        score(script, listed(["The", " cat"], [None, -1.0]), prompt="", continuation="The cat")
    found = listed(["<s>", "The", " cat"], [None, -2.0, -1.0])
    assert score(script, found, prompt="", continuation="The cat") == Score(-3.0, 2, True)


@pytest.mark.parametrize(
    ("top", "greedy"),
    [
        (None, None),
        ([None, None, None], None),
        ([None, {}, {}], None),
        ([None, {" dog": -0.5}, {" sat": -3.0}], True),
        ([None, {" dog": -0.5}, {" ran": -1.0}], False),
        ([None, {}, {" ran": None, " sat": -3.0}], True),
        ([None, [], [{"token": " ran", "logprob": -1.0}]], False),
    ],
)
def test_greedy_is_unknown_without_the_most_probable_token(
    script: Script, top: Any, greedy: bool | None
) -> None:
    found = {**listed(["The", " cat", " sat"], [None, -1.0, -3.0]), "top_logprobs": top}
    assert score(script, found).is_greedy is greedy


def test_a_server_that_wants_at_least_one_token(script: Script) -> None:
    good = Answer({"choices": [{"logprobs": listed(["The", " cat", " sat", "!"], [None, -1.0, -3.0, -1.0])}]})
    refusal = Answer("max_tokens must be at least 1, got 0.", 400)
    script.answer = lambda path, body: good if body["max_tokens"] else refusal
    assert RemoteLM(script.url).score(["The cat"], [" sat"]) == [Score(-3.0, 1, True)]


@pytest.mark.parametrize(
    ("prompt", "continuation", "moved"),
    [
        ("A: ", "Paris", ("A:", " Paris")),
        ("A:\n", "Paris", ("A:", "\nParis")),
        ("A: \t\n", " Paris", ("A:", " \t\n Paris")),
        ("A:", " Paris", ("A:", " Paris")),
        (" ", "Paris", (" ", "Paris")),
        ("", "Paris", ("", "Paris")),
    ],
)
def test_white_space_at_a_prompts_end_moves_over(
    script: Script, prompt: str, continuation: str, moved: tuple[str, str]
) -> None:
    asked: list[tuple[object, str]] = []
    ScriptedLM([], lambda p, c: float(asked.append((p, c)) or -1.0)).score([prompt], [continuation])
    assert asked == [moved]
