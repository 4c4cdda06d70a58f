"""GRPO and DPO on a 30 M model: ours beside TRL's trainers, with the same answers, lengths and updates.

Every contender is a process of its own, in float32. GRPO samples eight answers of 32 tokens to each of four
questions, generation included, with a KL term; DPO trains on about 16 pairs an update, whose answers differ
in length a little less than AlpacaEval's, and the reference's log-probabilities, which both compute once,
count. The first update, with compiling and caches, does not. The model is new, so that no answer ends early,
or that of --model, whose answers may.
Memory is the peak resident size of the process. TRL has no PPO any more (1.16), so ours stands alone. TRL
computes --peer-batch answers or pairs at a time.

    python bench/align.py --peer-python PYTHON_WITH_TRL --json

The row `rollouts` is of ours alone: tokens/s of sampling in training beside those of the engine by itself. On
standard error, `handing` is the share of a step that the new weights take on their way to the engine.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from contenders import Figures, measured, show, with_trl

QUESTIONS, GROUP, TOKENS, PAIRS, CONTEXT = 4, 8, 32, 16, 512
SPREAD, LONGEST = 1.0, 150
"""Of answers in pairs: standard deviation of the logarithm of their words (1.5 in AlpacaEval), most words."""
clock = time.process_time if "--processor-time" in sys.argv else time.perf_counter
KINDS = ("grpo", "dpo", "ppo")
CONTENDERS = [f"{who}-{kind}" for kind in KINDS for who in ("ours", "trl") if (who, kind) != ("trl", "ppo")]
REWARDS = """
def letters(completion):
    return sum(each.islower() for each in completion) / max(1, len(completion))
"""


def prepared(folder: Path, model: Path | None) -> None:
    """The model, or a new one of 29.5 M parameters with a tokenizer; prompts, pairs and a reward function."""
    from camelid.data import world
    from camelid.formats.hugging_face.checkpoint import save_checkpoint
    from camelid.model.spec import ModelSpec
    from camelid.model.transformer import Transformer
    from camelid.text.tokenizer import train_tokenizer

    stories = world.stories("train", 0)
    texts = [next(stories) for _ in range(300)]
    folder.mkdir(parents=True)
    if model is not None:
        (folder / "model").symlink_to(model.resolve())
    else:
        tokenizer = train_tokenizer(texts, 2048)
        spec = ModelSpec.llama(
            vocab_size=tokenizer.vocab_size, hidden_size=512, num_layers=9, num_heads=8, context_length=512
        )
        (folder / "model").mkdir()
        save_checkpoint(folder / "model", Transformer(spec).initialize(0))
        tokenizer.save(folder / "model")
    prompts = [" ".join(text.split()[:16]) for text in texts[:64]]
    dice, words = random.Random(0), " ".join(texts[64:]).split()

    def answer() -> str:
        length = min(LONGEST, round(dice.lognormvariate(math.log(48), SPREAD)))
        start = dice.randrange(len(words) - length)
        return " ".join(words[start : start + max(1, length)])

    pairs = [{"prompt": prompt, "chosen": answer(), "rejected": answer()} for prompt in prompts]
    rows = {"prompts": [{"prompt": prompt} for prompt in prompts], "pairs": pairs}
    for name, found in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "rewards.py").write_text(REWARDS)


def clocked(owner: Any, name: str) -> list[float]:
    """The seconds of each call of a function or method from now on."""
    seconds, function = list[float](), getattr(owner, name)

    @wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        began = clock()
        result = function(*given, **named)
        seconds.append(clock() - began)
        return result

    setattr(owner, name, timed)
    return seconds


def ours(kind: str, folder: Path, updates: int, batch: int) -> Figures:
    """Answers or pairs a second, and what a step of GRPO is made of."""
    from camelid.align import dpo_stage
    from camelid.align.preference_rows import PackedPairs
    from camelid.align.rollouts import Rollouts
    from camelid.align.stage import align
    from camelid.engine.engine import Engine
    from camelid.recipes.align import AlignRecipe
    from camelid.recipes.recipe import load_recipe
    from camelid.runs.run import Run

    ended = list[float]()
    log = Run.log

    def timed(run: Run, record: dict[str, Any]) -> None:
        ended.append(clock())
        log(run, record)

    Run.log = timed  # type: ignore[method-assign, assignment]
    handing, sampling = clocked(Engine, "set_weights"), clocked(Rollouts, "_answers")
    reference, packed = clocked(dpo_stage, "with_reference"), list[PackedPairs]()

    def packing(*given: Any) -> PackedPairs:
        packed.append(PackedPairs(*given))
        return packed[-1]

    dpo_stage.PackedPairs = packing  # type: ignore[misc, assignment]
    training = {"steps": updates, "learning_rate": 1e-5, "dtype": "float32", "compile": False}
    settings: dict[str, Any] = {"method": kind, "model": folder / "model", "held_out": 0.0}
    if kind == "dpo":
        training |= {"context_length": CONTEXT, "global_batch_tokens": CONTEXT * PAIRS // 2}
        settings |= {"comparisons": [folder / "pairs.jsonl"]}
    else:
        settings |= {"prompts": [folder / "prompts.jsonl"], "max_new_tokens": TOKENS}
        settings |= {"rewarded_by": f"{folder / 'rewards.py'}:letters"}
        sizes = {"questions": QUESTIONS * (1 if kind == "grpo" else GROUP), "kl": 0.04, "allow_cut": True}
        settings[kind] = sizes | ({"group": GROUP} if kind == "grpo" else {"epochs": 1})
    with tempfile.TemporaryDirectory() as out:
        align(load_recipe(AlignRecipe, overrides=settings | {"out": Path(out) / "run", "training": training}))
    step = (ended[-1] - ended[1]) / (len(ended) - 2)
    if kind == "dpo":
        pairs = len(packed[-1]._pairs)
        count = PAIRS // 2 * pairs / packed[-1].per_epoch
        return {"speed": 1 / (step / count + sum(reference) / pairs), "pairs": count}
    figures = {"speed": QUESTIONS * GROUP / step, "handing": handing[-1] / step}
    tokens = QUESTIONS * GROUP * TOKENS
    return figures | {"rollout": tokens / min(sampling[1:]), "engine": tokens / by_itself(folder)}


def by_itself(folder: Path) -> float:
    """Seconds in which the engine samples a rollout's answers when it does nothing else."""
    import torch

    from camelid import LM, Conversation, Message

    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    prompts = [Conversation((Message("user", row["prompt"]),)) for row in rows]
    how = {"max_new_tokens": TOKENS, "temperature": 1.0, "samples": GROUP}
    seconds = []
    with LM(folder / "model", dtype=torch.float32) as lm:
        for first in range(0, 4 * QUESTIONS, QUESTIONS):
            began = clock()
            lm.generate(prompts[first : first + QUESTIONS], **how)
            seconds.append(clock() - began)
    return min(seconds[1:])


def trl(kind: str, folder: Path, updates: int, batch: int) -> Figures:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

    ended = list[float]()

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            ended.append(clock())

        def on_step_end(self, *_, **__):
            ended.append(clock())

    def letters(completions, **_):
        texts = [one[0]["content"] for one in completions]
        return [sum(each.islower() for each in one) / max(1, len(one)) for one in texts]

    def rows(name: str) -> Dataset:
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
        return Dataset.from_list(
            [
                {key: [{"role": roles[key], "content": text}] for key, text in json.loads(line).items()}
                for line in lines
            ]
        )

    count = PAIRS if kind == "dpo" else QUESTIONS * GROUP
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    with tempfile.TemporaryDirectory() as out:
        shared: dict[str, Any] = {
            "output_dir": out,
            "max_steps": updates,
            "per_device_train_batch_size": batch or count,
            "gradient_accumulation_steps": count // (batch or count),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "learning_rate": 1e-5,
            "report_to": "none",
            "save_strategy": "no",
            "optim": "adamw_torch_fused",
        }
        common: dict[str, Any] = {
            "model": AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
            "processing_class": tokenizer,
            "callbacks": [Clock()],
        }
        trainer: Any
        if kind == "dpo":
            reference = clocked(DPOTrainer, "_precompute_ref_logps")
            settings = DPOConfig(**shared, max_length=CONTEXT, precompute_ref_log_probs=True)
            trainer = DPOTrainer(args=settings, train_dataset=rows("pairs"), **common)
        else:
            more = {"num_generations": GROUP, "max_completion_length": TOKENS, "beta": 0.04}
            settings = GRPOConfig(**shared, **more)
            data = rows("prompts")
            trainer = GRPOTrainer(args=settings, reward_funcs=letters, train_dataset=data, **common)
        trainer.train()
    step = (ended[-1] - ended[1]) / (len(ended) - 2)
    return {"speed": 1 / (step / count + (reference[0] / 64 if kind == "dpo" else 0.0))}


def serve(name: str, folder: Path, updates: int, batch: int) -> None:
    """A contender's process: prints its answers or pairs a second and its memory."""
    import resource

    who, kind = name.split("-")
    contender: Callable[[str, Path, int, int], Figures] = ours if who == "ours" else trl
    figures = contender(kind, folder, updates, batch)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures | {"megabytes": megabytes}), flush=True)


def comparisons(found: dict[str, dict[str, float]], model: str) -> Iterator[dict[str, object]]:
    """Speed and memory of each kind beside TRL's, and of rollouts beside the engine by itself."""
    for name in ("grpo", "ppo"):
        if rollouts := found.get(f"ours-{name}"):
            yield {
                "name": f"rollouts {name} {model}",
                "ours": round(rollouts["rollout"]),
                "peer": round(rollouts["engine"]),
                "peer_name": "the engine by itself",
                "unit": "tokens/s",
                "ratio": round(rollouts["rollout"] / rollouts["engine"], 2),
            }
    for kind in KINDS:
        mine, peer = found.get(f"ours-{kind}"), found.get(f"trl-{kind}")
        if mine is None or peer is None:
            continue
        unit = "pairs/s" if kind == "dpo" else "answers/s"
        for what, key, of in ((kind, "speed", unit), (f"memory {kind}", "megabytes", "MB")):
            ratio = mine[key] / peer[key] if key == "speed" else peer[key] / mine[key]
            yield {
                "name": f"{what} {model}",
                "ours": round(mine[key], 2),
                "peer": round(peer[key], 2),
                "peer_name": "TRL",
                "unit": of,
                "ratio": round(ratio, 2),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line, nothing else")
    parser.add_argument("--quick", action="store_true", help="two updates instead of four")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has trl")
    parser.add_argument("--only", choices=CONTENDERS, nargs="+", default=CONTENDERS)
    parser.add_argument("--folder", type=Path, help="folder of model and data, made where it is missing")
    parser.add_argument("--model", type=Path, help="folder of the model, by default a new one of 29.5 M")
    parser.add_argument("--updates", type=int, default=4, help="updates, the first of which does not count")
    parser.add_argument("--peer-batch", type=int, default=0, help="answers or pairs at a time; 0: all")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="per second of processor time, where others use the machine",
    )
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        serve(arguments.contender, arguments.folder, arguments.updates, arguments.peer_batch)
        return
    names = with_trl(arguments.only, arguments.peer_python, ("trl", "datasets"))
    updates = 2 if arguments.quick else arguments.updates
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.folder or Path(temporary) / "bench"
        if not folder.exists():
            prepared(folder, arguments.model)
        words = ["--folder", str(folder), "--updates", str(updates)]
        words += ["--peer-batch", str(arguments.peer_batch)]
        words += ["--processor-time"] if arguments.processor_time else []
        found = measured(__file__, names, arguments.peer_python, words)
    model = arguments.model.name if arguments.model else "29.5 M"
    show(comparisons(found, model), arguments.json)


if __name__ == "__main__":
    main()
