"""`camelid make self-instruct`: a model writes its own instructions and their instances (Wang et al.,
arXiv:2212.10560), or whole tasks in one step (Alpaca).

1. New instructions, bootstrapped: a prompt lists eight of the pool, six by people and two by the model.
2. Is it classification? A prompt with solved examples.
3. Instances: inputs first, or for classification the labels first, so that they do not all get one label.
4. Heuristics, and ROUGE-L against the whole pool.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from camelid.base.errors import CamelidError
from camelid.lm.interface import Prompt
from camelid.lm.sampling import Sampling
from camelid.makers import instances, instructions
from camelid.makers import self_instruct_prompts as prompts
from camelid.makers.diversity import diversity
from camelid.makers.faults import is_garbage, loops
from camelid.makers.gate import Gate
from camelid.makers.made import Made
from camelid.makers.novelty import NoveltyIndex
from camelid.makers.seeds import Instance, SeedTask
from camelid.makers.teacher import CHUNK, Ask, Reply, Teacher
from camelid.text.conversation import Conversation, Message
from camelid.text.rouge import rouge_l

VERSION = "1"
BY_PEOPLE, BY_MODEL = 6, 2
"""Instructions of a prompt, as in the paper."""
SELF_INSTRUCT = Sampling(
    max_new_tokens=1024,
    temperature=0.7,
    top_p=0.5,
    presence_penalty=2.0,
    stop=("\n\n", "\n16", "16.", "16 ."),
)
ALPACA = Sampling(max_new_tokens=3072, temperature=1.0, stop=("\n20", "20."))
"""Sampling of new instructions by the papers' code."""
CLASSIFICATION = Sampling(max_new_tokens=3, stop=("\n", "Task"))
INPUT_FIRST = Sampling(max_new_tokens=350, presence_penalty=1.5, stop=("Example 6", "Task:"))
OUTPUT_FIRST = replace(INPUT_FIRST, max_new_tokens=300)
YES = frozenset({"Yes", "yes", "YES"})


@dataclass(frozen=True)
class Plan:
    """How much is made and how. wanted: rows' instructions; batch: prompts of a round, which see the same
    pool; sampling: of new instructions; gate: over instructions, ends the bootstrapping; chat: prompts are
    sent as messages; most_rounds: an end where nothing is kept but the gate is open."""

    wanted: int
    batch: int
    sampling: Sampling
    gate: Gate
    chat: bool = False
    novelty: float = 0.7
    most_rounds: int = 100_000

    def ask(self, name: str, text: str) -> Ask:
        """A prompt with its name."""
        prompt: Prompt = Conversation((Message("user", text),)) if self.chat else text
        return Ask(name, prompt)


@dataclass
class Bootstrapping:
    """The pool and what came into it: for each new instruction the reply that it is from."""

    seeds: Sequence[SeedTask]
    index: NoveltyIndex
    made: Made
    origins: dict[str, Reply] = field(default_factory=dict)
    tasks: dict[str, Instance] = field(default_factory=dict)
    """For Alpaca's variant the instance of each instruction."""
    stopped: str = ""

    def offer(self, instruction: str, reply: Reply, reason: str | None, gate: Gate) -> bool:
        """Adds an instruction unless there is a reason against it or it resembles another one."""
        if reason is None and self.index.similar(instruction):
            reason = "similar to another"
        gate.see(reason, instruction)
        if reason is not None:
            self.made.drop(reason)
            return False
        self.index.add(instruction)
        self.origins[instruction] = reply
        return True


def self_instruct(seeds: Sequence[SeedTask], teacher: Teacher, plan: Plan) -> Made:
    """Alpaca rows of new instructions, each with at most five instances."""
    pool = _bootstrapped(seeds, teacher, plan, _list_prompt, _take_list)
    pool.made.facts["classification"] = 0
    whole = [*enumerate(pool.origins)]
    for start in range(0, len(whole), CHUNK):  # their prompts are long
        chunk = whole[start : start + CHUNK]
        asks = [
            plan.ask(f"classification/{number}", prompts.classification_prompt(each, seeds))
            for number, each in chunk
        ]
        replies = teacher.ask(asks, CLASSIFICATION, _nothing, "classification or not")
        kinds = [reply is not None and reply.text.strip() in YES for reply, _ in replies]
        pool.made.facts["classification"] += sum(kinds)
        for kind in (True, False):
            numbered = [each for each, found in zip(chunk, kinds, strict=True) if found is kind]
            _write_instances(numbered, kind, pool, teacher, plan)
    return pool.made


def alpaca(seeds: Sequence[SeedTask], teacher: Teacher, plan: Plan) -> Made:
    """Alpaca rows, of which the teacher writes instruction, input and output at once."""
    pool = _bootstrapped(seeds, teacher, plan, _tasks_prompt, _take_tasks)
    for instruction, instance in pool.tasks.items():
        _keep(pool, instruction, instance)
    return pool.made


PromptOf = Callable[[random.Random, Bootstrapping], str]
Take = Callable[[Reply, Bootstrapping, Gate], Iterator[bool]]


def _bootstrapped(
    seeds: Sequence[SeedTask], teacher: Teacher, plan: Plan, prompt_of: PromptOf, take: Take
) -> Bootstrapping:
    """Rounds of prompts until enough instructions are kept, or too few of the last ones were."""
    pool = Bootstrapping(seeds, NoveltyIndex((task.instruction for task in seeds), plan.novelty), Made())
    for number in range(plan.most_rounds):
        asks = []
        for at in range(plan.batch):
            rng = random.Random(f"{plan.sampling.seed}:{number}:{at}")
            asks.append(plan.ask(f"instructions/{number}.{at}", prompt_of(rng, pool)))
        seeded = replace(plan.sampling, seed=plan.sampling.seed + number)
        try:
            for reply, fault in teacher.ask(asks, seeded, _unreadable, f"round {number + 1}"):
                if reply is None or fault:
                    continue
                for _ in take(reply, pool, plan.gate):
                    if len(pool.origins) == plan.wanted:
                        return pool
        except CamelidError as error:
            if not pool.origins or not plan.gate.closed:
                raise
            pool.stopped = pool.made.facts["stopped_early"] = str(error)
            return pool
    return pool


def _list_prompt(rng: random.Random, pool: Bootstrapping) -> str:
    by_model = rng.sample([*pool.origins], min(BY_MODEL, len(pool.origins)))
    people = [task.instruction for task in pool.seeds]
    chosen = by_model + rng.sample(people, BY_PEOPLE + BY_MODEL - len(by_model))
    rng.shuffle(chosen)
    return prompts.generation_prompt(chosen)


def _take_list(reply: Reply, pool: Bootstrapping, gate: Gate) -> Iterator[bool]:
    found = instructions.numbered_instructions(reply.text, reply.cut)
    for instruction in found:
        yield pool.offer(instruction, reply, instructions.drawback(instruction), gate)


def _tasks_prompt(rng: random.Random, pool: Bootstrapping) -> str:
    return prompts.alpaca_prompt(rng.sample([*pool.seeds], prompts.ALPACA_SEEDS))


def _take_tasks(reply: Reply, pool: Bootstrapping, gate: Gate) -> Iterator[bool]:
    for task in instructions.whole_tasks(reply.text, reply.cut):
        if task is None:
            gate.see("not of the form", reply.text)
            pool.made.drop("not of the form")
            continue
        instruction, given, output = task
        reason = instructions.drawback(instruction, instructions.NOT_TEXT_IN_ALPACA)
        usable, problem = instances.kept([Instance(given, output)])
        if pool.offer(instruction, reply, reason or problem, gate):
            pool.tasks[instruction] = usable[0]
            yield True


def _write_instances(
    numbered: Sequence[tuple[int, str]],
    is_classification: bool,
    pool: Bootstrapping,
    teacher: Teacher,
    plan: Plan,
) -> None:
    prompt_of = prompts.output_first_prompt if is_classification else prompts.input_first_prompt
    read = instances.output_first if is_classification else instances.input_first
    sampling = OUTPUT_FIRST if is_classification else INPUT_FIRST
    asks = [plan.ask(f"instances/{n}", prompt_of(instruction, pool.seeds)) for n, instruction in numbered]
    for (_, instruction), (reply, fault) in zip(
        numbered, teacher.ask(asks, sampling, _unreadable, "instances"), strict=True
    ):
        if reply is None or fault:
            pool.made.drop(f"instances: {fault}")
            continue
        found, reason = instances.kept(read(reply.text, reply.cut))
        if reason:
            pool.made.drop(f"instances: {reason}")
        for instance in found:
            _keep(pool, instruction, instance)


def _keep(pool: Bootstrapping, instruction: str, instance: Instance) -> None:
    reply = pool.origins[instruction]
    row = {"instruction": instruction, "input": instance.input, "output": instance.output}
    pool.made.keep(row, {"prompt": reply.id, "seed": reply.seed, "attempt": reply.attempt})


def describe(made: Made, seeds: Sequence[SeedTask]) -> None:
    """Adds to the facts how diverse the instructions are, and how much they resemble the seed tasks."""
    kept = list(dict.fromkeys(row["instruction"] for row in made.rows))
    made.facts["instructions"] = len(kept)
    made.facts["diversity"] = diversity(kept)
    made.facts["overlap_with_seeds"] = overlaps(kept, [task.instruction for task in seeds])


def overlaps(texts: Sequence[str], others: Sequence[str], bins: int = 10) -> dict[str, int]:
    """How many texts have their highest ROUGE-L with any other one in each tenth, by its lower end."""
    highest = [max(rouge_l(text, other) for other in others) for text in texts]
    counts = Counter(min(bins - 1, int(bins * value)) for value in highest)
    return {f"{at / bins:.1f}": counts[at] for at in range(bins)}


def _nothing(ask: Ask, reply: Reply) -> None:
    return None


def _unreadable(ask: Ask, reply: Reply) -> str | None:
    """Why nothing can be read out of a reply."""
    if not reply.text.strip():
        return "empty"
    if is_garbage(reply.text):
        return "garbage"
    return "repeats itself" if loops(reply.text) else None
