"""Tuning SmolLM2-135M on real Alpaca rows, all of it and by LoRA: ours beside TRL's SFTTrainer (with PEFT).

LitGPT's LoRA is a further peer where --litgpt-python names an interpreter that has it.

Every contender is a process of its own, one after the other: a few updates over the same rows, of which the
first, with compiling and caches, does not count. Ours is the stage of `camelid tune`; TRL runs with its rows
packed and padded, and the faster of both is the peer. A token counts if it is not padding. Memory is the peak
resident size of the process, with the files that it maps. With --processor, seconds are those of the
processor and there is one thread, for a machine that others use too.

    python bench/tune.py --peer-python PYTHON_WITH_TRL --json
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from contenders import measured, show, with_trl

CONTEXT, RANK, ALPHA = 512, 8, 16
OUR_ROWS, PACKED_ROWS, PADDED_ROWS = 2, 4, 8
"""Rows of an update: ours and TRL's of 512 tokens, or of one example each, padded to the longest. Ours are
computed one at a time, so that their number does not matter."""
SHARED = Path(__file__).resolve().parents[1].parent / "shared"
GGUF = SHARED / "weights" / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"
ROWS = SHARED / "data" / "instruct" / "alpaca" / "alpaca_5000.json.gz"
KINDS = {"full": "all weights", "lora": f"LoRA of rank {RANK} on all linears"}
LITGPT = "litgpt-lora"
CONTENDERS = [f"{who}-{kind}" for kind in KINDS for who in ("ours", "trl-packed", "trl-padded")] + [LITGPT]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def ours(kind: str, model: Path, rows: Path, updates: int, dtype: str) -> tuple[float, list[float]]:
    """Non-padding tokens of an update, and the seconds of each."""
    from camelid.recipes.recipe import load_recipe
    from camelid.recipes.tune import TuneRecipe
    from camelid.runs.run import read_metrics
    from camelid.text.tokenizer import load_tokenizer
    from camelid.train.stages import tune
    from camelid.train.training_rows import decoder_rows, prompted_of

    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "model": model,
            "out": Path(folder) / "run",
            "data": {"train": [rows], "validation_fraction": 0.0, "skip_bad_rows": True},
            "too_long": "drop",
            "show": 0,
            "lora": {"rank": RANK, "alpha": ALPHA} if kind == "lora" else {},
            "training": {
                "steps": updates,
                "context_length": CONTEXT,
                "global_batch_tokens": OUR_ROWS * CONTEXT,
                "micro_batch_size": 1,
                "learning_rate": 1e-4,
                "dtype": dtype,
            },
        }
        recipe = load_recipe(TuneRecipe, overrides=settings)
        tokenizer = load_tokenizer(model)
        examples = prompted_of(recipe, tokenizer, recipe.data.train, lambda text: None).examples
        packed, _ = decoder_rows(recipe, tokenizer)
        tune(recipe)
        metrics = read_metrics(recipe.out / "metrics.jsonl")
    tokens = sum(map(len, examples)) / packed.per_epoch * OUR_ROWS
    return tokens, [record["seconds"] for record in metrics if "seconds" in record]


def trl(
    kind: str, packed: bool, model: Path, rows: Path, updates: int, dtype: str
) -> tuple[float, list[float]]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokens, seconds = list[int](), list[float]()

    class Timed(SFTTrainer):
        def training_step(self, model, inputs, *rest, **more):
            mask = inputs.get("attention_mask")
            tokens.append(int(inputs["input_ids"].numel() if mask is None else mask.sum()))
            return super().training_step(model, inputs, *rest, **more)

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.began = time.perf_counter()

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - self.began)

    def messages(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
        asked = "\n\n".join(filter(None, (row["instruction"], row["input"])))
        return {
            "prompt": [{"role": "user", "content": asked}],
            "completion": [{"role": "assistant", "content": row["output"]}],
        }

    read = json.loads(Path(rows).read_text(encoding="utf-8"))
    precision = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            max_steps=updates,
            per_device_train_batch_size=PACKED_ROWS if packed else PADDED_ROWS,
            max_length=CONTEXT,
            packing=packed,
            gradient_checkpointing=False,
            bf16=dtype == "bfloat16",
            use_cpu=True,
            learning_rate=1e-4,
            report_to="none",
            save_strategy="no",
            optim="adamw_torch_fused",
        )
        adapter = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM")
        trainer = Timed(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=precision),
            args=settings,
            train_dataset=Dataset.from_list([messages(row) for row in read if row["output"]]),
            processing_class=AutoTokenizer.from_pretrained(model),
            peft_config=adapter if kind == "lora" else None,
            callbacks=[Clock()],
        )
        trainer.train()
    return sum(tokens[1:]) / max(1, len(tokens) - 1), seconds


def litgpt(model: Path, rows: Path, updates: int, dtype: str) -> tuple[float, list[float]]:
    """LitGPT's `finetune_lora` with rows of one example each, padded to the longest.

    An update is timed from its loss to the next one's, of which LitGPT is asked for one more.
    """
    import shutil

    import torch
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import JSON
    from litgpt.finetune import lora
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    tokens, stamps, loss = list[int](), list[float](), lora.chunked_cross_entropy

    def timed(logits, targets, *rest, **more):
        if torch.is_grad_enabled():
            tokens.append(int(targets.ne(-100).sum()) + len(targets))  # the first of each row is no target
            stamps.append(time.perf_counter())
        return loss(logits, targets, *rest, **more)

    lora.chunked_cross_entropy = timed
    lora.merge_lora = lambda **_: None
    with tempfile.TemporaryDirectory() as folder:
        base = Path(shutil.copytree(model, Path(folder) / "SmolLM2-135M-Instruct"))
        convert_hf_checkpoint(base)
        read = [row for row in json.loads(Path(rows).read_text(encoding="utf-8")) if row["output"]]
        (Path(folder) / "rows.json").write_text(json.dumps(read), encoding="utf-8")
        places = ("query", "key", "value", "projection", "mlp")
        sys.argv = ["litgpt", str(base)]  # which it reads again at its end, to note its settings
        lora.setup(
            base,
            Path(folder) / "out",
            precision="bf16-true" if dtype == "bfloat16" else "32-true",
            lora_r=RANK,
            lora_alpha=ALPHA,
            lora_dropout=0.0,
            **{f"lora_{place}": True for place in places},
            data=JSON(Path(folder) / "rows.json", val_split_fraction=0.01, num_workers=0),
            train=TrainArgs(
                save_interval=None,
                global_batch_size=PADDED_ROWS,
                micro_batch_size=PADDED_ROWS,
                lr_warmup_steps=1,
                epochs=1,
                max_steps=updates + 1,
                max_seq_length=CONTEXT,
            ),
            eval=EvalArgs(interval=updates + 2, max_new_tokens=1, max_iters=1, final_validation=False),
        )
    seconds = [later - sooner for sooner, later in pairwise(stamps)]
    return sum(tokens[1:]) / max(1, len(tokens) - 1), seconds


def serve(name: str, model: Path, rows: Path, updates: int, dtype: str, processor: bool) -> None:
    """A contender's process: prints its tokens a second and its memory."""
    import resource

    if processor:
        import torch

        torch.set_num_threads(1)
        time.perf_counter = time.process_time  # also for camelid's loop
    who, kind = name.rsplit("-", 1)
    if who == "ours":
        tokens, seconds = ours(kind, model, rows, updates, dtype)
    elif name == LITGPT:
        tokens, seconds = litgpt(model, rows, updates, dtype)
    else:
        tokens, seconds = trl(kind, who == "trl-packed", model, rows, updates, dtype)
    later = seconds[1:]
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"speed": tokens * len(later) / sum(later), "megabytes": megabytes}), flush=True)


def prepared(folder: Path, count: int) -> tuple[Path, Path]:
    """The model's folder and the first rows, from the files beside the repository."""
    import gzip

    from camelid.formats.importing import import_model

    with contextlib.redirect_stdout(sys.stderr):
        import_model(GGUF, folder / "model", "float32", None)
    rows = json.loads(gzip.decompress(ROWS.read_bytes()))[:count]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder / "model", folder / "rows.json"


def comparisons(found: dict[str, dict[str, float]]) -> Iterator[dict[str, object]]:
    """For each kind, speed and memory beside TRL's faster setting, and for LoRA beside LitGPT."""
    pairs = list[tuple[str, str, str]]()
    for kind in KINDS:
        trl = [name for name in found if name.startswith("trl") and name.endswith(kind)]
        if trl:
            fastest = max(trl, key=lambda name: found[name]["speed"])
            pairs.append((kind, fastest, f"TRL SFTTrainer, {fastest.split('-')[1]}"))
    pairs += [("lora", LITGPT, "LitGPT finetune_lora")] if LITGPT in found else []
    for kind, peer, peer_name in pairs:
        if (mine := found.get(f"ours-{kind}")) is None:
            continue
        verb, label = "lora" if kind == "lora" else "tune", KINDS[kind]
        for what, key, unit in ((verb, "speed", "tokens/s"), ("memory", "megabytes", "MB")):
            own, theirs = mine[key], found[peer][key]
            yield {
                "name": f"{what} SmolLM2-135M, {label}",
                "ours": round(own, 1),
                "peer": round(theirs, 1),
                "peer_name": peer_name,
                "unit": unit,
                "ratio": round(own / theirs if key == "speed" else theirs / own, 2),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line, nothing else")
    parser.add_argument("--quick", action="store_true", help="two updates instead of four, only LoRA")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has trl and peft")
    parser.add_argument("--litgpt-python", help="interpreter that has litgpt; without it LitGPT is left out")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--only", choices=CONTENDERS, nargs="+", default=CONTENDERS)
    parser.add_argument("--model", type=Path, help="a folder of SmolLM2-135M; by default ../shared's")
    parser.add_argument("--rows", type=Path, help="Alpaca rows as JSON; by default ../shared's first 1,000")
    parser.add_argument("--updates", type=int, default=4, help="updates, the first of which does not count")
    parser.add_argument("--processor", action="store_true", help="processor seconds of one thread")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    updates, names = arguments.updates, arguments.only
    if arguments.contender:
        own = (arguments.contender, arguments.model, arguments.rows, updates, arguments.dtype)
        serve(*own, arguments.processor)
        return
    if arguments.quick:
        updates, names = 2, [name for name in names if name.endswith("lora")]
    beside = [LITGPT] if LITGPT in names and arguments.litgpt_python else []
    if LITGPT in names and not beside:
        print("LitGPT is left out: give --litgpt-python (pip install litgpt)", file=sys.stderr)
    names = with_trl(
        [name for name in names if name != LITGPT], arguments.peer_python, ("trl", "peft", "datasets")
    )
    with tempfile.TemporaryDirectory() as folder:
        model, rows = arguments.model, arguments.rows
        if model is None or rows is None:
            own = prepared(Path(folder), 1000)
            model, rows = model or own[0], rows or own[1]
        words = ["--model", str(model), "--rows", str(rows)]
        words += ["--updates", str(updates), "--dtype", arguments.dtype]
        words += ["--processor"] if arguments.processor else []
        found = measured(__file__, names, arguments.peer_python, words)
        found |= measured(__file__, beside, arguments.litgpt_python, words)
    show(comparisons(found), arguments.json)


if __name__ == "__main__":
    main()
