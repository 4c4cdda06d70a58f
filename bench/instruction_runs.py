"""The runs of docs/instruction.md: `camelid tune` as a process of its own, and answers that are kept.

What exists is not made again, so that a stopped call goes on.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from instruction_rows import Row

from camelid.base.json import write_json
from camelid.engine.engine import Engine
from camelid.formats.load import load_model, load_tokenizer
from camelid.recipes.recipe import load_recipe
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import read_metrics
from camelid.text.conversation import Conversation, Message
from camelid.train.stages import token_lengths
from camelid.train.training_rows import decoder_rows
from camelid.train.validation import validation_loss

NUMBERS = "numbers.json"
CHUNK = 36
"""Questions that are answered together, and written when they are."""


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """The rows as JSONL, unless the file exists."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[Row]:
    """The rows of a JSONL file; none if it is missing."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def camelid(*words: object) -> dict[str, float]:
    """Runs one command; its seconds, and its peak memory in bytes."""
    arguments = [str(word) for word in words]
    print("camelid", shlex.join(arguments), flush=True)
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "camelid", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the command above ended with {process.returncode}")
    return {"whole_seconds": time.perf_counter() - began, "peak_bytes": usage.ru_maxrss * 1024}


def tuned(folder: Path, base: Path, flags: Mapping[str, object], seed: int) -> Row:
    """One run of `camelid tune`, and its numbers: held-out loss before and after, updates, speed, memory."""
    if (folder / NUMBERS).exists():
        return dict(json.loads((folder / NUMBERS).read_text("utf-8")))
    words = [word for key, value in flags.items() for word in (f"--{key}", value)]
    spent = camelid("tune", base, *words, "--seed", seed, "--show", 0, "--out", folder)
    steps = read_metrics(folder / "metrics.jsonl")
    losses = [step["validation_loss"] for step in steps if "validation_loss" in step]
    timed = [step for step in steps if "seconds" in step]
    numbers = {
        "name": folder.name,
        "seed": seed,
        "before": losses[0],
        "after": losses[-1],
        "updates": len(timed),
        "tokens": sum(step["tokens"] for step in timed),
        "trained_tokens": sum(step["trained_tokens"] for step in timed),
        "seconds": sum(step["seconds"] for step in timed),
        **spent,
    }
    write_json(folder / NUMBERS, numbers)
    return numbers


def result_of(folder: Path, base: Path) -> dict[str, Any]:
    """What `Engine.load` takes for a run: its model, or the base with its adapter."""
    if (folder / "adapter").exists():
        return {"path": base, "adapter": folder / "adapter"}
    return {"path": folder / "model" if (folder / "model").exists() else folder}


def answered(path: Path, model: Mapping[str, Any], prompts: Sequence[str], **sampling: Any) -> list[Row]:
    """The answers to the prompts, in a file that grows by `CHUNK` lines: prompt, text, tokens, ended."""
    done = read_lines(path)
    if len(done) >= len(prompts):
        return done[: len(prompts)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with Engine.load(**model) as engine, path.open("a", encoding="utf-8") as file:
        for start in range(len(done), len(prompts), CHUNK):
            asked = prompts[start : start + CHUNK]
            began = time.perf_counter()
            found = engine.generate([Conversation((Message("user", text),)) for text in asked], **sampling)
            for prompt, [each] in zip(asked, found, strict=True):
                row = {
                    "prompt": prompt,
                    "text": each.text,
                    "tokens": len(each.tokens),
                    "ended": each.finish_reason == "stop",
                }
                file.write(json.dumps(row) + "\n")
            file.flush()
            new, seconds = sum(len(each.tokens) for [each] in found), time.perf_counter() - began
            print(
                f"{path.name}: {start + len(asked)} of {len(prompts)}, {new / seconds:.0f} tokens/s",
                flush=True,
            )
    return read_lines(path)


def held_out_loss(model: Path, rows: Path) -> float:
    """Nats per trained token of these rows, those too long for the context left out."""
    settings = {
        "model": model,
        "out": model / "unused",
        "too_long": "drop",
        "data": {"train": [rows], "validation_fraction": 0.0},
        "training": {"steps": 1, "context_length": 512, "global_batch_tokens": 512},
    }
    tokenizer = load_tokenizer(model)
    packed, _ = decoder_rows(load_recipe(TuneRecipe, overrides=settings), tokenizer)
    loaded = load_model(model, torch.float32)
    return validation_loss(loaded, packed, token_lengths(tokenizer), torch.float32).nats_per_token
