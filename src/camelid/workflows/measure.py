"""Measures one model for a comparison: size, perplexity of a text, accuracy on a task, speed, memory.

Each model is measured in its own process: `python -m camelid.workflows.measure FOLDER YARDSTICK PARENT`
prints the result, and ends with the process PARENT.
"""

import copy
import json
import logging
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError, naming
from camelid.base.memory import peak_memory
from camelid.base.parent import end_with_parent
from camelid.data.read.corpus import Corpus
from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.engine.perplexity import perplexity
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.formats.hugging_face.checkpoint import weight_bytes
from camelid.formats.hugging_face.tensor_files import dtype_name
from camelid.lm.sampling import Sampling
from camelid.recipes.evaluate import Convention
from camelid.tasks.task import Task, load_task

logger = logging.getLogger(__name__)

MOST_TOKENS = 32768
"""Most tokens of the text with overlapping windows; more would add little. Published conventions use all of
it."""
NEW_TOKENS = 128
"""Tokens of the timed sequence, or fewer if the context is shorter."""


@dataclass(frozen=True)
class Yardstick:
    """What models are measured on: texts in the windows of a convention, and optionally a task."""

    texts: tuple[str, ...]
    convention: Convention = "overlapping"
    task: str | None = None
    data: str | None = None
    """The rows of a published task."""
    limit: int | None = None
    """Use only the first questions."""
    chat: bool = False
    """Whether questions are asked in the model's chat template."""

    def load_task(self) -> Task | None:
        """The task, if one is named; raises `CamelidError` if it or its data do not exist."""
        if self.task is None:
            return None
        with naming("--task (its rows: --data)"):
            data = None if self.data is None else Path(self.data)
            return load_task(self.task, limit=self.limit, data=data)


def measured(folder: Path, yardstick: Yardstick) -> dict[str, Any]:
    """The measurements of a model, made in a separate process."""
    given = (str(folder), json.dumps(asdict(yardstick)), str(os.getpid()))
    command = [sys.executable, "-m", "camelid.workflows.measure", *given]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise CamelidError(f"{folder.name} cannot be measured: {lines[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for warning in found.get("task", {}).get("warnings", ()):
        logger.warning(f"{folder.name}: {warning}")
    return found


def measure(folder: Path, yardstick: Yardstick) -> dict[str, Any]:
    """Size, perplexity, speed, memory and task grades of a model, measured in this process."""
    # Peak memory is that of the whole process, so nothing else may run in it.
    engine = Engine.load(folder, device="cpu")
    documents = _documents(engine, yardstick)
    found = perplexity(engine, documents, yardstick.convention)
    new_tokens, seconds = _timed(engine, documents[0][:1000])
    result: dict[str, Any] = {
        "megabytes": weight_bytes(folder) / 1e6,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
        "tokens_per_second": new_tokens / seconds,
        "peak_megabytes": peak_memory() / 1e6,
        "tokens": found.tokens,
        "new_tokens": new_tokens,
        "dtype": dtype_name(engine.dtype),
    }
    if (task := yardstick.load_task()) is not None:
        result["task"] = _asked(task, engine, yardstick.chat)
    return result


def _documents(engine: Engine, yardstick: Yardstick) -> list[str]:
    """The texts to measure: all of them for a published convention, else the first `MOST_TOKENS` tokens."""
    documents, left = [], MOST_TOKENS
    for text, _ in Corpus(yardstick.texts):
        if yardstick.convention == "overlapping":
            ids = engine.tokenizer.encode(text)
            if len(ids) > left:
                text = text[: len(engine.tokenizer.decode(ids[:left]))]
            left -= len(ids)
        documents.append(text)
        if left <= 0:
            break
    return documents


def _timed(engine: Engine, text: str) -> tuple[int, float]:
    """The number of tokens generated after a text's first two, ignoring stop tokens, and the best time of
    three."""
    opening = engine.encode(text)[:2]
    room = min(NEW_TOKENS, engine.context_length - len(opening))
    endless = copy.copy(engine.tokenizer)
    endless.stop_ids = frozenset()
    best = math.inf
    for _ in range(3):
        generation = Generation(opening, Sampling(max_new_tokens=room), 0, room, endless)
        began = time.perf_counter()
        for _ in engine.run([generation]):
            pass
        best = min(best, time.perf_counter() - began)
    return room, best


def _asked(task: Task, engine: Engine, chat: bool) -> dict[str, Any]:
    # A model damaged by quantisation may never finish an answer: that is a result, not an error.
    evaluation = evaluate(task, Method(chat=chat).program_for(task), engine, allow_cut=True)
    result = evaluation.results[0]
    interval = result.interval
    return {
        "asked": f"{result.task} ({result.metric}, {result.title}, {result.n} questions)",
        "accuracy": [result.value, *((interval.low, interval.high) if interval else (result.value,) * 2)],
        "unparsed": result.unparsed,
        "cut": result.cut,
        "values": evaluation.values(result.metric),
        "warnings": evaluation.warnings,
    }


def _main(folder: str, yardstick: str, parent: str) -> int:
    end_with_parent(int(parent))
    try:
        print(json.dumps(measure(Path(folder), Yardstick(**json.loads(yardstick)))))
    except CamelidError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
