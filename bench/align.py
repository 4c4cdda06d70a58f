"""GRPO and DPO on a 30 M model: ours beside TRL's trainers, with the same answers, lengths and updates.

Every contender is a process of its own. GRPO samples eight answers of 32 tokens to each of four questions,
generation included, with a KL term; DPO trains on 16 pairs. The first update, with compiling and caches, does
not count. The model is new, so that no answer ends early. Memory is the peak resident size of the process.
TRL has no PPO any more (1.16), so ours stands alone.

    python bench/align.py --peer-python PYTHON_WITH_TRL --json
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from contenders import measured, show, with_trl

QUESTIONS, GROUP, TOKENS, PAIRS = 4, 8, 32, 16
KINDS = ("grpo", "dpo", "ppo")
CONTENDERS = [f"{who}-{kind}" for kind in KINDS for who in ("ours", "trl") if (who, kind) != ("trl", "ppo")]
REWARDS = """
def letters(completion):
    return sum(each.islower() for each in completion) / max(1, len(completion))
"""


def prepared(folder: Path) -> None:
    """A model of 29.5 M parameters with a tokenizer, prompts, pairs and a reward function."""
    from camelid.data import world
    from camelid.formats.hugging_face.checkpoint import save_checkpoint
    from camelid.model.spec import ModelSpec
    from camelid.model.transformer import Transformer
    from camelid.text.tokenizer import train_tokenizer

    stories = world.stories("train", 0)
    texts = [next(stories) for _ in range(300)]
    tokenizer = train_tokenizer(texts, 2048)
    spec = ModelSpec.llama(
        vocab_size=tokenizer.vocab_size, hidden_size=512, num_layers=9, num_heads=8, context_length=512
    )
    (folder / "model").mkdir(parents=True)
    save_checkpoint(folder / "model", Transformer(spec).initialize(0))
    tokenizer.save(folder / "model")
    prompts = [" ".join(text.split()[:16]) for text in texts[:64]]
    pairs = [
        {
            "prompt": prompt,
            "chosen": " ".join(text.split()[16:64]),
            "rejected": " ".join(other.split()[16:64]),
        }
        for prompt, text, other in zip(prompts, texts, texts[64:], strict=False)
    ]
    rows = {"prompts": [{"prompt": prompt} for prompt in prompts], "pairs": pairs}
    for name, found in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (folder / "rewards.py").write_text(REWARDS)


def ours(kind: str, folder: Path, updates: int) -> tuple[int, list[float]]:
    """Answers or pairs of an update, and when each had ended."""
    from camelid.align.stage import align
    from camelid.recipes.align import AlignRecipe
    from camelid.recipes.recipe import load_recipe
    from camelid.runs.run import Run

    ended = list[float]()
    log = Run.log

    def timed(run: Run, record: dict[str, Any]) -> None:
        ended.append(time.perf_counter())
        log(run, record)

    Run.log = timed  # type: ignore[method-assign, assignment]
    training = {"steps": updates, "learning_rate": 1e-5, "dtype": "float32", "compile": False}
    settings: dict[str, Any] = {"method": kind, "model": folder / "model", "held_out": 0.0}
    if kind == "dpo":
        training |= {"context_length": 256, "global_batch_tokens": 256 * PAIRS}
        settings |= {"comparisons": [folder / "pairs.jsonl"]}
    else:
        settings |= {"prompts": [folder / "prompts.jsonl"], "max_new_tokens": TOKENS}
        settings |= {"rewarded_by": f"{folder / 'rewards.py'}:letters"}
        sizes = {"questions": QUESTIONS * (1 if kind == "grpo" else GROUP), "kl": 0.04, "allow_cut": True}
        settings[kind] = sizes | ({"group": GROUP} if kind == "grpo" else {"epochs": 1})
    with tempfile.TemporaryDirectory() as out:
        align(load_recipe(AlignRecipe, overrides=settings | {"out": Path(out) / "run", "training": training}))
    return PAIRS if kind == "dpo" else QUESTIONS * GROUP, ended


def trl(kind: str, folder: Path, updates: int) -> tuple[int, list[float]]:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

    ended = list[float]()

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            ended.append(time.perf_counter())

        def on_step_end(self, *_, **__):
            ended.append(time.perf_counter())

    def letters(completions, **_):
        return [sum(each.islower() for each in one) / max(1, len(one)) for one in completions]

    def rows(name: str) -> Dataset:
        lines = (folder / f"{name}.jsonl").read_text().splitlines()
        return Dataset.from_list([json.loads(line) for line in lines])

    count = PAIRS if kind == "dpo" else QUESTIONS * GROUP
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    with tempfile.TemporaryDirectory() as out:
        shared: dict[str, Any] = {
            "output_dir": out,
            "max_steps": updates,
            "per_device_train_batch_size": count,
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
            settings = DPOConfig(**shared, max_length=256)
            trainer = DPOTrainer(args=settings, train_dataset=rows("pairs"), **common)
        else:
            more = {"num_generations": GROUP, "max_completion_length": TOKENS, "beta": 0.04}
            settings = GRPOConfig(**shared, **more)
            data = rows("prompts")
            trainer = GRPOTrainer(args=settings, reward_funcs=letters, train_dataset=data, **common)
        trainer.train()
    return count, ended


def serve(name: str, folder: Path, updates: int) -> None:
    """A contender's process: prints its answers or pairs a second and its memory."""
    import resource

    who, kind = name.split("-")
    contender: Callable[[str, Path, int], tuple[int, list[float]]] = ours if who == "ours" else trl
    count, ended = contender(kind, folder, updates)
    speed = count * (len(ended) - 2) / (ended[-1] - ended[1])
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"speed": speed, "megabytes": megabytes}), flush=True)


def comparisons(found: dict[str, dict[str, float]]) -> Iterator[dict[str, object]]:
    """Speed and memory of each kind beside TRL's."""
    for kind in KINDS:
        mine, peer = found.get(f"ours-{kind}"), found.get(f"trl-{kind}")
        if mine is None or peer is None:
            continue
        unit = "pairs/s" if kind == "dpo" else "answers/s"
        for what, key, of in ((kind, "speed", unit), (f"memory {kind}", "megabytes", "MB")):
            ratio = mine[key] / peer[key] if key == "speed" else peer[key] / mine[key]
            yield {
                "name": f"{what} 29.5 M",
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
    parser.add_argument("--updates", type=int, default=4, help="updates, the first of which does not count")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        serve(arguments.contender, arguments.folder, arguments.updates)
        return
    names = with_trl(arguments.only, arguments.peer_python, ("trl", "datasets"))
    updates = 2 if arguments.quick else arguments.updates
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.folder or Path(temporary) / "bench"
        if not folder.exists():
            prepared(folder)
        words = ["--folder", str(folder), "--updates", str(updates)]
        found = measured(__file__, names, arguments.peer_python, words)
    show(comparisons(found), arguments.json)


if __name__ == "__main__":
    main()
