"""Ways of asking by name, with the settings that recipes and flags have for them."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.sampling import Sampling
from camelid.prompting.asking import CONTINUATION, QUESTION_ANSWER, Draw
from camelid.prompting.attempt import Program
from camelid.prompting.calculator import Calculator, calculator
from camelid.prompting.ensembles import Scorer, Weighting, best_of_n, self_consistency
from camelid.prompting.least_to_most import PART, least_to_most
from camelid.prompting.programs import (
    ANSWER,
    STEPS,
    TRIGGERS,
    chain_of_thought,
    direct,
    few_shot,
    likelihood,
)
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.tasks.exemplar_file import ExemplarFile, read_exemplar_file
from camelid.tasks.graders import numeric
from camelid.tasks.item import Item
from camelid.tasks.published import Format
from camelid.tasks.task import Task, load_task

logger = logging.getLogger(__name__)

WARM = 0.7
"""Temperature of several samples (Wang et al., arXiv:2203.11171, section 3.1, for GPT-3 and PaLM)."""


class Verifier(NamedTuple):
    """What rates solutions, and what identifies it in records."""

    scorer: Scorer
    name: str


@dataclass(frozen=True)
class Method:
    """How questions are asked: a program's name and its settings; without a name, the task's own way."""

    program: str | None = None
    chat: bool = False
    shots: int = 0
    exemplars: Path | None = None
    max_new_tokens: int | None = None
    answer_context: bool = False
    seed: int | None = None
    samples: int = 1
    """More than one: self-consistency over so many attempts."""
    temperature: float | None = None
    """By default 0, and 0.7 for several samples."""
    weighting: Weighting = "majority"
    calculator: Calculator | None = None
    """How arithmetic in replies is computed, if it is."""
    voters: int = 1
    verifier: Verifier | None = None
    """Chooses among several samples, or which of them vote; without it, all vote."""

    @classmethod
    def of(cls, recipe: EvaluateRecipe) -> "Method":
        """The method that a recipe names, without its verifier."""
        if recipe.verifier and not recipe.ladder and recipe.samples < 2:
            raise WrongCall("--verifier chooses among several attempts: give --samples N")
        if recipe.verifier and recipe.weighting != "majority":
            raise WrongCall("--verifier weighs attempts itself: leave out --weighting")
        if recipe.voters > 1 and not recipe.verifier:
            raise WrongCall("--voters is for the attempts that a verifier rates highest: give --verifier")
        names = [field.name for field in dataclasses.fields(cls) if field.name != "verifier"]
        return cls(**{name: getattr(recipe, name) for name in names})

    def program_for(self, task: Task) -> Program:
        """The program with the task's wording; raises `WrongCall` for settings that contradict each other."""
        name = self.program or _default_program(task, self.shots)
        if self.samples < 1:
            raise WrongCall(f"--samples is {self.samples}; it must be at least 1")
        if self.samples > 1 and (name == "likelihood" or self.temperature == 0):
            raise WrongCall(
                f"--samples {self.samples} needs a program that generates, and a temperature above 0"
            )
        program = self._single(task, name)
        if self.calculator:
            if name == "likelihood":
                raise WrongCall("--calculator needs a program that generates; likelihood only scores")
            if self.calculator == "annotations" and self.chat:
                raise WrongCall("--calculator annotations continues replies as text: leave out --chat")
            program = calculator(program, self.calculator)
        if self.samples == 1:
            return program
        if self.verifier is None:
            return self_consistency(program, self.samples, self.weighting)
        scorer, name = self.verifier.scorer, self.verifier.name
        return best_of_n(program, scorer, self.samples, voters=self.voters, name=name)

    def _single(self, task: Task, name: str) -> Program:
        in_order = task.format is not None and task.format.in_order
        seed = 0 if task.format and self.seed is None and not in_order else self.seed
        draw = Draw(self.shots, seed) if self.shots and (seed is not None or in_order) else None
        if name == "least_to_most":
            return self._least_to_most(task)
        shown = _exemplars(task, self.shots, self.exemplars, draw)
        if (name == "few_shot") != bool(shown) and name in ("direct", "few_shot"):
            raise WrongCall(
                "--program few_shot needs --shots K" if not shown else "--shots needs --program few_shot"
            )
        if self.answer_context and name != "likelihood":
            raise WrongCall("--answer-context needs --program likelihood")
        if task.format:
            return self._published(task, task.format, name, shown, draw)
        wording = CONTINUATION if task.continuation else task.wording or QUESTION_ANSWER
        file = exemplar_file(task, self.exemplars)
        wording = file.wording(wording) if file else wording
        if name == "likelihood":
            return likelihood(
                shown, chat=self.chat, wording=wording, answer_context=self.answer_context, draw=draw
            )
        sampling = self.sampling(STEPS if name == "chain_of_thought" else ANSWER)
        if name == "chain_of_thought":
            if draw:
                raise WrongCall(
                    "--seed draws exemplars for few_shot and likelihood; leave it out with chain_of_thought"
                )
            trigger = TRIGGERS["number"] if task.grader is numeric else None
            return chain_of_thought(
                shown, chat=self.chat, sampling=sampling, wording=wording, trigger=trigger
            )
        if name == "few_shot":
            return few_shot(shown, chat=self.chat, sampling=sampling, wording=wording, draw=draw)
        return direct(chat=self.chat, sampling=sampling, wording=wording)

    def sampling(self, usual: Sampling) -> Sampling:
        """The sampling with this method's temperature and number of tokens."""
        usual_temperature = WARM if self.samples > 1 else usual.temperature
        return dataclasses.replace(
            usual,
            max_new_tokens=self.max_new_tokens or usual.max_new_tokens,
            temperature=usual_temperature if self.temperature is None else self.temperature,
        )

    def _least_to_most(self, task: Task) -> Program:
        if task.decomposition is None:
            raise WrongCall(f"{task.name} has no exemplars that break questions down; use another --program")
        if self.shots or self.exemplars or self.chat:
            raise WrongCall(
                "least_to_most has exemplars of its own: leave out --shots, --exemplars and --chat"
            )
        return least_to_most(task.decomposition, sampling=self.sampling(PART))

    def _published(
        self, task: Task, format: Format, name: str, shown: Sequence[Item], draw: Draw | None
    ) -> Program:
        """The program with the wording of a published evaluation."""
        if self.chat or name == "chain_of_thought":
            raise WrongCall(
                f"{task.name} uses its published prompts, as text and without worked steps: leave out "
                f"{'--chat' if self.chat else '--program chain_of_thought'}, or pass the data file as --task"
            )
        wording = format.worded(draw.count if draw else 0)
        if name == "likelihood":
            if self.answer_context and not format.answer_context:
                raise WrongCall(f"{task.name} has no score by --answer-context; leave it out")
            return likelihood(shown, wording=wording, answer_context=format.answer_context, draw=draw)
        if task.items[0].choices and task.items[0].endings:
            raise WrongCall(
                f"{task.name} compares the probability of sentences; use --program likelihood, "
                "or leave it out"
            )
        sampling = self.sampling(format.sampling)
        if draw:
            return few_shot(shown, sampling=sampling, wording=wording, draw=draw)
        return direct(sampling=sampling, wording=wording)


def _default_program(task: Task, shots: int) -> str:
    if task.format and task.format.scored:
        return "likelihood"
    return "few_shot" if task.format and shots else "direct"


def exemplar_pool(task: Task, path: Path | None) -> Sequence[Item]:
    """The solved questions of a file, or the task's own."""
    if path is None:
        return task.exemplars
    file = exemplar_file(task, path)
    if file is not None:
        return file.items
    read = task.format.items if task.format else task.read_items
    return load_task(path).items if read is None else read(path)


def exemplar_file(task: Task, path: Path | None) -> ExemplarFile | None:
    """A file of exemplars with their own wording; None for rows, and for a task worded as published."""
    return read_exemplar_file(path) if path is not None and not task.format else None


def _exemplars(task: Task, shots: int, path: Path | None, draw: Draw | None) -> Sequence[Item]:
    if shots < 0:
        raise WrongCall(f"--shots is {shots}; it must be at least 0")
    if path is not None and not shots:
        raise WrongCall("--exemplars needs --shots K, the number of them to show")
    source = exemplar_pool(task, path)
    asked = task.questions | {item.asked for item in task.items}
    shown = source if draw else source[:shots]
    leaked = [item for item in shown if item.asked in asked]
    as_published = task.format is not None and task.format.in_order
    if leaked and as_published:
        logger.warning(f"{len(leaked)} of {len(shown)} exemplars are themselves questions, as published")
    elif leaked and (not draw or len(shown) - len(leaked) < shots):
        raise CamelidError(
            f"{task.name}: the exemplar {leaked[0].id!r} is itself one of the questions; use other exemplars"
        )
    if len(source) < shots:
        raise WrongCall(
            f"--shots is {shots}, but there are {len(source)} exemplars for {task.name}; "
            "pass a file of solved questions with --exemplars FILE"
        )
    if leaked and not as_published:
        logger.warning(f"{len(leaked)} of {len(shown)} exemplars are themselves questions and are not shown")
        shown = [item for item in shown if item.asked not in asked]
    return shown if shots else ()
