"""`camelid make self-chat`: both sides of a conversation from one model, seeded by questions (Baize,
arXiv:2304.01196).

The model writes a whole transcript in one reply. The person in it asks about the seed's topic and stops when
nothing is left to ask; the assistant answers, and asks nothing itself.
"""

import re
from collections import Counter
from collections.abc import Sequence

from camelid.data.read.prompts import Question
from camelid.lm.interface import Prompt
from camelid.lm.sampling import Sampling
from camelid.makers.faults import fault_of
from camelid.makers.made import Made
from camelid.makers.teacher import Ask, Reply, Teacher
from camelid.text.conversation import Conversation, Message

VERSION = "1"
HUMAN, AI = "[|Human|]", "[|AI|]"
HELLO, HELP = "Hello!", "How can I help you?"
GREETINGS = frozenset({HELLO, HELP, f"{HELLO} {HELP}"})
TEMPLATE = f"""Below is the transcript of a conversation between a human and an AI assistant. They take turns,
and talk about the topic: '{{topic}}'. The words of the human begin with {HUMAN}, those of the assistant with
{AI}. The human asks about the topic, about related ones or about an earlier turn, and ends the conversation
when there is nothing left to ask. The assistant gives helpful answers and tries not to ask questions. The
transcript is complete and keeps to this form.

{HUMAN} {HELLO}
{AI} {HELLO} {HELP}
{HUMAN}"""
MARKER = re.compile(r"\[\|(Human|AI)\|\]")


def make_self_chats(
    seeds: Sequence[Question], teacher: Teacher, sampling: Sampling, *, chat: bool, most_turns: int
) -> Made:
    """A conversation for each seed whose transcript has at least one whole pair of turns."""
    asks = [Ask(seed.id, _prompt(seed.text, chat)) for seed in seeds]
    made, lengths = Made(), Counter[int]()
    replies = teacher.ask(asks, sampling, lambda _, reply: read_transcript(reply)[1], "conversations")
    for ask, (reply, fault) in zip(asks, replies, strict=True):
        if reply is None or fault:
            made.drop(fault or "no answer")
            continue
        turns, _ = read_transcript(reply)
        turns = turns[: 2 * most_turns]
        lengths[len(turns) // 2] += 1
        roles = ("user", "assistant") * (len(turns) // 2)
        messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
        made.keep({"messages": messages}, {"prompt": ask.id, "seed": reply.seed, "attempt": reply.attempt})
    made.facts["pairs_of_turns"] = dict(sorted(lengths.items()))
    return made


def _prompt(topic: str, chat: bool) -> Prompt:
    text = TEMPLATE.format(topic=" ".join(topic.split()))
    return Conversation((Message("user", text),)) if chat else text


def read_transcript(reply: Reply) -> tuple[list[str], str | None]:
    """The turns of a reply, from the human's first to an assistant's last, and why there are none.

    The transcript ends before a turn that is not the other side's, that has been said before, or that has a
    fault; a human's last words without an answer are left out, and so is the last turn of a reply that was
    cut.
    """
    text = reply.text.lstrip()
    text = text if MARKER.match(text) else f"{HUMAN}{text}"
    _, *parts = MARKER.split(text)
    turns: list[str] = []
    fault: str | None = None
    for at, (side, turn) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        expected, turn = ("Human", "AI")[at % 2], turn.strip()
        is_last = 2 * at + 2 == len(parts)
        if side != expected:
            fault = "one side twice"
        elif side == "AI":
            fault = fault_of(turn, cut=reply.cut and is_last, asked=turns[-1])
        else:
            fault = fault_of(turn)
        if turn in turns or turn in GREETINGS:
            fault = "repeats itself"
        if fault:
            break
        turns.append(turn)
    turns = turns[: len(turns) // 2 * 2]
    return turns, None if turns else fault or "no answer in the transcript"
