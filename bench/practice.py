"""What `camelid quickstart --reinforce` gained, beside as long a tuning: docs/preferences_measured.md.

    camelid quickstart --minutes 36 --reinforce --out runs/practised
    python bench/practice.py runs/practised

The tuned model of that folder is tuned further on worked answers to the questions that GRPO practised, for as
many minutes as GRPO took. All three models are then asked 500 test questions and 500 longer ones of each
skill, once, in steps, greedily; differences from the tuned model are paired, with McNemar's p.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from reasoning_claims import right
from reinforce import counted

from camelid import LM, evaluate
from camelid.align.questions import asked_by
from camelid.base.json import read_table, write_json
from camelid.evals.evaluate import Evaluation
from camelid.lm.sampling import Sampling
from camelid.prompting.attempt import Program
from camelid.prompting.programs import chain_of_thought
from camelid.recipes.data import MixedData
from camelid.recipes.training import Training
from camelid.recipes.tune import TuneRecipe
from camelid.report.training import training_seconds
from camelid.runs.run import METRICS, read_metrics
from camelid.tasks.task import load_task
from camelid.text.conversation import Conversation, Message
from camelid.train.clock import TimeLimit
from camelid.train.stages import tune
from camelid.workflows.quickstart.recipes import HARD_SKILLS, PRACTICE

ASKED = 500
"""Questions of each kind of each skill."""
RATE, ROWS, CONTEXT = 1e-3, 32, 512
MOST_UPDATES = 2000


def program() -> Program:
    """How reinforcement and the report ask: in the chat template, in steps."""
    return chain_of_thought(chat=True, sampling=Sampling(max_new_tokens=160))


def write_worked(path: Path) -> Path:
    """The practised questions as conversations, with their worked answers."""
    with path.open("w") as file:
        for skill in HARD_SKILLS:
            for each in asked_by(program(), load_task(f"world/{skill}/train", limit=PRACTICE)):
                assert isinstance(each.prompt, Conversation)
                assert each.item is not None
                answer = f"{each.item.rationale} The answer is {each.item.answer}."
                talk = Conversation((*each.prompt.messages, Message("assistant", answer)))
                file.write(json.dumps({"messages": talk.as_dicts()}) + "\n")
    return path


def tuned_as_long(folder: Path, seconds: float) -> Path:
    """The tuned model after further tuning that takes `seconds`."""
    out, began = folder / "worked", time.monotonic()
    if not (out / "model").exists():
        training = Training(
            steps=MOST_UPDATES,
            global_batch_tokens=ROWS * CONTEXT,
            context_length=CONTEXT,
            learning_rate=RATE,
            schedule="wsd",
            decay_fraction=0.4,
            weight_decay=0.0,
            dtype="float32",
            compile=False,
        )
        rows = write_worked(folder / "worked.jsonl")
        data = MixedData(train=(rows,), validation_fraction=0.02, licence="cc0-1.0")
        recipe = TuneRecipe(out=out, model=str(folder / "tune" / "model"), data=data, training=training)
        tune(recipe, TimeLimit(seconds, lambda: time.monotonic() - began))
    return out / "model"


def asked(model: Path, answers: Path) -> dict[str, Evaluation]:
    """The test questions and the longer ones of each skill, answered."""
    lm = LM(model)
    return {
        f"{skill}, {split}": evaluate(
            load_task(f"world/{skill}/{split}", limit=ASKED), program(), lm, answers, allow_cut=True
        )
        for skill in HARD_SKILLS
        for split in ("test", "longer")
    }


def main() -> None:
    """Tunes, asks, and writes practice.json into the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="of camelid quickstart --reinforce")
    folder: Path = parser.parse_args().folder
    seconds = read_table(folder / "quickstart.json")["seconds"]["reinforce"]
    models = {"reinforced": folder / "reinforce" / "model", "tuned": tuned_as_long(folder, seconds)}
    records = read_metrics(folder / "worked" / METRICS)
    before = asked(folder / "tune" / "model", folder / "practice-before")
    found: dict[str, Any] = {
        "minutes": {"reinforced": seconds / 60, "tuned": training_seconds(records) / 60},
        "before": {name: sum(right(each)) for name, each in before.items()},
    }
    for name, model in models.items():
        found[name] = counted(asked(model, folder / f"practice-{name}"), before)
    write_json(folder / "practice.json", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
