"""`camelid generate` and `camelid chat`: a model in the terminal."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.json import read_table, write_json
from camelid.engine.engine import Engine
from camelid.engine.line_history import line_history
from camelid.engine.open_lm import open_lm
from camelid.engine.terminal_output import printing
from camelid.lm.interface import LM, Completion, Prompt, PromptTooLong
from camelid.lm.sampling import Sampling
from camelid.recipes.engine import EngineSettings
from camelid.recipes.server import ServerSettings
from camelid.text.conversation import Conversation, Message

logger = logging.getLogger(__name__)

ANSWER_SHARE = 4
"""A chat keeps this part of the context free for an answer, or --max-new-tokens if that is less."""

QUOTES = '"""'
HELP = '''\
/retry          another answer to the last question
/undo           forget the last question and its answer
/reset          forget the conversation
/system TEXT    set the system message and start again; without TEXT, none
/save FILE      write the conversation as a row that `camelid tune` takes
/load FILE      go on with a saved conversation
/model NAME     go on with another model
/stats          tokens and speed of the last answer, and of the conversation
/help           this list; a line that ends in \\ goes on in the next, and
                """ begins and ends a text of several lines
/exit           leave (so does Ctrl-D); Ctrl-C stops an answer'''


def generate(
    model: str,
    prompt: str,
    sampling: Sampling,
    engine: EngineSettings,
    server: ServerSettings | None = None,
    *,
    chat: bool = False,
    system: str | None = None,
) -> None:
    """Prints what a model continues a prompt with, or with `chat` answers it; `-` reads the prompt from
    standard input."""
    if system is not None and not chat:
        raise WrongCall("--system needs --chat: only a conversation has a system message")
    _check_output()
    text = _standard_input() if prompt == "-" else prompt
    asked: Prompt = _conversation(system, text) if chat else text
    lm = open_lm(model, engine, server)
    _show(lm, asked, sampling)
    _log_draft_tokens(lm, asked)


def _check_output() -> None:
    if sys.stdout is None:
        raise WrongCall("standard output is closed, so there is nowhere to print the text")


def _standard_input() -> str:
    if sys.stdin is None:
        raise WrongCall("--prompt - reads standard input, which is closed")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise WrongCall(f"standard input is not {error.encoding}: {error.reason}") from error


def chat(
    model: str,
    sampling: Sampling,
    engine: EngineSettings,
    server: ServerSettings | None = None,
    system: str | None = None,
    markdown: bool = True,
) -> None:
    """Answers what is typed, turn by turn, until /exit or the end of the input.

    markdown: whether a terminal shows answers as Markdown.
    """
    _check_output()

    def connect(name: str) -> LM:
        return open_lm(name, engine, server)

    session = ChatSession(connect(model), sampling, system, connect, markdown)
    with line_history():
        while session.turn():
            pass
    _log_draft_tokens(session.lm, session.asked)


class ChatSession:
    """A conversation that grows by what is typed and answered; notes go to standard error, answers to
    output. `connect` opens another model by its name."""

    def __init__(
        self,
        lm: LM,
        sampling: Sampling,
        system: str | None = None,
        connect: Callable[[str], LM] | None = None,
        markdown: bool = True,
    ) -> None:
        self.lm, self.sampling, self.system = lm, sampling, system
        self.messages: list[Message] = []
        self.asked: Prompt = ""
        self._connect, self._markdown = connect, markdown
        self._last: tuple[Completion, float] | None = None
        self._typed_by_hand = sys.stdin is not None and sys.stdin.isatty()
        if self._typed_by_hand:
            logger.info("/help lists commands, /exit leaves")

    def turn(self) -> bool:
        """Reads a line and answers it or obeys it; False at the end."""
        try:
            line = self._typed()
        except EOFError:
            return False
        except UnicodeDecodeError as error:
            raise WrongCall(f"standard input is not {error.encoding}: {error.reason}") from error
        except KeyboardInterrupt:
            if not self._typed_by_hand:
                raise
            logger.info("\n/exit or Ctrl-D leaves")
            return True
        if line.startswith("/"):
            try:
                return self._obey(*line.partition(" ")[::2])
            except (CamelidError, OSError) as error:
                if not self._typed_by_hand:
                    raise
                logger.info(f"{error}")
                return True
        if line:
            self._answer(line)
        return True

    def _typed(self) -> str:
        """A line, which goes on in the next after a backslash, or all lines between two `QUOTES`."""
        text = self._line().strip()
        if text.startswith(QUOTES):
            text = text.removeprefix(QUOTES)
            while not text.endswith(QUOTES):
                text += f"\n{self._line().rstrip()}"
            return text.removesuffix(QUOTES).strip()
        while text.endswith("\\"):
            text = f"{text[:-1]}\n{self._line().rstrip()}"
        return text

    def _line(self) -> str:
        """The next line; raises `EOFError` at the end. `input` needs standard output and error, a pipe has
        neither."""
        if self._typed_by_hand:
            return input("> ")
        line = "" if sys.stdin is None else sys.stdin.readline()  # None where it is closed, as by `<&-`
        if not line:
            raise EOFError
        return line

    def _obey(self, command: str, text: str) -> bool:
        match command:
            case "/exit" | "/quit":
                return False
            case "/retry" | "/undo" if len(self.messages) < 2:
                logger.info("there is no answer yet")
            case "/retry":
                question, self.messages = self.messages[-2].content or "", self.messages[:-2]
                self.sampling = replace(self.sampling, seed=self.sampling.seed + 1)
                self._answer(question)
            case "/undo":
                self.messages = self.messages[:-2]
                logger.info("the last question and its answer are forgotten")
            case "/save" | "/load" | "/model" if not text.strip():
                logger.info(f"{command} needs a name: {command} NAME")
            case "/save":
                write_json(
                    Path(text.strip()),
                    {"messages": _conversation(self.system, None, self.messages).as_dicts()},
                )
                logger.info(f"{len(self.messages) // 2} turns are in {text.strip()}")
            case "/load":
                self._load(Path(text.strip()))
            case "/model" if self._connect is not None:
                self.lm = self._connect(text.strip())
                logger.info(f"the conversation goes on with {text.strip()}")
            case "/stats":
                logger.info(self._stats())
            case "/reset":
                self.messages = []
                logger.info("the conversation starts again")
            case "/system":
                self.system, self.messages = text.strip() or None, []
                logger.info(f"system message: {self.system or 'none'}; the conversation starts again")
            case "/help":
                logger.info(HELP)
            case _:
                logger.info(f"there is no command {command}\n{HELP}")
        return True

    def _load(self, path: Path) -> None:
        read = Conversation.from_messages(read_table(path, remedy="give a file of /save").get("messages", []))
        head = [message for message in read.messages if message.role == "system"]
        turns = [message for message in read.messages if message.role != "system"]
        if len(turns) % 2 or any(
            m.role != r for m, r in zip(turns, ("user", "assistant") * len(turns), strict=False)
        ):
            raise CamelidError(f"{path}: questions and answers must alternate, and an answer come last")
        self.system, self.messages = (head[0].content if head else None), turns
        logger.info(f"{len(turns) // 2} turns are loaded")

    def _stats(self) -> str:
        """Counts of the last answer and of the conversation."""
        if self._last is None:
            return "there is no answer yet"
        completion, seconds = self._last
        tokens = len(completion.tokens)
        speed = f"{tokens} tokens, {tokens / seconds:.1f} tokens/s" if tokens else f"{seconds:.1f} s"
        counted = f"the last answer: {speed}; {len(self.messages) // 2} turns"
        if not isinstance(self.lm, Engine):
            return counted
        used = len(self.lm.encode(_conversation(self.system, "", self.messages)))
        return f"{counted}, {used} of {self.lm.context_length} tokens of the context"

    def _answer(self, question: str) -> None:
        kept, began = self._kept(question), time.perf_counter()
        try:
            completion = self._shown(question, kept)
            while completion is None:
                completion = self._shown(question, kept := kept[2:])
        except CamelidError as error:
            if not self._typed_by_hand and not isinstance(error, PromptTooLong):
                raise
            logger.info(f"{error}")
            return
        self._last = completion, time.perf_counter() - began
        if dropped := (len(self.messages) - len(kept)) // 2:
            turns = "turn was" if dropped == 1 else f"{dropped} turns were"
            logger.info(f"(the context is full: the oldest {turns} dropped)")
        self.messages = [*kept, Message("user", question), Message("assistant", completion.text)]
        if completion.finish_reason == "length":
            logger.info(
                f"(cut after {len(completion.tokens) or self.sampling.max_new_tokens} tokens: "
                "the limit of an answer, --max-new-tokens, or of the context, which /reset empties)"
            )

    def _kept(self, question: str) -> list[Message]:
        """The latest turns that leave an answer its room in the context; a turn is a question with its
        answer."""
        kept = self.messages
        if isinstance(self.lm, Engine) and self.lm.model.encoder is None:
            context = self.lm.context_length
            most = context - min(self.sampling.max_new_tokens, context // ANSWER_SHARE)
            while kept and len(self.lm.encode(_conversation(self.system, question, kept))) > most:
                kept = kept[2:]
        return kept

    def _shown(self, question: str, kept: list[Message]) -> Completion | None:
        """The answer, or None if `kept` has turns to drop and is too long for the model."""
        self.asked = _conversation(self.system, question, kept)
        try:
            return _show(self.lm, self.asked, self.sampling, self._typed_by_hand, self._markdown)
        except PromptTooLong:
            if not kept:
                raise
            return None


def _show(
    lm: LM, prompt: Prompt, sampling: Sampling, stoppable: bool = False, markdown: bool = False
) -> Completion:
    """Prints a completion as it comes and gives it back; where it is `stoppable`, Ctrl-C cuts it there."""
    shown = ""
    pieces = lm.stream(prompt, sampling)
    with printing(markdown) as show:
        try:
            while True:
                piece = next(pieces)
                shown += piece
                show(piece)
        except StopIteration as end:
            completion: Completion = end.value
        except KeyboardInterrupt:
            if not stoppable:
                raise
            pieces.close()
            completion = Completion(shown, (), (), "stop")
    return completion


def _conversation(
    system: str | None, question: str | None, before: list[Message] | None = None
) -> Conversation:
    head = [] if system is None else [Message("system", system)]
    asked = [] if question is None else [Message("user", question)]
    return Conversation((*head, *(before or ()), *asked))


def _log_draft_tokens(lm: LM, after: Prompt) -> None:
    """Logs how many draft tokens were accepted and the speed-up, if there were any."""
    if isinstance(lm, Engine) and lm.proposer and lm.proposer.proposed:
        accepted = f"{lm.proposer.accepted} of {lm.proposer.proposed} draft tokens were accepted"
        speed_up = lm.proposer.speed_up(lm.plain_step_seconds(after))
        logger.info(
            f"{accepted}: {lm.proposer.tokens_a_step:.2f} tokens per step with draft tokens, "
            f"{speed_up:.2f} times as fast as without"
        )
