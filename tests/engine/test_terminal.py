"""`camelid generate` and `camelid chat`, as functions and as a process in a terminal."""

import io
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.base.logs import show_log
from camelid.cli.main import main
from camelid.data.read.conversations import Conversations
from camelid.engine.engine import Engine
from camelid.engine.terminal import ChatSession
from camelid.lm.interface import Completion, PromptTooLong
from camelid.lm.sampling import Sampling
from camelid.lm.scripted import ScriptedLM
from camelid.model.transformer import Transformer
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer


@pytest.fixture
def chatting(tiny: Callable[..., Transformer], tokenizer: Tokenizer) -> Engine:
    """An engine whose answers are short and whose context holds a few turns."""
    return Engine(tiny(context_length=256), tokenizer)


def talk(monkeypatch: pytest.MonkeyPatch, lm: ScriptedLM, typed: str, system: str | None = None) -> None:
    show_log()
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    session = ChatSession(lm, Sampling(), system)
    while session.turn():
        pass


def roles(prompt: object) -> list[tuple[str, str]]:
    assert isinstance(prompt, Conversation)
    return [(message.role, message.content) for message in prompt.messages]


def test_answers_are_taken_back_asked_again_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "chat.json"
    lm = ScriptedLM(["one", "two", "other", "three", "four"])
    typed = f"/retry\na\nb \\\nc\n/retry\n/undo\nd\n/save {file}\n/stats\n/reset\n/load {file}\n/save\ne\n"
    talk(monkeypatch, lm, typed, "be kind")
    head, first = ("system", "be kind"), [("user", "a"), ("assistant", "one")]
    assert [roles(prompt) for prompt in lm.prompts] == [
        [head, ("user", "a")],
        [head, *first, ("user", "b \nc")],
        [head, *first, ("user", "b \nc")],
        [head, *first, ("user", "d")],
        [head, *first, ("user", "d"), ("assistant", "three"), ("user", "e")],
    ]
    noted = capsys.readouterr().err
    for words in (
        "there is no answer yet",
        "2 turns are in",
        "2 turns are loaded",
        "/save needs a name",
        "2 turns",
    ):
        assert words in noted
    assert [*Conversations([file])]  # as `camelid tune` reads it
    file.write_text('{"messages": [{"role": "user", "content": "x"}]}')
    with pytest.raises(CamelidError, match="questions and answers must alternate"):
        talk(monkeypatch, ScriptedLM([]), f"/load {file}\n")


def test_a_text_of_several_lines_is_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = ScriptedLM(["one", "two", "three"])
    talk(monkeypatch, lm, 'a \\\nb\n"""def f():\n    return 1\n\nWhat is f()?"""\n"""\nc\n"""\n')
    asked = [prompt.messages[-1].content for prompt in lm.prompts if isinstance(prompt, Conversation)]
    assert asked == ["a \nb", "def f():\n    return 1\n\nWhat is f()?", "c"]


def test_a_conversation_goes_on_with_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    show_log()
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n/model other\nb\n"))
    first, other = ScriptedLM(["one"]), ScriptedLM(["two"])
    session = ChatSession(first, Sampling(), None, {"other": other}.__getitem__)
    while session.turn():
        pass
    assert roles(other.prompts[0]) == [("user", "a"), ("assistant", "one"), ("user", "b")]


def test_generate_prints_the_text_alone(
    shared: Path, stories: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--prompt", "Once upon a time", "--max-new-tokens", "20"]
    assert main(["generate", str(shared / "weights" / "tinystories-656k"), *words]) == 0
    [[expected]] = stories.generate(["Once upon a time"], max_new_tokens=20)
    assert capsys.readouterr().out == expected.text + "\n"
    assert main(["generate", "anything", "--prompt", "x", "--system", "be kind"]) == 2
    assert "--system needs --chat" in capsys.readouterr().err


def test_generate_takes_a_form(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, schema = str(shared / "weights" / "tinystories-656k"), '{"enum": ["one", "two"]}'
    (tmp_path / "schema.json").write_text(schema, encoding="utf-8")
    for form in (
        ["--regex", "[0-9]{4}"],
        ["--json-schema", schema],
        ["--json-schema", str(tmp_path / "schema.json")],
    ):
        assert main(["generate", model, "--prompt", "Once", *form]) == 0
    number, *words = capsys.readouterr().out.splitlines()
    assert number.isdecimal()
    assert len(number) == 4
    assert words[0] == words[1]
    assert words[0] in ('"one"', '"two"')
    assert main(["generate", model, "--prompt", "Once", "--json-schema", "nowhere.json"]) == 2
    assert "--json-schema nowhere.json: neither a JSON object nor a readable file" in capsys.readouterr().err


def test_answers_alone_go_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = ScriptedLM(["one", "two", "three", "four"])
    talk(monkeypatch, lm, "a\nb\n/reset\nc\n/system be brief\n\n/what\nd\n/exit\nnever\n", system="s")
    assert capsys.readouterr().out == "one\ntwo\nthree\nfour\n"
    first, second, third, fourth = map(roles, lm.prompts)
    assert first == [("system", "s"), ("user", "a")]
    assert second == [*first, ("assistant", "one"), ("user", "b")]
    assert third == [("system", "s"), ("user", "c")]
    assert fourth == [("system", "be brief"), ("user", "d")]


def test_a_full_context_drops_the_oldest_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(prompt: object) -> str:
        if len(roles(prompt)) > 4 or roles(prompt)[-1][1] == "long":
            raise PromptTooLong("3 tokens too many")
        return "x"

    lm = ScriptedLM(answer)
    talk(monkeypatch, lm, "a\nb\nc\nlong\nd\n", system="s")
    output = capsys.readouterr()
    assert output.out == "x\nx\nx\nx\n"
    assert roles(lm.prompts[-1]) == [("system", "s"), ("user", "c"), ("assistant", "x"), ("user", "d")]
    assert output.err.count("(the context is full: the oldest turn was dropped)") == 2
    assert output.err.count("3 tokens too many") == 1


def test_an_engine_drops_as_many_turns_as_an_answer_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], chatting: Engine
) -> None:
    """Whole turns go, and an answer has at least a quarter of the context."""
    show_log()
    typed = [f"{word} the cat sat" for word in ("one", "two", "three", "and", "then", "dogs")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*typed, "mat " * 600]) + "\n"))
    session = ChatSession(chatting, Sampling(max_new_tokens=24), "on a mat")
    for question in typed:
        assert session.turn()
        system, *turns, last = roles(session.asked)
        assert (system, last) == (("system", "on a mat"), ("user", question))
        assert [role for role, _ in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert [text for _, text in turns[::2]] == typed[: typed.index(question)][len(turns) // -2 or 99 :]
        assert len(chatting.encode(session.asked)) <= chatting.context_length - 24
    before = [*session.messages]
    assert session.turn()
    assert session.messages == before
    error = capsys.readouterr().err
    assert "(the context is full: the oldest turn was dropped)" in error or "turns were dropped)" in error
    assert "tokens too many, shorten the prompt" in error


def test_a_cut_answer_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lm = ScriptedLM(["x"])
    monkeypatch.setattr(lm, "complete", lambda *_: [[Completion("x", (1, 2), (), "length")]])
    talk(monkeypatch, lm, "a\n")
    assert "cut after 2 tokens" in capsys.readouterr().err


SCRIPT = """
import sys, time
from camelid.engine import terminal
from camelid.lm.scripted import ScriptedLM
class Slow(ScriptedLM):
    def stream(self, prompt, sampling=None, **changes):
        self.prompts.append(prompt)
        yield "begun"
        time.sleep(0 if len(self.prompts) > 1 else 1000)
        yield " said: " + " ".join(m.content for m in prompt.messages)
        return self.generate(["x"])[0][0]
terminal.open_lm = lambda *_: Slow(lambda _: "x")
from camelid.cli.main import main
from camelid.data.read.conversations import Conversations
sys.exit(main(["chat", "m"]))
"""


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    process, screen = pty.fork()
    if process == 0:
        os.environ["CAMELID_HOME"] = str(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", SCRIPT])

    unread = ""

    def wait_for(text: str, seconds: float = 240) -> None:
        nonlocal unread
        end = time.monotonic() + seconds
        while text not in unread:
            assert select.select([screen], [], [], end - time.monotonic())[0], unread
            unread += os.read(screen, 4096).decode()
        unread = unread.partition(text)[2]

    wait_for("> ")
    os.write(screen, b"first\n")
    wait_for("begun")
    os.kill(process, signal.SIGINT)
    wait_for("> ")
    os.write(screen, b"second\n")
    wait_for("said: first begun second")
    wait_for("> ")
    # Between its prompt and its wait for a key, Python's readline does not notice a signal: send it until it
    # is noticed.
    os.kill(process, signal.SIGINT)
    while "/exit or Ctrl-D leaves" not in unread:
        if select.select([screen], [], [], 2)[0]:
            unread += os.read(screen, 4096).decode()
        else:
            os.kill(process, signal.SIGINT)
    wait_for("/exit or Ctrl-D leaves")
    wait_for("> ")
    os.write(screen, b"/exit\n")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert (tmp_path / "chat_history").read_text().splitlines()[-3:] == ["first", "second", "/exit"]


def test_draft_tokens_are_told(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(shared / "weights" / "tinystories-656k")
    words = ["generate", model, "--prompt", "Once upon a time", "--max-new-tokens", "60"]
    assert main(words) == 0
    plain = capsys.readouterr().out
    for draft in ("prompt", model):
        assert main([*words, "--draft", draft, "--draft-tokens", "3"]) == 0
        out, err = capsys.readouterr()
        assert out == plain
        told = (
            r"\d+ of \d+ draft tokens were accepted: [1-4]\.\d\d tokens per step .*, "
            r"\d+\.\d\d times as fast as without"
        )
        assert re.search(told, err)
    assert main([*words, "--cache", "8-bit"]) == 0
    assert main(["generate", "http://127.0.0.1:9", "--prompt", "x", "--draft", "prompt"]) == 2
    assert "a server has its own" in capsys.readouterr().err
