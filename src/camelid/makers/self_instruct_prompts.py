"""The prompts of self-instruct, whose examples are seed tasks: text for a model to continue.

Their form is that of Self-Instruct (arXiv:2212.10560, tables 5 to 8) and of Alpaca's one prompt; their words
are our own.
"""

import random
from collections.abc import Sequence

from camelid.makers.seeds import Instance, SeedTask

YES, NO = 12, 19
"""Examples of the question whether a task is classification, as many as in the paper's prompt."""
INPUT_FIRST, OUTPUT_FIRST = 8, 8
"""Seed tasks before a task whose instances are wanted."""
SHOWN_INSTANCES = 2
ALPACA_SEEDS, ALPACA_TASKS = 3, 20

GENERATE = "Come up with a series of tasks:\n"
IS_CLASSIFICATION = (
    "Can the following task be regarded as a classification task with finite output labels?\n\n"
)
WRITE_INPUTS = (
    "Come up with examples for the following tasks. Try to generate multiple examples when possible. If the "
    "task does not require additional input, you can generate the output directly.\n\n"
)
WRITE_LABELS = (
    "Given the classification task definition and the class labels, generate an input that corresponds to "
    "each of the class labels. If the task does not require input, just generate possible class labels.\n\n"
)
ALPACA = f"""Write {ALPACA_TASKS} diverse tasks for a language model that follows instructions. Each task has
an instruction, an input and an output.

Requirements:
1. Begin the instructions with different verbs.
2. Vary their form: questions as well as commands.
3. Cover many kinds: open questions, rewriting, classification, summaries, ideas, calculation, advice.
4. A model that reads and writes only text must be able to do each task: no pictures, sounds or actions.
5. Write in English.
6. An instruction has one or two sentences.
7. The input, where a task needs one, is a realistic example with actual content, of at most 100 words.
8. Where no input is needed, as in "What is the highest mountain?", write "<noinput>" as the input.
9. The output answers the instruction for that input, in fewer than 100 words.

List of {ALPACA_TASKS} tasks:
"""


def generation_prompt(instructions: Sequence[str]) -> str:
    """A numbered list of instructions, open for the next one."""
    lines = [f"{number}. {_line(each)}" for number, each in enumerate(instructions, start=1)]
    return GENERATE + "\n".join([*lines, f"{len(lines) + 1}."])


def classification_prompt(instruction: str, seeds: Sequence[SeedTask]) -> str:
    """Solved examples of both kinds, mixed, then the instruction."""
    chosen = [task for task in seeds if task.is_classification][:YES]
    chosen += [task for task in seeds if not task.is_classification][:NO]
    random.Random(0).shuffle(chosen)
    examples = [
        f"Task: {_line(task.instruction)}\n"
        f"Is it classification? {'Yes' if task.is_classification else 'No'}\n\n"
        for task in chosen
    ]
    return IS_CLASSIFICATION + "".join(examples) + f"Task: {instruction}\nIs it classification?"


def input_first_prompt(instruction: str, seeds: Sequence[SeedTask]) -> str:
    """Seed tasks with and without inputs, then the instruction."""
    others = [task for task in seeds if not task.is_classification]
    with_input = [task for task in others if task.instances[0].input]
    without = [task for task in others if not task.instances[0].input]
    half = INPUT_FIRST // 2
    chosen = [each for pair in zip(with_input[:half], without[:half], strict=False) for each in pair]
    return WRITE_INPUTS + "".join(map(_input_first, chosen)) + f"Task: {instruction}\n"


def output_first_prompt(instruction: str, seeds: Sequence[SeedTask]) -> str:
    """Classification tasks with an input for each label, then the instruction."""
    chosen = [task for task in seeds if task.is_classification][:OUTPUT_FIRST]
    return WRITE_LABELS + "".join(map(_output_first, chosen)) + f"Task: {instruction}\n"


def alpaca_prompt(seeds: Sequence[SeedTask]) -> str:
    """The requirements and some whole seed tasks, open for the next instruction."""
    tasks = [
        f"###\n{number}. Instruction: {_line(task.instruction)}\n{number}. Input:\n"
        f"{task.instances[0].input or '<noinput>'}\n{number}. Output:\n{task.instances[0].output}\n"
        for number, task in enumerate(seeds, start=1)
    ]
    return ALPACA + "".join(tasks) + f"###\n{len(seeds) + 1}. Instruction:"


def _line(instruction: str) -> str:
    return " ".join(instruction.split()).rstrip(":")


def _input_first(task: SeedTask) -> str:
    head = f"Task: {_line(task.instruction)}\n"
    if not task.instances[0].input:
        return f"{head}Output: {task.instances[0].output}\n\n"
    shown = enumerate(task.instances[:SHOWN_INSTANCES], start=1)
    return head + "".join(f"Example {number}\n{_io(each)}" for number, each in shown) + "\n"


def _io(instance: Instance) -> str:
    return f"{instance.input}\nOutput: {instance.output}\n"


def _output_first(task: SeedTask) -> str:
    shown = "".join(f"Class label: {each.output}\n{each.input}\n" for each in task.instances)
    return f"Task: {_line(task.instruction)}\n{shown}\n"
