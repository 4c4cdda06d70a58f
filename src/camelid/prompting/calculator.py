"""A calculator inside chains of thought: the model writes the arithmetic, a parser computes it.

    program = calculator(chain_of_thought(exemplars), "equations")

`annotations` is the calculator of Cobbe et al. (arXiv:2110.14168, appendix C): where a model trained on
GSM8K writes <<48/2=25>>, the result is overwritten and the model goes on from <<48/2=24>>. `equations` is the
external one of Wei et al. (arXiv:2201.11903, appendix B): every equation of the finished chain is computed
again, and a changed result replaces the old one in later equations and in the answer.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

from camelid.base.errors import WrongCall
from camelid.lm.interface import Completion, Score
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import Question
from camelid.prompting.attempt import Attempt, Program, Read
from camelid.prompting.expressions import decimal, value_of
from camelid.prompting.steps import Generate, Request, Steps, generated, side_by_side

Calculator = Literal["annotations", "equations"]
CALCULATORS: tuple[Calculator, ...] = get_args(Calculator)
MOST_CORRECTIONS = 20
"""Results overwritten in one reply; a model that needs more is left as it is."""

_ANNOTATION = re.compile(r"<<(?P<left>[^<>=\n]*)=(?P<result>[^<>\n]*)>>")
_NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|-?\.\d+"
_AFTER_RESULT = (
    r"(?![\d.,]*\d|\s\d{3}\b|:\d|\s+and\s\(?\d|\s?%|[A-Za-z]\b|\s*[*/×÷^(+]|\s*[-−–]\s*[\w($.]|\s+[xX]\s)"
)
"""Not before more digits, a per cent sign, an unknown (5A), or the rest of a longer right side."""
_RESULT = re.compile(rf"\s*=\s*\$?\s?(?P<number>{_NUMBER}){_AFTER_RESULT}")
_RUN = re.compile(r"[\d\s.,$+*/xX×÷()^−–-]+$")
_START = re.compile(r"(?<![\d.,])[$]?\s?[\d.(]")
_TWO_SIDES = re.compile(r"[\d)]\s*(?:[-+*/×÷^−–]|[xX][\s\d(])")
_GOES_ON = re.compile(
    r"(?:[-+*/×÷^%)\d−–]|(?<![A-Za-z])[xX]|\b(?:of|times|plus|minus|by|over|per)|\d\s+and|\d:|\d,\s)\s*[($]*\s*$",
    re.IGNORECASE,
)
"""Before a sum: then it is only the end of a longer one."""
_TOKEN = re.compile(r"(?<![\d.,])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_STATED = re.compile(
    rf"(?P<before>\banswer(?: \([^()\n]*\))? is:?\s*\(?\$?\s?)(?P<number>{_NUMBER})(?![\d.,]*\d)",
    re.IGNORECASE,
)


def calculator(program: Program, how: Calculator = "equations") -> Program:
    """The program with arithmetic computed in every reply before anything else reads it.

    Raises `WrongCall` for an unknown `how`, and with `annotations` for a conversation, in which a reply
    cannot be continued.
    """
    if how not in CALCULATORS:
        raise WrongCall(f"the calculator is {how!r}; it must be one of {', '.join(CALCULATORS)}")

    def ask(question: Question, read: Read | None) -> Steps[Attempt]:
        steps = program.ask(question, read)
        try:
            requests = next(steps)
            while True:
                requests = steps.send((yield from _computed(requests, how)))
        except StopIteration as end:
            attempt: Attempt = end.value
            return attempt

    settings = {**program.settings, "calculator": how}
    title = f"{program.title} with a calculator"
    return Program(f"{program.name}.calculator", program.version, ask, settings, program.shots, title)


def recomputed(chain: str) -> str:
    """A chain whose equations are right: results are computed, and replaced in later equations and the
    answer.

    A result that is rounded rightly stays, and so does what is not arithmetic ("2x + 3 = 7", "5% of 20 = 1").
    """
    changed: dict[str, str] = {}
    parts: list[str] = []
    at = 0
    for result in _RESULT.finditer(chain):
        start = _sum_before(chain, at, result.start())
        if start is None:
            continue
        left = _TOKEN.sub(lambda match: _new(changed, match[0]), chain[start : result.start()])
        value = value_of(left)
        if value is None:
            continue
        written = result["number"]
        parts += [_stated(chain[at:start], changed), left, chain[result.start() : result.start("number")]]
        changed.pop(_plain(written), None)
        if not _is(value, written):
            changed[_plain(written)] = written = decimal(value)
        parts.append(written)
        at = result.end("number")
    return "".join([*parts, _stated(chain[at:], changed)])


def corrected(text: str) -> str | None:
    """The text up to its first annotation with a wrong result, which is overwritten; None if all are
    right."""
    for found in _ANNOTATION.finditer(text):
        value = value_of(found["left"])
        if value is not None and not _is(value, found["result"]):
            return f"{text[: found.start('result')]}{decimal(value)}>>"
    return None


def _computed(requests: Sequence[Request], how: Calculator) -> Steps[list[Completion | Score]]:
    replies = yield requests
    pairs = zip(requests, replies, strict=True)
    if how == "equations":
        return [
            dataclasses.replace(reply, text=recomputed(reply.text))
            if isinstance(reply, Completion)
            else reply
            for _, reply in pairs
        ]
    return (yield from side_by_side((_continued(*pair) for pair in pairs), samples=True))


def _continued(request: Request, reply: Completion | Score) -> Steps[Completion | Score]:
    if isinstance(request, Generate) and isinstance(reply, Completion):
        return (yield from _corrections(request, reply))
    return reply


def _corrections(request: Generate, reply: Completion) -> Steps[Completion]:
    """The reply, written on from each result that was overwritten."""
    if not isinstance(request.prompt, str):
        raise WrongCall("the calculator `annotations` continues replies as text: use it without chat")
    for _ in range(MOST_CORRECTIONS):
        kept = corrected(reply.text)
        if kept is None:
            break
        sampling = _rest(request.sampling, reply, len(kept) / max(len(reply.text), len(kept)))
        if sampling is None:
            return dataclasses.replace(reply, text=kept, logprobs=(), finish_reason="length")
        more = yield from generated(request.prompt + kept, sampling)
        # Overwritten text was not sampled, so the whole has no probability; its tokens were spent.
        reply = dataclasses.replace(
            more, text=kept + more.text, tokens=reply.tokens + more.tokens, logprobs=(), sampled_logprobs=()
        )
    return reply


def _rest(sampling: Sampling, reply: Completion, share: float) -> Sampling | None:
    """The sampling with what is left of the length limit; tokens of the kept text by its share."""
    left = sampling.max_new_tokens - round(share * len(reply.tokens))
    return dataclasses.replace(sampling, max_new_tokens=left) if left > 0 else None


def _sum_before(chain: str, after: int, end: int) -> int | None:
    """Where the sum begins that ends before an equals sign; None if there is none, or only a part of one."""
    run = _RUN.search(chain[after:end])
    if run is None:
        return None
    for start in _START.finditer(chain, after + run.start(), end):
        text = chain[start.start() : end]
        if _TWO_SIDES.search(text) and value_of(text) is not None:
            return None if _GOES_ON.search(chain[after : start.start()]) else start.start()
    return None


def _is(value: Fraction, written: str) -> bool:
    """Whether a number as written is the value, or the value rounded to its decimals."""
    number = value_of(written)
    if number is None:
        return False
    decimals = len(written.strip().partition(".")[2])
    return bool(abs(value - number) * 2 * 10**decimals <= 1)


def _stated(text: str, changed: Mapping[str, str]) -> str:
    """The text with changed results in "the answer is"."""
    return _STATED.sub(lambda match: match["before"] + _new(changed, match["number"]), text)


def _new(changed: Mapping[str, str], number: str) -> str:
    return changed.get(_plain(number), number)


def _plain(number: Any) -> str:
    return str(number).replace(",", "")
