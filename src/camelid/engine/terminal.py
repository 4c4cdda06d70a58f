"""`camelid generate` and `camelid chat`: a model in the terminal."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from camelid.base.errors import WrongCall
from camelid.base.home import camelid_home
from camelid.engine.engine import Engine
from camelid.engine.native.decoder import CacheKind
from camelid.engine.open_lm import connect, is_url
from camelid.lm.interface import LM, Completion, Prompt, PromptTooLong, Sampling
from camelid.text.conversation import Conversation, Message

Precision = Literal["stored", "float32", "bfloat16"]
HELP = """\
/reset          forget the conversation
/system TEXT    set the system message and start anew; without TEXT, none
/help           this list
/exit           leave (so does Ctrl-D); Ctrl-C stops an answer"""


def generate(
    model: Annotated[str, tyro.conf.Positional],
    prompt: str,
    chat: bool = False,
    system: str | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    repetition_penalty: float = 1.0,
    regex: str | None = None,
    json_schema: str | None = None,
    dtype: Precision = "stored",
    draft: str | None = None,
    guesses: int | None = None,
    cache: CacheKind = "whole",
    device: str | None = None,
) -> None:
    """Continues a prompt, or answers it with --chat; the text alone goes to standard output.

    Args:
        model: a checkpoint folder, a name on the hub, or the URL of an OpenAI-compatible server
        prompt: the text; `-` reads it from standard input
        chat: put the prompt through the model's chat template as a user's message
        system: a system message (with --chat)
        max_new_tokens: tokens after which the text is cut
        temperature: 0 takes the most probable token, 1 draws from the model's own distribution
        top_k: keep the k most probable tokens
        top_p: keep the most probable tokens that together reach this probability
        min_p: keep tokens with at least this share of the highest probability
        seed: of the draws
        stop: strings that end the text
        repetition_penalty: above 1, tokens of the prompt and the text so far become less probable
        regex: an expression (Rust's syntax) that the whole text matches
        json_schema: a file with a JSON schema, or the schema itself, that the text keeps to
        dtype: precision to compute in, by default that of the stored weights
        draft: a smaller model of the same vocabulary whose guesses save steps, or `prompt`: what the text itself holds
        guesses: tokens that are guessed at a time
        cache: 8-bit rounds keys and values, of which half the memory then holds as many tokens
        device: cpu, cuda or cuda:N, by default a GPU where there is one
    """
    if system is not None and not chat:
        raise WrongCall("--system needs --chat: only a conversation has a system message")
    sampling = Sampling(
        max_new_tokens,
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        stop,
        repetition_penalty=repetition_penalty,
        regex=regex,
        json_schema=_schema(json_schema),
    )
    text = sys.stdin.read() if prompt == "-" else prompt
    asked: Prompt = _conversation(system, text) if chat else text
    lm = _open(model, dtype, draft, guesses, cache, device)
    _show(lm, asked, sampling)
    _say_guesses(lm, asked)


def chat(
    model: Annotated[str, tyro.conf.Positional],
    system: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int = 0,
    repetition_penalty: float = 1.0,
    regex: str | None = None,
    json_schema: str | None = None,
    dtype: Precision = "stored",
    draft: str | None = None,
    guesses: int | None = None,
    cache: CacheKind = "whole",
    device: str | None = None,
) -> None:
    """Talks to a model in the terminal; /help lists what can be typed.

    Args:
        model: a checkpoint folder, a name on the hub, or the URL of an OpenAI-compatible server
        system: a system message
        max_new_tokens: tokens after which an answer is cut
        temperature: 0 takes the most probable token, 1 draws from the model's own distribution
        top_k: keep the k most probable tokens
        top_p: keep the most probable tokens that together reach this probability
        min_p: keep tokens with at least this share of the highest probability
        seed: of the draws
        repetition_penalty: above 1, tokens of the conversation so far become less probable
        regex: an expression (Rust's syntax) that every answer matches
        json_schema: a file with a JSON schema, or the schema itself, that every answer keeps to
        dtype: precision to compute in, by default that of the stored weights
        draft: a smaller model of the same vocabulary whose guesses save steps, or `prompt`: what the text itself holds
        guesses: tokens that are guessed at a time
        cache: 8-bit rounds keys and values, of which half the memory then holds as many tokens
        device: cpu, cuda or cuda:N, by default a GPU where there is one
    """
    sampling = Sampling(
        max_new_tokens,
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        repetition_penalty=repetition_penalty,
        regex=regex,
        json_schema=_schema(json_schema),
    )
    session = ChatSession(_open(model, dtype, draft, guesses, cache, device), sampling, system)
    with _line_history():
        while session.turn():
            pass
    _say_guesses(session.lm, session.asked)


class ChatSession:
    """A conversation that grows by what is typed and answered; notes go to standard error, answers to output."""

    def __init__(self, lm: LM, sampling: Sampling, system: str | None = None) -> None:
        self.lm, self.sampling, self.system = lm, sampling, system
        self.messages: list[Message] = []
        self.asked: Prompt = ""
        self._typed_by_hand = sys.stdin.isatty()
        if self._typed_by_hand:
            _note("/help lists commands, /exit leaves")

    def turn(self) -> bool:
        """Reads a line and answers it or obeys it; False at the end."""
        try:
            line = input("> " if self._typed_by_hand else "").strip()
        except EOFError:
            return False
        except KeyboardInterrupt:
            _note("\n/exit or Ctrl-D leaves")
            return True
        if line.startswith("/"):
            return self._obey(*line.partition(" ")[::2])
        if line:
            self._answer(line)
        return True

    def _obey(self, command: str, text: str) -> bool:
        match command:
            case "/exit" | "/quit":
                return False
            case "/reset":
                self.messages = []
                _note("the conversation starts anew")
            case "/system":
                self.system, self.messages = text.strip() or None, []
                _note(f"system message: {self.system or 'none'}; the conversation starts anew")
            case "/help":
                _note(HELP)
            case _:
                _note(f"{command} is no command\n{HELP}")
        return True

    def _answer(self, question: str) -> None:
        self.asked = _conversation(self.system, question, self.messages)
        try:
            completion = _show(self.lm, self.asked, self.sampling, stoppable=self._typed_by_hand)
        except PromptTooLong as error:
            _note(f"{error}, or forget what was said so far with /reset")
            return
        self.messages += [Message("user", question), Message("assistant", completion.text)]
        if completion.finish_reason == "length":
            _note(
                f"(cut after {len(completion.tokens) or self.sampling.max_new_tokens} tokens: the limit of an answer, "
                "--max-new-tokens, or of the context, which /reset empties)"
            )


def _show(lm: LM, prompt: Prompt, sampling: Sampling, stoppable: bool = False) -> Completion:
    """Prints a completion as it comes and gives it back; where it is `stoppable`, Ctrl-C cuts it there."""
    said = ""
    pieces = lm.stream(prompt, sampling)
    try:
        while True:
            piece = next(pieces)
            said += piece
            print(piece, end="", flush=True)
    except StopIteration as end:
        completion: Completion = end.value
    except KeyboardInterrupt:
        if not stoppable:
            raise
        pieces.close()
        completion = Completion(said, (), (), "stop")
    print(flush=True)
    return completion


def _conversation(system: str | None, question: str, before: list[Message] | None = None) -> Conversation:
    head = [] if system is None else [Message("system", system)]
    return Conversation((*head, *(before or ()), Message("user", question)))


def _open(
    model: str,
    dtype: Precision,
    draft: str | None,
    guesses: int | None,
    cache: CacheKind,
    device: str | None,
) -> LM:
    if is_url(model):
        here = (
            draft,
            guesses,
            device,
            None if cache == "whole" else cache,
            None if dtype == "stored" else dtype,
        )
        if any(setting is not None for setting in here):
            raise WrongCall(
                "--dtype, --draft, --guesses, --cache and --device are for models that run here; a server has its own"
            )
        return connect(model)
    precision = None if dtype == "stored" else getattr(torch, dtype)
    return connect(model, dtype=precision, draft=draft, guesses=guesses, cache=cache, device=device)


def _say_guesses(lm: LM, after: Prompt) -> None:
    """How many guesses were taken and what that saved, where there were any."""
    if isinstance(lm, Engine) and lm.proposer and lm.proposer.proposed:
        taken = f"{lm.proposer.taken} of {lm.proposer.proposed} guesses were taken"
        speed_up = lm.proposer.speed_up(lm.plain_step_seconds(after))
        _note(
            f"{taken}: {lm.proposer.tokens_a_step:.2f} tokens a step where there was a guess, "
            f"{speed_up:.2f} times as fast as without"
        )


def _schema(file_or_json: str | None) -> str | None:
    """The JSON of a schema that is given as itself, which begins with a brace, or as a file."""
    if file_or_json is None or file_or_json.lstrip().startswith("{"):
        return file_or_json
    try:
        return Path(file_or_json).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongCall(f"--json-schema {file_or_json}: neither JSON nor a file to read: {error}") from error


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _line_history() -> Iterator[None]:
    """Arrow keys bring back what was typed, also in earlier chats; kept in CAMELID_HOME/chat_history."""
    try:
        import readline
    except ModuleNotFoundError:  # Python on Windows has none; typing works all the same
        yield
        return
    path = camelid_home() / "chat_history"
    if not sys.stdin.isatty():
        yield
        return
    readline.set_history_length(1000)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            readline.read_history_file(path)
    except OSError as error:
        _note(f"{path}: {error.strerror}; what is typed here is not kept")
        yield
        return
    try:
        yield
    finally:
        readline.write_history_file(path)
