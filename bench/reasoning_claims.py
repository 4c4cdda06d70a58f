"""What bench/reasoning.py measures: a function for each claim, from the models of a seed to rows of counts.

Answers are kept in `answers` beside the models: a stopped measurement goes on, and a repeated one is quick.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from reasoning_chains import VERDICTS, audit, borrowed_steps, dots, equations, shuffled_steps, wrong_steps
from reasoning_documents import (
    GRADERS,
    HELD_OUT_WORDS,
    LONGER,
    MOST_NAMES,
    RULES,
    SKILLS,
    TRAINED,
    beginnings,
    items,
    part_question,
    rule,
)

from camelid import LM, Sampling, evaluate
from camelid.data.world.grammar import Dice
from camelid.data.world.problem import Problem
from camelid.evals.evaluate import Evaluation
from camelid.evals.methods import Method
from camelid.evals.variants import variants
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.prompting.asking import QUESTION_ANSWER, Question
from camelid.prompting.attempt import Program
from camelid.prompting.least_to_most import LIST, Decomposed, Decomposition, least_to_most
from camelid.prompting.programs import chain_of_thought, direct, few_shot
from camelid.tasks.graders import GRADERS as GRADE
from camelid.tasks.intervals import compare_grades
from camelid.tasks.item import Item
from camelid.tasks.task import Task

Row = dict[str, Any]
SHOTS, EACH = 3, 100
"""Exemplars, and questions of each length."""
SHORT, LONG = Sampling(max_new_tokens=24), Sampling(max_new_tokens=160)
MAIN, SOLVER = "large", "sums-steps"
RULE_SHOTS = (0, 1, 2, 4, 8, 16)
SPANS = ("trained", "longer")
STRICT = "accuracy_strict"
SIZES = {"tiny": (16, 1, 1), "small": (32, 2, 1), "middle": (64, 2, 2), "large": (128, 4, 4)}
"""Width, layers and heads; other settings are those of recipes/reasoning/pretrain-questions.yaml."""
TUNED = ("direct", "steps", "wrong", "shuffled")
"""What the replies of the tuning data show."""


@cache
def model(out: Path, name: str) -> Any:
    return LM(out / name / "model")


@cache
def shown(skill: str, count: int = SHOTS) -> tuple[Item, ...]:
    """Exemplars from the training split, of 2, 3 and 4 steps in turn."""
    return tuple(items(skill, "train", TRAINED, count))


@cache
def task(skill: str, span: str, each: int = EACH, split: str = "test") -> Task:
    """Questions of trained lengths, or longer ones; as many of each length."""
    lengths = TRAINED if span == "trained" else LONGER
    asked = items(skill, split, lengths, each * len(lengths))
    name = f"{skill}-{span}-{split}-{each}"
    return Task(name, "1", tuple(asked), GRADE[GRADERS[skill]], shown(skill, 12))


def ask(out: Path, name: str, asked: Task, program: Program, way: str) -> Evaluation:
    """The evaluation of a model; `way` names the program among those with other exemplars or settings."""
    program = replace(program, name=way)
    return evaluate(asked, program, model(out, name), out / "answers" / name, allow_cut=True)


def right(evaluation: Evaluation) -> list[bool]:
    """Whether each question was answered correctly, read strictly."""
    return evaluation.grades(STRICT)


def row(evaluation: Evaluation, **named: Any) -> Row:
    """The count of right answers, with what the row is about."""
    grades = right(evaluation)
    return {**named, "right": sum(grades), "n": len(grades)}


def paired(before: Evaluation, after: Evaluation) -> Row:
    """The difference on the same questions, in accuracy, with its interval and McNemar's p."""
    found = compare_grades(right(before), right(after))
    ends = {"low": found.interval.low, "high": found.interval.high}
    return {"difference": found.difference, **ends, "p": found.p_value}


def directly(skill: str) -> Program:
    return few_shot(shown(skill), sampling=SHORT)


def in_steps(skill: str, exemplars: Sequence[Item] = (), sampling: Sampling = LONG) -> Program:
    return chain_of_thought(exemplars or shown(skill), sampling=sampling)


def alone() -> Program:
    """A tuned model's question, without exemplars; its replies are as in its training."""
    return direct(sampling=LONG)


def length(out: Path) -> list[Row]:
    """Direct answers and chains of thought, by the number of steps."""
    rows = []
    for skill in SKILLS:
        for span in SPANS:
            asked = task(skill, span)
            plain = ask(out, MAIN, asked, directly(skill), "direct")
            chain = ask(out, MAIN, asked, in_steps(skill), "steps")
            for way, evaluation in (("direct", plain), ("steps", chain)):
                rows += by_length(asked, evaluation, skill=skill, way=way)
            rows.append({"skill": skill, "way": "paired", "span": span, **paired(plain, chain)})
    return rows


def by_length(asked: Task, evaluation: Evaluation, **named: Any) -> list[Row]:
    """A row for each number of steps."""
    grades: dict[int, list[bool]] = {}
    for item, correct in zip(asked.items, right(evaluation), strict=True):
        grades.setdefault(item.metadata["length"], []).append(correct)
    return [{**named, "length": steps, "right": sum(its), "n": len(its)} for steps, its in grades.items()]


def sizes(out: Path) -> list[Row]:
    """Every model: each skill directly and in steps, and rules by the number of exemplars."""
    rows = []
    for name in models(out):
        spec = read_spec(out / name / "model")
        about = {"model": name, "parameters": spec.parameter_count()}
        for skill in SKILLS:
            for span in SPANS:
                for way, program in (("direct", directly(skill)), ("steps", in_steps(skill))):
                    found = ask(out, name, task(skill, span), program, way)
                    rows.append(row(found, **about, skill=skill, span=span, way=way))
        rows += [{**about, **each} for each in rules(out, name)]
    return rows


def models(out: Path) -> list[str]:
    """The sizes of which a trained model is there."""
    return [name for name in SIZES if (out / name / "model").exists()]


def rules(out: Path, name: str, each: int = 25) -> list[Row]:
    """What an invented word means: only exemplars tell."""
    rows = []
    meanings = [(meaning, word) for meaning in RULES for word in HELD_OUT_WORDS[:2]]
    for shots in RULE_SHOTS:
        grades: list[bool] = []
        for meaning, word in meanings:
            exemplars, asked = rules_task(meaning, word, each)
            program = few_shot(exemplars[:shots], sampling=SHORT)
            grades += right(ask(out, name, asked, program, f"rules-{shots}"))
        rows.append({"skill": "rules", "shots": shots, "right": sum(grades), "n": len(grades)})
    return rows


def rules_task(meaning: str, word: str, each: int) -> tuple[list[Item], Task]:
    """Exemplars of a rule, and other questions about it."""
    dice, found = Dice("rules", meaning, word), dict[str, Item]()
    while len(found) < max(RULE_SHOTS) + each:
        solved = rule(dice, word, meaning)
        found.setdefault(solved.question, Item(solved.question, solved.question, solved.answer))
    first, rest = [*found.values()][: max(RULE_SHOTS)], [*found.values()][max(RULE_SHOTS) :]
    return first, Task(f"rules-{meaning}-{word}", "1", tuple(rest), GRADE["exact"])


def parts(out: Path) -> list[Row]:
    """Last letters of longer and longer lists: directly, in steps, and from least to most."""
    rows = []
    exemplar = next(item for item in shown("last_letters", 12) if item.metadata["length"] == 3)
    solved = beginnings(Problem(exemplar.question, exemplar.answer, names=names_in(exemplar.question)))
    said = [f"{each.steps} The answer is {each.answer}." for each in solved]
    example = Decomposed(exemplar.question, tuple(each.question for each in solved), tuple(said))
    how = Decomposition((example,), wording=LIST, parts=part_questions)
    program = least_to_most(how, sampling=replace(LONG, max_new_tokens=100))
    for span in SPANS:
        asked = task("last_letters", span)
        fitting = tuple(item for item in asked.items if item.metadata["length"] <= MOST_NAMES)
        asked = replace(asked, name=f"{asked.name}-{MOST_NAMES}", items=fitting)
        chain = ask(out, MAIN, asked, in_steps("last_letters"), "steps")
        least = ask(out, MAIN, asked, program, "parts")
        plain = ask(out, MAIN, asked, directly("last_letters"), "direct")
        for way, evaluation in (("direct", plain), ("steps", chain), ("parts", least)):
            rows += by_length(asked, evaluation, way=way)
        rows.append({"way": "paired", "span": span, **paired(chain, least)})
    return rows


def names_in(question: str) -> tuple[str, ...]:
    """The names that a question about last letters lists."""
    return tuple(question.removeprefix("Last letters of ").removesuffix("?").split(", "))


def part_questions(question: Question) -> list[str]:
    """The parts of a question about names: its first two, then one more each time."""
    names = names_in(question.question)
    return [part_question(names[:end]) for end in range(2, len(names) + 1)]


def fragile(out: Path) -> list[Row]:
    """The variants of `camelid eval --sensitivity`, for sums directly and in steps."""
    rows = []
    asked = task("sums", "trained")
    for way, method in (("direct", "few_shot"), ("steps", "chain_of_thought")):
        pool = replace(asked, exemplars=shown("sums", 5))
        for variant in variants(pool, Method(method, shots=SHOTS, max_new_tokens=80), count=6):
            if variant.dimension == "trigger" or not variant.exemplars:
                continue
            found = ask(out, MAIN, asked, variant.program, f"{way}.{variant.dimension}-{variant.name}")
            rows.append(row(found, way=way, varied=variant.dimension, variant=variant.name))
    return rows


def spoiled(out: Path) -> list[Row]:
    """Exemplars of sums with wrong, shuffled, borrowed or empty steps."""
    usual, dice = shown("sums"), Dice("spoiled")
    kinds: Mapping[str, Sequence[Item]] = {
        "right": usual,
        "shuffled": [shuffled_steps(item, dice) for item in usual],
        "wrong": [wrong_steps(item, dice) for item in usual],
        "borrowed": borrowed_steps(usual),
        "dots": [dots(item) for item in usual],
    }
    rows = []
    for span in SPANS:
        asked = task("sums", span)
        rows.append(row(ask(out, MAIN, asked, directly("sums"), "direct"), span=span, kind="no steps"))
        first = ask(out, MAIN, asked, in_steps("sums"), "steps")
        for kind, exemplars in kinds.items():
            way = "steps" if kind == "right" else f"steps-{kind}"
            found = ask(out, MAIN, asked, in_steps("sums", exemplars), way)
            rows.append({**row(found, span=span, kind=kind), **worked(found), **paired(first, found)})
        after = replace(QUESTION_ANSWER, reasoned="The answer is {answer}. {rationale}")
        late = chain_of_thought(usual, sampling=LONG, wording=after)
        found = ask(out, MAIN, asked, late, "steps-after")
        named = row(found, span=span, kind="after the answer")
        rows.append({**named, **worked(found), **paired(first, found)})
    return rows


def worked(evaluation: Evaluation) -> Row:
    """How many replies have an equation before the answer."""
    before = [record.attempt.text.partition("The answer is")[0] for record in evaluation.records]
    return {"equations": sum(map(bool, map(equations, before)))}


def tuned(out: Path) -> list[Row]:
    """Models tuned on sums with replies of each kind, asked without exemplars, by the number of steps."""
    rows = []
    kinds = [kind for kind in TUNED if (out / f"sums-{kind}" / "model").exists()]
    for span in SPANS:
        asked = task("sums", span)
        found = {kind: ask(out, f"sums-{kind}", asked, alone(), "tuned") for kind in kinds}
        for kind, evaluation in found.items():
            rows += by_length(asked, evaluation, kind=kind)
            rows.append(row(evaluation, kind=kind, span=span))
            if kind != "direct":
                rows.append({"kind": f"{kind} - direct", "span": span, **paired(found["direct"], evaluation)})
    return rows


def chains(out: Path) -> list[Row]:
    """The audit of chains on sums: of the tuned model, and of the prompted one."""
    rows = []
    for name, way, program in ((SOLVER, "tuned", alone()), (MAIN, "steps", in_steps("sums"))):
        for span in SPANS:
            asked = task("sums", span)
            replies = zip(asked.items, ask(out, name, asked, program, way).records, strict=True)
            verdicts = [audit(item, record.attempt.text) for item, record in replies]
            about = {"way": way, "span": span}
            rows += [{**about, "verdict": each, "count": verdicts.count(each)} for each in VERDICTS]
    return rows
