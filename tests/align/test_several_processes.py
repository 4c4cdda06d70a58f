"""Alignment on two processes gives the curves and weights of one."""

import contextlib
import io
import json
from pathlib import Path

import pytest
import torch.distributed as dist
from processes import start
from safetensors.torch import load_file
from test_bandit import LETTERS

from camelid.cli import main as cli
from camelid.runs.run import METRICS, read_metrics

COMMON = {
    "training.steps": "3",
    "training.validate-every": "3",
    "training.learning-rate": "0.01",
    "training.eps": "1e-3",  # where a gradient is 0 in theory, an update would be the sign of rounding errors
    "training.micro-batch-size": "2",
    "training.dtype": "float32",
    "training.compile": "false",
    "held-out": "0.3",
}
ROWS = {"training.context-length": "128", "training.global-batch-tokens": "512"}
COMPARED = {"comparisons": "pairs.jsonl", **ROWS}
ROLLOUTS = {"task": "letters.py", "max-new-tokens": "2"}
CASES = {
    "dpo": {"method": "dpo", **COMPARED},
    "dpo of an adapter": {"method": "dpo", "lora.rank": "2", **COMPARED},
    "reward": {"method": "reward", **COMPARED},
    "verifier": {"method": "verifier", "task": "letters.py", "samples": "4", "max-new-tokens": "2", **ROWS}
    | {"verifier.language": "none", "solutions": "solutions"},
    "grpo": {"method": "grpo", "grpo.questions": "3", "grpo.group": "4", **ROLLOUTS},
    "grpo of an adapter": {"method": "grpo", "grpo.questions": "2", "lora.rank": "2", **ROLLOUTS},
    "ppo": {"method": "ppo", "ppo.questions": "8", "ppo.group": "2", "ppo.minibatches": "2", **ROLLOUTS}
    | {"ppo.pretraining": "text.txt", "ppo.pretraining-rows": "2"},
    "best-of-n": {"method": "best-of-n", "samples": "4", "best-of-n.keep": "2", **ROLLOUTS, **ROWS},
}
CURVES = {"best-of-n": f"round-1/tune/{METRICS}"}
"""Where a run's metrics are, unless in its own folder."""
METRICS_OF_TIME = {"seconds", "tokens_per_second", "mfu", "gradient_square", "gradient_trace", "memory"}


def align(base: Path, folder: Path, name: str, out: Path, **more: str) -> int:
    """The exit code of one method on the data in a folder."""
    settings = {**COMMON, **CASES[name], **more}
    for key in ("comparisons", "task", "solutions", "ppo.pretraining"):
        if key in settings:
            settings[key] = str(folder / settings[key])
    flags = [word for key, value in settings.items() for word in (f"--{key}", value)]
    flags += [f"--{name}.allow-cut" for name in ("grpo", "ppo", "best-of-n") if settings["method"] == name]
    flags += ["--chat"] if settings["method"] == "best-of-n" else []
    return cli.main(["align", str(base), "--out", str(out), *flags])


def align_all(rank: int, base: Path, folder: Path) -> None:
    """In each of two processes: every method; the main one writes down what it says."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        codes = {name: align(base, folder, name, folder / "two" / name) for name in CASES}
        codes["uneven"] = align(
            base, folder, "grpo", folder / "uneven", **{"grpo.questions": "1", "grpo.group": "3"}
        )
    if rank == 0:
        (folder / "codes.json").write_text(json.dumps(codes))
        (folder / "said.txt").write_text(said.getvalue())
    dist.barrier()  # the first process holds the store, which the other may still need


@pytest.fixture(scope="module")
def folder(chatty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, and in `two/` what two processes make of it."""
    folder = tmp_path_factory.mktemp("aligned")
    (folder / "letters.py").write_text(LETTERS)
    (folder / "text.txt").write_text("It is 1. The answer is 5678. " * 20)
    rows = [
        {"prompt": f"{number}: which?", "chosen": "It is 1.", "rejected": f"The answer is {number}."}
        for number in range(16)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert start(align_all, 2, chatty, folder) == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_align_as_one(folder: Path, chatty: Path, tmp_path: Path, name: str) -> None:
    assert json.loads((folder / "codes.json").read_text())[name] == 0, (folder / "said.txt").read_text()
    assert align(chatty, folder, name, tmp_path / "one") == 0
    curve, outs = CURVES.get(name, METRICS), (tmp_path / "one", folder / "two" / name)
    one, two = (read_metrics(out / curve) for out in outs)
    assert [record["step"] for record in two] == [record["step"] for record in one]
    for alone, shared in zip(one, two, strict=True):
        for key, value in alone.items():
            if isinstance(value, float) and not key.endswith(tuple(METRICS_OF_TIME)):
                assert shared[key] == pytest.approx(value, rel=1e-3, abs=1e-5), (alone["step"], key)
    [ours], [theirs] = (
        [load_file(path) for path in sorted(out.glob("*/*model.safetensors"))] for out in outs
    )
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert (theirs[key] - tensor).abs().max() < 1e-4, key


@pytest.mark.slow
def test_rollouts_that_processes_cannot_share_are_refused(folder: Path) -> None:
    assert json.loads((folder / "codes.json").read_text())["uneven"] == 2
    assert "a rollout has 3 answers" in (folder / "said.txt").read_text()
    assert "give --grpo.questions 2" in (folder / "said.txt").read_text()
