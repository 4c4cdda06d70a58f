"""The same evaluation through Camelid and through lm-evaluation-harness: do they predict the same?

    python bench/harness.py --peer /path/to/venv/bin/python --out runs/harness
    python bench/harness.py --out runs/harness --json          # compares what is there

SmolLM2-135M-Instruct in float32 (imported from the GGUF beside the repository, or a folder as `--model`)
answers the first rows of four data sets by likelihood, without exemplars, and of GSM8K by chain of thought
with four. Ours is `camelid eval`; lm-evaluation-harness (its `hf` backend) runs in the interpreter named by
`--peer`, on the same rows by the task files in `lm_eval_tasks`. It needs no hub. A call that was stopped goes
on where it was.

A row of the table: whether the prompts are the same texts, on how many questions both choose the same (by
log-probability, and by log-probability per character: `acc` and `acc_norm` there), the largest difference of
two log-probabilities, and of two divided by their tokens, and how many greedy texts are the same to the last
character. Every question that
differs is listed.
"""

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from decode_models import GGUF

from camelid.base.atomic import write_text_atomically
from camelid.data.read.compressed import open_bytes

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
SLICE, BATCH = 10, 8
"""Questions that lm-evaluation-harness scores, or generates a reply to, at a time; a stopped call loses at
most these."""
Line = Mapping[str, Any]


class Source(NamedTuple):
    """Rows of a data set, and how they are asked."""

    task: str
    rows: str
    items: int
    flags: tuple[str, ...] = ()
    shots: int = 0
    new: int = 0
    """Most tokens of a reply; 0: choices are scored."""


def chain(shots: int, new: int) -> tuple[str, ...]:
    """The flags of chain of thought after exemplars."""
    lengths = ("--shots", str(shots), "--max-new-tokens", str(new))
    return ("--program", "chain_of_thought", *lengths, "--allow-cut")


SOURCES = (
    Source("arc_easy", "lmeval/ai2_arc_ARC-Easy.validation.jsonl.gz", 150),
    Source("piqa", "lmeval/piqa.validation.jsonl.gz", 150),
    Source("sciq", "lmeval/sciq.validation.jsonl.gz", 150),
    Source("commonsense_qa", "lmeval/commonsense_qa.validation.jsonl.gz", 150),
    Source("gsm8k", "reasoning/gsm8k/test.jsonl.gz", 50, chain(4, 64), 4, 64),
)


def write_rows(source: Source, data: Path, folder: Path) -> tuple[Path, Path | None]:
    """The first rows of a source as a plain file, and its exemplars, if it has any, as rows of its kind: ours
    for chains of thought, else the rows after the first."""
    path, exemplars = folder / f"{source.task}.jsonl", folder / f"{source.task}.exemplars.jsonl"
    with open_bytes(data / source.rows) as file:
        write_text_atomically(path, b"".join(itertools.islice(file, source.items)).decode())
        shown = b"".join(itertools.islice(file, source.shots)).decode()
    if not source.shots:
        return path, None
    if source.new:
        from camelid.tasks.reasoning.exemplars import WORD_PROBLEMS

        solved = [(each.question, f"{each.rationale}\n#### {each.answer}") for each in WORD_PROBLEMS]
        lines = [{"question": question, "answer": answer} for question, answer in solved[: source.shots]]
        shown = "".join(json.dumps(line) + "\n" for line in lines)
    write_text_atomically(exemplars, shown)
    return path, exemplars


def ask_ours(model: Path, source: Source, rows: Path, out: Path) -> list[Line]:
    """The lines of `camelid eval`; questions that have one already are not asked again."""
    [known] = [*out.glob(f"{source.task}.*-shot.jsonl")] or [None]
    if known is None or len(lines_of(known)) < source.items:
        command = [sys.executable, "-m", "camelid", "eval", str(model), "--task", source.task]
        command += ["--data", str(rows), "--out", str(out), *source.flags]
        subprocess.run(command, check=True, stdout=sys.stderr)
    [known] = out.glob(f"{source.task}.*-shot.jsonl")
    return lines_of(known)


def jobs(source: Source, rows: Path, exemplars: Path | None, out: Path) -> Iterator[dict[str, Any]]:
    """What lm-evaluation-harness is to do, in slices."""
    size = BATCH if source.new else SLICE
    for start in range(0, source.items, size):
        yield {
            "task": str(HERE / "lm_eval_tasks" / f"{source.task}.yaml"),
            "data": str(rows),
            "exemplars": None if exemplars is None else str(exemplars),
            "shots": source.shots,
            "docs": [start, min(start + size, source.items)],
            "new": source.new,
            "out": str(out / f"{source.task}.{start}.jsonl"),
        }


def ask_peer(python: str, model: Path, wanted: Sequence[Mapping[str, Any]], softmax: str | None) -> None:
    """Runs the jobs that are not done yet; softmax: the precision of their log-softmax."""
    left = [job for job in wanted if not Path(job["out"]).exists()]
    if left:
        command = [python, str(HERE / "harness_peer.py"), str(model), "--batch", str(BATCH)]
        command += ["--softmax-dtype", softmax] if softmax else []
        text = "".join(json.dumps(job) + "\n" for job in left)
        subprocess.run(command, input=text, text=True, check=True, stdout=sys.stderr)


def lines_of(path: Path) -> list[Line]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Outcome(NamedTuple):
    """One task compared."""

    task: str
    questions: int
    same_prompts: int
    same_choice: int | None
    same_choice_per_character: int | None
    largest_difference: float | None
    largest_per_token: float | None
    same_texts: int | None
    different: list[str]
    """What differs, in words."""


def compare_choices(task: str, ours: Sequence[Line], theirs: Sequence[Line]) -> Outcome:
    """Scored choices beside each other, question by question."""
    same = {"prompts": 0, "choice": 0, "per_character": 0}
    largest, per_token, different = 0.0, 0.0, []
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        texts = [score["text"] for score in our["scores"]]
        lengths = [score["characters"] for score in our["scores"]]
        logprobs = [score["logprob"] for score in our["scores"]]
        prompts = set(our["prompts"]) == set(their["prompts"]) and texts == their["continuations"]
        same["prompts"] += prompts
        for way, divided in (("choice", [1] * len(texts)), ("per_character", lengths)):
            chosen = [best(each, divided) for each in (logprobs, their["logprobs"])]
            same[way] += chosen[0] == chosen[1]
            if chosen[0] != chosen[1]:
                different.append(f"{task} {number}, {way}: {texts[chosen[0]]!r}, there {texts[chosen[1]]!r}")
        gaps = [abs(one - other) for one, other in zip(logprobs, their["logprobs"], strict=True)]
        largest = max(largest, *gaps)
        per_token = max(
            per_token, *(gap / score["tokens"] for gap, score in zip(gaps, our["scores"], strict=True))
        )
        if not prompts:
            different.append(f"{task} {number}: other prompts: {our['prompts'][0][-60:]!r}")
    counted = same["prompts"], same["choice"], same["per_character"]
    return Outcome(task, len(ours), *counted, largest, per_token, None, different)


def best(logprobs: Sequence[float], divided: Sequence[int]) -> int:
    """The most probable choice, each log-probability divided by its number; the first of equal ones."""
    values = [logprob / by for logprob, by in zip(logprobs, divided, strict=True)]
    return values.index(max(values))


def compare_texts(task: str, ours: Sequence[Line], theirs: Sequence[Line]) -> Outcome:
    """Greedy texts beside each other, question by question."""
    same, prompts, different = 0, 0, []
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        prompts += our["prompts"] == their["prompts"]
        text, other = our["completions"][0], their["text"]
        same += text == other
        if text != other:
            at = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
            shown = slice(0, 40) if at is None else slice(max(0, at - 30), at + 10)
            different.append(f"{task} {number}: {text[shown]!r}, there {other[shown]!r}")
    return Outcome(task, len(ours), prompts, None, None, None, None, same, different)


def compared(source: Source, ours: Sequence[Line], theirs: Sequence[Line]) -> Outcome:
    """Both evaluations of a source."""
    return (compare_texts if source.new else compare_choices)(source.task, ours, theirs)


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown."""
    names = (
        "task, questions, same prompts, same choice, per character, largest difference, per token, same text"
    )
    rows = [names.split(", "), ["---"] * 8]
    for each in outcomes:
        numbers = [f"{value:.1e}" if isinstance(value, float) else value for value in each[:8]]
        rows.append(["-" if value is None else str(value) for value in numbers])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def smollm2(out: Path) -> Path:
    """SmolLM2 as a folder in float32, imported if it is not there yet."""
    from camelid.formats.importing import import_model

    if not out.exists():
        if not GGUF.is_file():
            sys.exit(f"{GGUF} is not here: give a checkpoint folder with --model")
        with contextlib.redirect_stdout(sys.stderr):
            import_model(GGUF, out, dtype="float32")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for rows, answers and the model")
    parser.add_argument("--model", type=Path, help="a checkpoint folder in float32 with its tokenizer")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with lmeval and reasoning/gsm8k")
    parser.add_argument("--peer", help="Python interpreter where lm_eval and torch are installed")
    parser.add_argument("--peer-softmax", help="the precision of its log-softmax, such as float64")
    parser.add_argument("--tasks", nargs="+", choices=[each.task for each in SOURCES], metavar="TASK")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    how = parser.parse_args()
    folders = {name: how.out / name for name in ("rows", "ours", "theirs")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    model = how.model or smollm2(how.out / "smollm2-float32")
    outcomes = []
    for source in SOURCES:
        if how.tasks and source.task not in how.tasks:
            continue
        rows, exemplars = write_rows(source, how.data, folders["rows"])
        ours = ask_ours(model, source, rows, folders["ours"])
        wanted = [*jobs(source, rows, exemplars, folders["theirs"])]
        if how.peer:
            ask_peer(how.peer, model, wanted, how.peer_softmax)
        missing = [job["out"] for job in wanted if not Path(job["out"]).exists()]
        if missing:
            sys.exit(f"{missing[0]} is missing: name by --peer an interpreter with lm_eval (lm-eval[hf])")
        theirs = [line for job in wanted for line in lines_of(Path(job["out"]))]
        outcomes.append(compared(source, ours, theirs))
        if how.json:
            print(json.dumps(outcomes[-1]._asdict()), flush=True)
    if not how.json:
        print(table(outcomes))
        print("\n".join(line for each in outcomes for line in each.different))


if __name__ == "__main__":
    main()
