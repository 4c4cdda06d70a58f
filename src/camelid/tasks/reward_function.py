"""A user's reward: a Python function named as `FILE.py:NAME`, called in a process of its own.

    def brief(prompt, completion, answer):
        return float(answer in completion) - len(completion) / 1000

What it returns must be a finite number: None, NaN, an exception, a crash or no answer in time stop the job
with the sample that caused it, and never become a reward of 0.
"""

import atexit
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from camelid.base.errors import CamelidError, WrongCall, shortened
from camelid.lm.interface import Prompt
from camelid.text.conversation import Conversation, Message

SECONDS = 60.0
"""Time for the reward of one sample."""
STARTING = 300.0
"""Time for the file to be imported, which may load a library such as torch."""
_START = (
    "import sys; sys.path.insert(0, sys.argv[4]); from pathlib import Path; "
    "from camelid.tasks.reward_process import serve; serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
)


@dataclass(frozen=True)
class Sample:
    """A completion of a prompt; columns: the rest of its row, such as the right `answer`."""

    prompt: Prompt
    completion: str
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def conversation(self) -> Conversation:
        """The prompt with the completion as the assistant's answer; a text is a message of the user's."""
        prompt = self.prompt
        if isinstance(prompt, str):
            prompt = Conversation((Message("user", prompt),))
        return replace(prompt, messages=(*prompt.messages, Message("assistant", self.completion)))

    @property
    def asked(self) -> str:
        """The text of the prompt, of a conversation its last turn."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt.messages[-1].content or ""

    @property
    def as_json(self) -> dict[str, Any]:
        """The sample as a reward function is given it: a conversation as its list of messages."""
        prompt = self.prompt if isinstance(self.prompt, str) else self.prompt.as_dicts()
        return {"prompt": prompt, "completion": self.completion, "columns": dict(self.columns)}


class RewardFunction:
    """A reward function in a Python file; seconds: time for one sample.

    Raises `WrongCall` for a name that is not FILE.py:NAME, and `CamelidError` if the file cannot be imported
    or defines no such function.
    """

    kind: Literal["function"] = "function"

    def __init__(self, name: str, seconds: float = SECONDS) -> None:
        file, _, function = name.rpartition(":")
        if not is_reward_function(name):
            raise WrongCall(f"{name} does not name a reward function; give FILE.py:NAME")
        if not Path(file).is_file():
            raise WrongCall(f"{file}: no such file; a reward function is given as FILE.py:NAME")
        self.name, self.seconds = f"{Path(file).name}:{function}", seconds
        self._path, self._function = Path(file).resolve(), function
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._begin()
        atexit.register(self.close)

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """The reward of each sample; raises `CamelidError` that names the first without a finite number."""
        return [self._reward(index, sample) for index, sample in enumerate(samples)]

    def close(self) -> None:
        """Ends the process, and those that it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only a dead one is left
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdin is not None
            with suppress(OSError):
                self._process.stdin.close()
            self._process = None

    def _reward(self, index: int, sample: Sample) -> float:
        if self._process is None:
            self._begin()
        try:
            answer = self._ask(json.dumps(sample.as_json, default=str), self.seconds)
        except CamelidError as error:
            shown = f"completion {shortened(sample.completion, 200)} of prompt {shortened(sample.asked, 200)}"
            raise CamelidError(f"the reward function {self.name} {error}; sample {index}, {shown}") from None
        return float(answer["reward"])

    def _begin(self) -> None:
        source = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(self._path), self._function, str(os.getpid()), str(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogatepass",
            start_new_session=True,  # a group of its own, with the processes that the function starts
        )
        self._answers = queue.Queue()
        threading.Thread(target=_forward, args=(self._process, self._answers), daemon=True).start()
        try:
            self._ask(None, STARTING)
        except CamelidError as error:
            self.close()
            raise CamelidError(f"the reward function {self.name} cannot be used: {error}") from None

    def _ask(self, request: str | None, seconds: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            if request is not None:
                self._process.stdin.write(request + "\n")
                self._process.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except (queue.Empty, OSError) as error:
            late = isinstance(error, queue.Empty)
            line = None
            problem = f"gave no answer in {seconds:g} seconds" if late else "ended its process"
        except BaseException:  # such as Ctrl-C between request and answer
            self.close()
            raise
        else:
            problem = "ended its process"
        if line is None:
            self.close()
            raise CamelidError(problem)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CamelidError(answer["error"])
        return answer


def is_reward_function(name: str) -> bool:
    """Whether a name is of the form FILE.py:NAME."""
    file, _, function = name.rpartition(":")
    return file.endswith(".py") and function.isidentifier()


def _forward(process: "subprocess.Popen[str]", answers: "queue.Queue[str | None]") -> None:
    """Passes the lines of a process on, and None at their end."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            answers.put(line)
    answers.put(None)
