"""What goes wrong in `camelid eval`, as a user calls it: one message, and no answer is lost."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Answer, Script

from camelid.cli.main import main
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.formats.load import special_ids
from camelid.model.spec import ModelSpec
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import train_tokenizer

CONTEXT = 64
SUMS = [{"question": f"{n} + 1 = ?", "answer": str(n + 1), "rationale": f"{n} and 1."} for n in range(4)]
Fails = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Calls `camelid eval`, which must fail; gives its message without the temporary folder."""

    def call(*words: object, code: int = 1) -> str:
        assert main(["eval", *map(str, words), "--out", str(tmp_path / "out")]) == code
        [message] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("camelid: ")]
        return message.removeprefix("camelid: ").replace(f"{tmp_path}/", "")

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def rows(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return path

    return rows


@pytest.fixture
def script() -> Iterator[Script]:
    with Script() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose context holds 64 tokens."""
    folder = tmp_path_factory.mktemp("small") / "model"
    folder.mkdir()
    tokenizer = train_tokenizer(["How many? " * 20], 270)
    spec = ModelSpec.llama(
        vocab_size=270, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, context_length=CONTEXT
    )
    save_checkpoint(folder, Transformer(spec).initialize(0), special_ids=special_ids(tokenizer))
    tokenizer.save(folder)
    return folder


CHOICES = {"question": "1?", "choices": ["a", "b"]}
IN_WORDS = {"question": "b", "answer": "two", "grader": "numeric"}
AQUA = {"question": "1?", "options": ["A)1", "B)2"], "rationale": "", "correct": "F"}
MALFORMED = [
    ([], [SUMS[0], {"question": "2?"}], ":2: not a row of question and answer"),
    ([], [CHOICES | {"answer": "E"}], ":1: 'answer' is 'E'; allowed: A, B"),
    ([], [CHOICES | {"answer": 2}], ":1: 'answer' is 2; allowed: 0, 1"),
    ([], [SUMS[0], '{"question": '], ":2: not JSON"),
    ([], [], " is empty"),
    ([], [SUMS[0] | {"grader": "numeric"}, IN_WORDS], ": item 1: the answer 'two' is not a number"),
    ([], [SUMS[0] | {"grader": "choice"}], ": item 0: there are no 'choices'"),
    (["gsm8k"], [{"question": "1?", "answer": "#### 1"}, {"answer": "#### 2"}], ":2: not a row of gsm8k"),
    (["gsm8k"], [{"question": "1?", "answer": "one"}], ":1: not a row of gsm8k: the answer 'one' is not"),
    (["gsm8k"], [], " is empty"),
    (["svamp"], [{"Body": "A.", "Question": "B?"}], ":1: not a row of svamp"),
    (["aqua"], [AQUA], ":1: not a row of aqua: 'correct' is 'F'; allowed: A, B"),
]


@pytest.mark.parametrize(("name", "rows", "message"), MALFORMED)
def test_malformed_files_are_named_before_a_model_is_loaded(
    name: list[str], rows: list[Any], message: str, fails: Fails, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(*rows)
    words = [*(name or [path]), *(["--data", path] if name else [])]
    assert f"rows.jsonl{message}" in fails("/no/such/model", "--task", *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "how", [["--program", "few_shot", "--shots", "1"], ["--ladder"], ["--sensitivity"]], ids=" ".join
)
def test_exemplars_that_are_asked_are_refused_before_a_model_is_loaded(
    how: list[str], fails: Fails, write: Callable[..., Path]
) -> None:
    questions, solved = write(*SUMS), write(*SUMS[3:], *SUMS[:2], name="solved.jsonl")
    message = fails("/no/such/model", "--task", questions, "--exemplars", solved, *how)
    assert message.startswith("rows: the exemplar '0' is itself one of the questions")


def test_a_limit_of_no_questions(fails: Fails, write: Callable[..., Path]) -> None:
    assert "must be at least 1" in fails("m", "--task", write(*SUMS), "--limit", 0, code=2)


@pytest.mark.parametrize(
    ("program", "extra"), [(["--program", "direct"], 1), (["--program", "likelihood"], None)], ids=str
)
def test_a_prompt_too_long_is_never_cut(
    program: list[str],
    extra: int | None,
    small: Path,
    fails: Fails,
    write: Callable[..., Path],
    tmp_path: Path,
) -> None:
    row = {"question": "How many? " * 30, "choices": ["many", "few"], "answer": "few"}
    message = fails(small, "--task", write(SUMS[0] | {"choices": ["1", "2"]}, row), *program, code=2)
    tokens, holds, excess = map(int, re.findall(r"\d+", message.partition(": ")[2]))
    assert holds == CONTEXT
    assert excess == tokens - CONTEXT + (extra or 0)
    assert f"{excess} tokens too many" in message
    assert not list(tmp_path.glob("out/*.jsonl")), "a question that does not fit has no line"


def test_exemplars_that_do_not_fit_are_named(small: Path, fails: Fails, write: Callable[..., Path]) -> None:
    data = write({"question": "How many?", "answer": "#### 1"})
    how = ["--program", "chain_of_thought", "--shots", "3"]
    message = fails(small, "--task", "gsm8k", "--data", data, *how, code=2)
    assert message.startswith("gsm8k, chain of thought with 3 exemplars: the prompt has ")
    assert message.endswith(" tokens too many, shorten the prompt; show fewer exemplars (--shots)")


def completion(text: str, reason: str = "stop") -> Answer:
    return Answer({"choices": [{"text": text, "finish_reason": reason}]})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer({"choices": []}), "the response has no choices"),
        (Answer('{"choices": [{"text": " 2"'), "did not return JSON: '{\"choices\": [{\"text\": \" 2\"'"),
        (Answer("<html>"), "is it an OpenAI-compatible server?"),
        (Answer({"choices": [{"index": 0}]}), "has neither 'text' nor 'message'"),
        (Answer({"error": {"message": "maximum context length is 16 tokens, requested 80"}}, 400),
         "HTTP 400: {\"error\": {\"message\": \"maximum context length is 16 tokens, requested 80\"}}"),
        (Answer({"error": "broken"}, 500), "HTTP 500 after 0 repetitions"),
        (completion(" 2", "length"), "every one of 4 replies was cut at the length limit"),
        (completion(""), "every one of 4 replies is empty"),
    ],
)  # fmt: skip
def test_servers_that_answer_wrongly(
    answer: Answer, message: str, script: Script, fails: Fails, write: Callable[..., Path], tmp_path: Path
) -> None:
    script.answers = [answer]
    assert message in fails(script.url, "--task", write(*SUMS), "--retries", 0)
    assert not list(tmp_path.glob("out/*.jsonl"))
    script.answers = [completion(" 2")]
    assert (
        main(["eval", script.url, "--task", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")])
        == 0
    )


def test_a_server_that_breaks_keeps_what_it_answered(
    script: Script, fails: Fails, write: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"question": f"{n}?", "answer": "2"} for n in range(70)]
    script.answer = lambda _, body: (
        Answer('{"choices": [') if body["prompt"].startswith("Q: 69?") else completion(" 2")
    )
    assert "did not return JSON" in fails(script.url, "--task", write(*rows))
    assert len((tmp_path / "out/rows.direct.0-shot.jsonl").read_text().splitlines()) == 64
    asked = len(script.asked)
    script.answer = lambda _, body: completion(" 2")
    assert (
        main(["eval", script.url, "--task", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")])
        == 0
    )
    assert len(script.asked) == asked + 6


def test_a_slow_server(script: Script, fails: Fails, write: Callable[..., Path]) -> None:
    def slowly(*_: object) -> Answer:
        time.sleep(0.6)
        return completion(" 2")

    script.answer = slowly
    message = fails(script.url, "--task", write(*SUMS), "--timeout", 0.2, "--retries", 0)
    assert "no answer within 0.2 seconds; raise --timeout" in message


def test_a_server_that_is_not_there(fails: Fails, write: Callable[..., Path]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    assert "is the server running?" in fails(url, "--task", write(*SUMS), "--retries", 0)


def test_a_server_without_log_probabilities(
    script: Script, fails: Fails, write: Callable[..., Path], tmp_path: Path
) -> None:
    script.answers = [completion(" 2")]
    rows = write({"question": "1?", "choices": ["a", "b"], "answer": "a"})
    message = fails(script.url, "--task", rows, "--program", "likelihood")
    assert "this server gives no prompt probabilities" in message


@pytest.mark.parametrize(
    "how", [[], ["--samples", "3"], ["--ladder", "--samples", "3"]], ids=["once", "samples", "ladder"]
)
def test_replies_without_an_answer_are_warned_of(
    how: list[str],
    script: Script,
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script.answers = [completion(" no idea")]
    words = ["eval", script.url, "--task", str(write(*SUMS)), *how, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "no answer was found in any of 4 replies" in shown.err
    assert "100.0%" in shown.out


def test_samples_that_are_all_cut(script: Script, fails: Fails, write: Callable[..., Path]) -> None:
    script.answers = [completion(" 2", "length")]
    message = fails(script.url, "--task", write(*SUMS), "--samples", 3)
    assert "was cut at the length limit, so the model never finished an answer" in message
