"""Held-out questions that a policy answers greedily before, while and after it learns."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from camelid.align.questions import Asked
from camelid.align.rewarding import Rewarding, rewards_of
from camelid.align.samplers import EngineSampler
from camelid.align.summary import grades
from camelid.base.atomic import write_text_atomically
from camelid.base.json import json_line, whole_lines
from camelid.lm.interface import Completion

BEFORE, AFTER = "answers-before.jsonl", "answers-after.jsonl"


@dataclass(frozen=True)
class Answered:
    """An answer to a held-out question: its reward, and whether it is right, where a grader can say."""

    question: str
    answer: str
    reward: float
    right: float | None


@dataclass(frozen=True)
class Quality:
    """What held-out answers are worth on average."""

    measures: dict[str, float]


@dataclass
class HeldOut:
    """Measures a policy by its greedy answers, and writes the first and the newest ones into its run."""

    sampler: EngineSampler
    questions: Sequence[Asked]
    reward: Rewarding
    cut_reward: float | None
    folder: Path

    def __call__(self) -> Quality:
        """The mean reward and the grades, with the present weights."""
        self.sampler.renew()
        group = self.sampler.policy.group
        asked = group.own(self.questions)
        own = self._answers(asked)
        earned = rewards_of(self.reward, asked, own, self.cut_reward) if asked else []
        pairs = group.together([*zip((one.text for one in own), earned, strict=True)])
        texts, rewards = [text for text, _ in pairs], [reward for _, reward in pairs]
        found = []
        for each, text, reward in zip(self.questions, texts, rewards, strict=True):
            grade = each.grade(text)
            found.append(Answered(each.text, text, reward, None if grade is None else grade.value))
        names = (AFTER, *([] if (self.folder / BEFORE).exists() else [BEFORE]))
        for name in names if group.is_main else ():
            write_text_atomically(self.folder / name, "".join(json_line(asdict(one)) for one in found))
        return Quality({"reward": sum(rewards) / len(rewards), **grades(self.questions, texts)})

    def _answers(self, questions: Sequence[Asked]) -> list[Completion]:
        found: dict[int, Completion] = {}
        for sampling in dict.fromkeys(each.sampling for each in questions):
            places = [at for at, each in enumerate(questions) if each.sampling == sampling]
            prompts = [questions[at].prompt for at in places]
            replies = self.sampler.engine.generate(prompts, replace(sampling, temperature=0.0))
            found |= {at: reply for at, [reply] in zip(places, replies, strict=True)}
        return [found[at] for at in range(len(questions))]


def read_answers(path: Path) -> list[Answered]:
    """The answers in a file, none if there is none."""
    return [Answered(**row) for row, _ in whole_lines(path, remedy="remove it")] if path.is_file() else []
