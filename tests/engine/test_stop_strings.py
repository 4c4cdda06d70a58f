"""Stop strings against transformers' `stop_strings`: across tokens, several at once, and special tokens in
them."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from transformers.generation.stopping_criteria import StopStringCriteria

from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.terminal import ChatSession
from camelid.lm.sampling import Sampling
from camelid.model.transformer import Transformer
from camelid.text.tokenizer import Tokenizer

Tiny = Callable[..., Transformer]
END, START = "<|im_end|>", "<|im_start|>"
STOPS = (END, f"{END}\n", f"t{END}", "the cat", "at sat", "one", "\n\n", f"\n{START}", "cat sat", "|im_")


@pytest.fixture(scope="session")
def stale(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer of a folder whose generation_config.json names EOS only."""
    assert tokenizer.eos_id is not None
    return Tokenizer(
        tokenizer.backend,
        tokenizer.config,
        chat_template=tokenizer.chat_template.source if tokenizer.chat_template else None,
        stop_ids=[tokenizer.eos_id],
    )


def ended(tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...]) -> tuple[int, str, str]:
    """How many tokens a text takes until it ends, the text, and the text in pieces."""
    generation = Generation((1,), Sampling(stop=stops), 0, len(ids), tokenizer)
    pieces = ""
    for count, token in enumerate(ids, 1):
        pieces += generation.accept(token, 0.0, 0.0)
        if generation.finish_reason:
            return count, generation.completion().text, pieces
    raise AssertionError


def test_a_special_token_ends_the_text(stale: Tokenizer) -> None:
    """Case 33: vllm#2123, mlx-lm#1414."""
    ids = stale.encode(f"the cat{END}\n{START}user\nand then", markup=True)
    at = ids.index(stale.special_ids[END]) + 1
    assert ended(stale, ids, (END,)) == (at, "the cat", "the cat")
    assert ended(stale, ids, ("zebra", END)) == (at, "the cat", "the cat")
    # With text on either side: that before the token is taken back.
    assert ended(stale, ids, (f"cat{END}",))[1:] == ("the ", "the ")
    assert ended(stale, ids, (f"{END}\n{START}",))[1:] == ("the cat", "the cat")
    # Without a stop string the text goes on into the next turn, as the folder says.
    assert ended(stale, ids, ())[1] == "the cat\nuser\nand then"
    # What begins like a stop string and is none comes out after all.
    assert ended(stale, ids, (f"{END}\n\n",))[1:] == ("the cat\nuser\nand then",) * 2


@pytest.fixture(scope="session")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


@settings(deadline=None, max_examples=150)
@given(
    words=st.lists(
        st.sampled_from(["the cat", " sat", " on", "e", "one", "\n", " t", "h", END, START, "ümläut", "😀"]),
        min_size=1,
        max_size=9,
    ),
    stops=st.lists(st.sampled_from(STOPS), min_size=1, max_size=3).map(tuple),
)
def test_texts_end_where_those_of_transformers_do(
    stale: Tokenizer, theirs: PreTrainedTokenizerFast, words: list[str], stops: tuple[str, ...]
) -> None:
    ids = [token for word in words for token in stale.encode(word, markup=True)]
    count, text, pieces = ended(stale, ids, stops)
    criteria = StopStringCriteria(theirs, list(stops))

    def lengths() -> Iterator[int]:
        for length in range(1, len(ids) + 1):
            visible = stale.decode(ids[:length])
            if any(stop in visible for stop in stops) or bool(criteria(torch.tensor([ids[:length]]), None)):
                yield length

    assert count == next(lengths(), len(ids))
    assert pieces == text
    assert not any(stop in text for stop in stops)


def test_chat_and_engine_stop_at_special_tokens(
    tiny: Tiny, stale: Tokenizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine(tiny(), stale)
    bias = {stale.special_ids[END]: 1e9}
    [[completion]] = engine.generate(["the cat"], stop=END, logit_bias=bias, max_new_tokens=9)
    assert (completion.text, completion.finish_reason, len(completion.tokens)) == ("", "stop", 1)
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    session = ChatSession(engine, Sampling(stop=(END,), logit_bias=bias, max_new_tokens=9))
    while session.turn():
        pass
    assert capsys.readouterr().out == "\n"
    assert [message.content for message in session.messages] == ["hello", ""]


def test_a_folder_with_stale_generation_settings(tiny: Tiny, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from camelid.base.json import write_json
    from camelid.text.tokenizer import load_tokenizer

    tokenizer.save(tmp_path)
    write_json(tmp_path / "generation_config.json", {"eos_token_id": tokenizer.eos_id})
    read = load_tokenizer(tmp_path)
    assert read.special_ids[END] not in read.stop_ids
    ids = read.encode(f"a mat{END}the", markup=True)
    assert ended(read, ids, (END,))[1] == "a mat"


@pytest.mark.parametrize(
    ("text", "stops", "cut"),
    [
        # koboldcpp#791, vllm#2947, transformers#33169 and #28932
        (f"hi{END}\n{START}user\nmore", (f"{START}user",), "hi\n"),
        (f"我是{END}\n{START}{START}{END}", (START, END), "我是"),
        ("a ✿RESULT✿ b", ("✿RESULT✿",), "a "),
        ("a?><|im_ end|>>>b", ("<|im_ end|>",), "a?>"),
    ],
)
def test_stop_strings_of_public_reports(
    stale: Tokenizer, text: str, stops: tuple[str, ...], cut: str
) -> None:
    assert ended(stale, stale.encode(text, markup=True), stops)[1:] == (cut, cut)
