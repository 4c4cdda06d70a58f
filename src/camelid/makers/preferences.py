"""`camelid make preferences`: several answers of a model to each question, ranked by a reward.

A row holds the prompt, its answers with their scores, and who judged; `data.read.rankings` reads it.
"""

from collections.abc import Sequence
from dataclasses import replace

from camelid.base.progress import track
from camelid.data.read.prompts import Question
from camelid.evals.rewards import Reward
from camelid.lm.sampling import Sampling
from camelid.makers.answers import with_system
from camelid.makers.made import Made
from camelid.makers.teacher import Ask, Reply, Teacher
from camelid.tasks.reward_function import Sample

VERSION = "1"
SAMPLE_STRIDE = 15_485_863
"""Added to the seed for each further answer to a question; apart from that of further attempts."""
FEWER, TIED = "fewer than two different answers", "all answers have the same score"


def make_preferences(
    questions: Sequence[Question],
    teacher: Teacher,
    sampling: Sampling,
    reward: Reward,
    samples: int,
    system: str | None = None,
) -> Made:
    """A row of ranked answers for each question whose answers differ in reward; the best one comes first."""
    replies = _replies(questions, teacher, sampling, samples, system)
    made = Made()
    made.facts["judge"] = {"name": reward.name, "kind": reward.kind}
    for each, answers in track([*zip(questions, replies, strict=True)], "scoring", len(questions)):
        prompt, texts = with_system(each.conversation, system), [*answers]
        if len(texts) < 2:
            made.drop(FEWER)
            continue
        scores = reward.score([Sample(prompt, text, each.columns) for text in texts])
        if len(set(scores)) == 1:
            made.drop(TIED)
            continue
        ranked = sorted(zip(texts, scores, strict=True), key=lambda pair: -pair[1])
        row = {
            "prompt": prompt.as_dicts(),
            "answers": [
                {"content": text, "score": score, "seed": answers[text].seed} for text, score in ranked
            ],
            "judge": made.facts["judge"],
        }
        made.keep(row, {"prompt": each.id})
    return made


def _replies(
    questions: Sequence[Question], teacher: Teacher, sampling: Sampling, samples: int, system: str | None
) -> list[dict[str, Reply]]:
    """The different answers to each question by their text, each sampled with a seed of its own."""
    found: list[dict[str, Reply]] = [{} for _ in questions]
    for number in range(samples):
        asks = [Ask(f"{each.id}#{number}", with_system(each.conversation, system)) for each in questions]
        seeded = replace(sampling, seed=sampling.seed + number * SAMPLE_STRIDE)
        replies = teacher.ask(asks, seeded, _fault, f"answers {number + 1} of {samples}")
        for answers, (reply, fault) in zip(found, replies, strict=True):
            if reply is not None and not fault:
                answers.setdefault(reply.text.strip(), reply)
    return found


def _fault(ask: Ask, reply: Reply) -> str | None:
    """Bad answers are worth ranking; only those without text or without an end are not."""
    if not reply.text.strip():
        return "empty"
    return "cut" if reply.cut else None
