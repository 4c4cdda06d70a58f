"""`camelid make answers`: a teacher answers given questions.

So were made Koala's distilled data, GPT4All's pairs, and the targets of sequence-level distillation (Kim and
Rush, arXiv:1606.07947).
"""

from collections.abc import Sequence
from dataclasses import replace

from camelid.data.read.prompts import Question
from camelid.lm.sampling import Sampling
from camelid.makers.faults import fault_of
from camelid.makers.made import Made
from camelid.makers.teacher import Ask, Reply, Teacher
from camelid.text.conversation import Conversation, Message

VERSION = "1"


def make_answers(
    questions: Sequence[Question], teacher: Teacher, sampling: Sampling, system: str | None = None
) -> Made:
    """A chat row for each question that the teacher answers well; the others are counted by their fault."""
    prompts = {each.id: with_system(each.conversation, system) for each in questions}
    text_of = {each.id: each.text for each in questions}

    def fault(ask: Ask, reply: Reply) -> str | None:
        return fault_of(reply.text, cut=reply.cut, asked=text_of[ask.id])

    asks = [Ask(name, prompt) for name, prompt in prompts.items()]
    made = Made()
    answers = teacher.ask(asks, sampling, fault, "answers")
    for (name, prompt), (reply, dropped) in zip(prompts.items(), answers, strict=True):
        if reply is None or dropped:
            made.drop(dropped or "no answer")
            continue
        messages = [*prompt.as_dicts(), {"role": "assistant", "content": reply.text.strip()}]
        made.keep({"messages": messages}, {"prompt": name, "seed": reply.seed, "attempt": reply.attempt})
    return made


def with_system(conversation: Conversation, system: str | None) -> Conversation:
    """The conversation with a system message, if it has none of its own."""
    if system is None or conversation.messages[0].role == "system":
        return conversation
    return replace(conversation, messages=(Message("system", system), *conversation.messages))
