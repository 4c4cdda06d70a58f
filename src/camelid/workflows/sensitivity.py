"""`camelid eval --sensitivity`: how much accuracy depends on what should not matter, and two remedies."""

import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

from camelid.base.errors import WrongCall
from camelid.base.json import read_table, write_json
from camelid.engine.fan_out import open_on
from camelid.engine.open_lm import model_identity
from camelid.evals.evaluate import Evaluation, evaluate, log_warnings
from camelid.evals.methods import Method
from camelid.evals.results import print_table, write_results
from camelid.evals.stage import load_tasks
from camelid.evals.variants import Triggers, Variant, variants
from camelid.lm.interface import LM
from camelid.prompting.asking import QUESTION_ANSWER
from camelid.prompting.ordering import order_entropies, probing_questions
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.report.answers import ANSWERS
from camelid.report.page import write_report
from camelid.report.values import BarPlot, Estimate, Report, Section, Table
from camelid.tasks.intervals import cochran, wilson
from camelid.tasks.task import Task

logger = logging.getLogger(__name__)

CALIBRATED = "accuracy_calibrated"
BEST_ORDERS = 4
"""Orders that an entropy chooses: of 24 in Lu et al. (arXiv:2104.08786, section 4)."""


@dataclass(frozen=True)
class Tried:
    """A variant with its evaluation."""

    variant: Variant
    evaluation: Evaluation

    def right(self, metric: str | None = None) -> list[bool]:
        """Whether each question was answered correctly, by default under the reading that is compared."""
        return self.evaluation.grades(metric or self.evaluation.main_metric)

    def accuracy(self, metric: str | None = None) -> float:
        """The share of questions answered correctly."""
        return fmean(self.right(metric))

    def favourite(self) -> tuple[str | None, float | None]:
        """The answer that was extracted most often, cut to 40 characters, and its share of the questions."""
        metric, records = self.evaluation.main_metric, self.evaluation.records
        counts = Counter(record.grades[metric].extracted for record in records)
        counts.pop(None, None)
        if not counts:
            return None, None
        [(answer, count)] = counts.most_common(1)
        return str(answer)[:40], count / len(records)


@dataclass(frozen=True)
class Entropies:
    """GlobalE and LocalE of each order, in nats."""

    of_all: tuple[float, ...]
    of_each: tuple[float, ...]


def measure_sensitivity(recipe: EvaluateRecipe) -> None:
    """Asks each task in every variant and writes its page, table and results; resumes a stopped call."""
    if not recipe.task or recipe.text or recipe.ladder or recipe.samples > 1:
        raise WrongCall(
            "--sensitivity needs --task, and asks each question once in every variant: leave out --text, "
            "--ladder and --samples"
        )
    triggers = Triggers.read(recipe.triggers) if recipe.triggers else None
    tasks = load_tasks(recipe.task, recipe.data, recipe.limit)
    # Made before the model is loaded: exemplars without steps, for example, are refused at once.
    made = [
        list(
            variants(
                task,
                Method.of(recipe),
                count=recipe.variants,
                writers=recipe.writers,
                triggers=triggers,
                seed=recipe.seed or 0,
            )
        )
        for task in tasks
    ]
    lm = open_on(recipe.model, recipe.engine, recipe.server, recipe.on)
    identity = lm.identity or model_identity(recipe.model, recipe.engine)
    for task, its_variants in zip(tasks, made, strict=True):
        known: dict[str, Evaluation] = {}
        tried = []
        for variant in its_variants:
            program = variant.program
            # The usual way belongs to several dimensions; it is asked once.
            key = json.dumps([program.settings, program.name.partition(".")[0]], sort_keys=True)
            if key not in known:
                logger.info(f"{task.name}: {variant.dimension} {variant.name}")
                known[key] = evaluate(
                    task, program, lm, recipe.out, model=identity, allow_cut=True, show=sys.stderr.isatty()
                )
            tried.append(Tried(variant, known[key]))
        entropies = _entropies(recipe.out / f"{task.file_name}.orders.json", task, lm, tried, identity)
        _write(recipe, task, tried, entropies, [*known.values()])


def sensitivity_report(
    recipe: EvaluateRecipe, task: Task, tried: Sequence[Tried], entropies: Entropies | None
) -> Report:
    """The page of a task: the spread of each dimension, the remedies, and every variant."""
    rows = [_spread(name, _of(tried, name)) for name in _dimensions(tried)]
    widest = max(_dimensions(tried), key=lambda name: _range(_of(tried, name)))
    sections = [
        Section(
            "What should not matter",
            figures=tuple(_plot(name, _of(tried, name)) for name in _dimensions(tried)),
            tables=(
                Table(
                    "Spread",
                    ("varied", "variants", "mean", "spread", "deviation", "best", "worst", "p"),
                    tuple(rows),
                    caption="Spread: the best accuracy minus the worst. p: "
                    "the probability of such differences "
                    "if all variants were equally good (Cochran's Q). The best was chosen on these "
                    "questions, so its accuracy is too high an estimate.",
                ),
            ),
        )
    ]
    if remedies := _remedies(_of(tried, "order"), entropies):
        sections.append(Section("Remedies", tables=(remedies,)))
    every = tuple(
        (each.variant.dimension, each.variant.name, each.evaluation.shots, _estimate(each), *each.favourite())
        for each in tried
    )
    table = Table(
        "",
        ("varied", "variant", "exemplars", "accuracy", "answer given most", "its share"),
        every,
        "Accuracy with its 95 % interval. An answer that is given far more often than it is right shows a "
        "bias "
        "of the prompt.",
    )
    sections.append(Section("Every variant", tables=(table,), folded=True))
    return Report(
        title=f"{task.name}: how fragile prompts are",
        summary=_summary(widest, _of(tried, widest)),
        facts={"model": recipe.model, "questions": str(len(task.items)), "task version": task.version},
        sections=tuple(sections),
        footer=f"camelid eval {recipe.model} --task {task.name} --sensitivity. Every answer is in {ANSWERS}.",
    )


def _write(
    recipe: EvaluateRecipe,
    task: Task,
    tried: Sequence[Tried],
    entropies: Entropies | None,
    evaluations: Sequence[Evaluation],
) -> None:
    results = [result for each in evaluations for result in each.results]
    write_results(recipe.out / "results.json", results)
    main = [each for one in evaluations for each in one.results if each.metric == one.main_metric]
    print_table(main)
    log_warnings(evaluations)
    report = sensitivity_report(recipe, task, tried, entropies)
    page = write_report(report, recipe.out / f"{task.file_name}.sensitivity.html")
    spreads = {
        name: {each.variant.name: each.accuracy() for each in _of(tried, name)} for name in _dimensions(tried)
    }
    write_json(recipe.out / f"{task.file_name}.sensitivity.json", {"task": task.name, "accuracy": spreads})
    logger.info(f"the page: {page}")


def _entropies(path: Path, task: Task, lm: LM, tried: Sequence[Tried], model: str) -> Entropies | None:
    """The entropies of the orders, from the file of an earlier call if nothing changed; None where the labels
    differ between questions or the wording does not mark a question."""
    orders = _of(tried, "order")
    labels = {item.choices for item in task.items}
    if len(labels) != 1 or not all(each.evaluation.records[0].attempt.scores for each in orders):
        return None
    [choices] = labels
    if not choices or not isinstance(orders[0].evaluation.records[0].attempt.prompts[0], str):
        return None
    inputs = json.dumps([model, [each.evaluation.digest for each in orders]])
    digest = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    found = read_table(path, optional=True)
    if found.get("orders") != digest:
        questions = probing_questions(
            lm, [each.variant.exemplars for each in orders], task.wording or QUESTION_ANSWER
        )
        if not questions:
            logger.warning(f"{task.name}: the model wrote no probing questions, so no order is chosen")
            return None
        pairs = [order_entropies(lm, each.variant.program, questions, choices) for each in orders]
        found = {"orders": digest, "questions": questions, "entropies": pairs}
        write_json(path, found)
    of_all, of_each = zip(*found["entropies"], strict=True)
    return Entropies(tuple(of_all), tuple(of_each))


def _remedies(orders: Sequence[Tried], entropies: Entropies | None) -> Table | None:
    """Accuracy over the orders: as it is, calibrated, and of the orders that an entropy chooses."""
    if not orders or CALIBRATED not in orders[0].evaluation.records[0].grades:
        return None
    usual = [each.accuracy() for each in orders]
    rows = {"all orders": usual, "contextual calibration": [each.accuracy(CALIBRATED) for each in orders]}
    if entropies:
        kept = min(BEST_ORDERS, len(orders))
        for name, values in (("GlobalE", entropies.of_all), ("LocalE", entropies.of_each)):
            best = sorted(range(len(orders)), key=lambda at: -values[at])[:kept]
            rows[f"the {kept} orders chosen by {name}"] = [usual[at] for at in best]
    cells = tuple(
        (name, len(values), fmean(values), max(values) - min(values), pstdev(values), min(values))
        for name, values in rows.items()
    )
    return Table(
        "Over the orders of the exemplars",
        ("remedy", "orders", "mean accuracy", "spread", "deviation", "worst"),
        cells,
        caption="Contextual calibration: Zhao et al., arXiv:2102.09690. "
        "GlobalE and LocalE choose orders without "
        "labels: Lu et al., arXiv:2104.08786.",
    )


def _summary(widest: str, tried: Sequence[Tried]) -> str:
    if _range(tried) == 0:
        return "No variant changes the accuracy; the answers given most are listed below."
    return (
        f"Accuracy changes most with the {widest} of the prompt: by {100 * _range(tried):.1f} points over "
        f"{len(tried)} variants."
    )


def _spread(name: str, tried: Sequence[Tried]) -> tuple[str | int | float | Estimate, ...]:
    best, worst = max(tried, key=Tried.accuracy), min(tried, key=Tried.accuracy)
    values = [each.accuracy() for each in tried]
    named = [f"{each.variant.name}: {each.accuracy():.3f}" for each in (best, worst)]
    tested = cochran([each.right() for each in tried])
    return (name, len(tried), fmean(values), _range(tried), pstdev(values), *named, tested)


def _plot(name: str, tried: Sequence[Tried]) -> BarPlot:
    bars = {"": tuple(map(_estimate, tried))}
    return BarPlot(f"By {name}", "accuracy", tuple(each.variant.name for each in tried), bars)


def _estimate(tried: Tried) -> Estimate:
    right = tried.right()
    interval = wilson(sum(right), len(right))
    return Estimate(tried.accuracy(), interval.low, interval.high)


def _range(tried: Sequence[Tried]) -> float:
    values = [each.accuracy() for each in tried]
    return max(values) - min(values)


def _dimensions(tried: Sequence[Tried]) -> list[str]:
    return list(dict.fromkeys(each.variant.dimension for each in tried))


def _of(tried: Sequence[Tried], dimension: str) -> list[Tried]:
    return [each for each in tried if each.variant.dimension == dimension]
