"""Questions a minute: `camelid.evaluate` beside lm-evaluation-harness (its `hf` backend), on the same ones.

    python bench/evaluate.py --peer /path/to/venv/bin/python

SmolLM2-135M-Instruct with its published weights in bfloat16 (from the GGUF beside the repository, or a folder
as `--model`). The rows:

    generate   GSM8K by chain of thought with 8 exemplars, at most 64 new tokens, greedily
    choice     CommonsenseQA's five choices by likelihood, after 7 exemplars
    samples    40 samples of one GSM8K question in the time of one; the bar is 6
    memory     most memory of this process after four times the questions, beside that after a quarter
    python     share of a decoding step of 64 sequences outside of the decoder in C; the bar is 0.1

Ours and theirs run in processes of their own, one after the other. A time is that from the questions to the
grades, without loading; ours includes reading the exemplars, which are in no cache. `--batches` are the batch
sizes that lm-evaluation-harness tries and `--peer-dtypes` its precisions: the fastest counts, and all are
listed. It answers the first `--peer-questions` of ours, since each takes it equally long. On a busy machine,
compare the processor time of a question instead, with `--threads 1`.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from decode_models import GGUF
from harness import DATA, HERE, Source, compared, lines_of, write_rows

Row = dict[str, Any]
SAMPLES = 40
GENERATE = Source("gsm8k", "reasoning/gsm8k/test.jsonl.gz", 64, shots=8, new=64)
CHOICE = Source("commonsense_qa", "lmeval/commonsense_qa.validation.jsonl.gz", 128, shots=7)
ROWS = ("generate", "choice", "samples", "memory", "python")


class Contender:
    """A process that answers each job, a JSON object a line, with another."""

    def __init__(self, *command: object) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([str(part) for part in command], text=True, **pipes)  # type: ignore[call-overload]
        self._answer()

    def ask(self, job: Mapping[str, Any]) -> Row:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Row:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[1]} ended with {self.process.wait()}")
        answer: Row = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """The two contenders, and the files that they share."""

    def __init__(self, how: argparse.Namespace, model: Path, folder: Path) -> None:
        self.how, self.model, self.folder = how, model, folder
        self.settings = [how.model_dtype, str(how.threads)]

    def ours(self) -> Contender:
        """Our process, with the model loaded and nothing in its cache."""
        return Contender(sys.executable, HERE / "evaluate_ours.py", self.model, *self.settings)

    def job(self, source: Source, questions: int, what: str = "") -> Row:
        """What both are to do; `out` is where the answers go."""
        rows, exemplars = write_rows(source, self.how.data, self.folder)
        return {
            "what": what,
            "task": source.task,
            "data": str(rows),
            "exemplars": str(exemplars),
            "shots": source.shots,
            "new": source.new,
            "docs": [0, questions],
            "limit": questions,
            "out": None,
        }

    def beside(self, name: str, source: Source, questions: int, peer_questions: int) -> Row:
        """A row of questions a minute."""
        job = self.job(source, questions, name)
        with self.ours() as ours:
            mine = ours.ask({**job, "out": str(self.folder / "ours")})
        row: Row = {
            "name": f"{name} {self.how.model_dtype}",
            "ours": round(60 * questions / mine["seconds"], 2),
        }
        row["unit"], row["questions"] = "questions/minute", questions
        [path] = (self.folder / "ours").glob(f"{source.task}.*-shot.jsonl")
        speeds, processor = {}, []
        for kind, batch, lines, taken in self.theirs(job, source, peer_questions):
            speeds[f"{kind}, batch {batch}"] = round(60 * peer_questions / taken["seconds"], 2)
            processor.append(taken["processor"] / peer_questions)
            outcome = compared(source, lines_of(path)[:peer_questions], lines)
            row["same prompts"] = outcome.same_prompts
            row[f"same answers, {kind}"] = outcome.same_texts if source.new else outcome.same_choice
        if speeds:
            best = max(speeds, key=lambda each: speeds[each])
            row |= {"peer": speeds[best], "peer_name": f"lm-evaluation-harness, {best}", "all": speeds}
            row |= {"ratio": round(row["ours"] / speeds[best], 2), "peer_questions": peer_questions}
            each = mine["processor"] / questions
            row |= {"processor, s": round(each, 3), "peer processor, s": round(min(processor), 3)}
        return row

    def theirs(self, job: Row, source: Source, questions: int) -> Iterator[tuple[str, int, Any, Row]]:
        """Their answers and seconds, for each precision and batch size."""
        if not self.how.peer:
            print("no --peer: pip install lm-eval[hf], and name its interpreter", file=sys.stderr)
            return
        for kind in self.how.peer_dtypes:
            for batch in self.how.batches:
                settings = ("--dtype", kind, "--batch", batch, "--threads", self.how.threads)
                with Contender(self.how.peer, HERE / "harness_peer.py", self.model, *settings) as peer:
                    out = self.folder / f"{source.task}.{kind}.{batch}.jsonl"
                    task = str(HERE / "lm_eval_tasks" / f"{source.task}.yaml")
                    found = peer.ask({**job, "task": task, "docs": [0, questions], "out": str(out)})
                yield kind, batch, lines_of(out), found

    def samples(self) -> Row:
        with self.ours() as ours:
            found = ours.ask(self.job(GENERATE, 1, "samples") | {"samples": SAMPLES})
        return bar(f"samples {SAMPLES}", found["many"] / found["one"], 6, "times one sample")

    def memory(self) -> Row:
        with self.ours() as ours:
            found = ours.ask(self.job(CHOICE, self.how.questions[1], "memory"))
        return bar("memory", found["all"] / found["first"], 1.05, "times that of a quarter") | found

    def python(self) -> Row:
        with self.ours() as ours:
            found = ours.ask({"what": "python", "new": 24})
        share = 1 - found["computing"] / found["seconds"]
        milliseconds = 1000 * found["seconds"] / found["steps"]
        return bar("python", share, 0.1, "of a step") | {"step, ms": round(milliseconds, 1)}

    def rows(self) -> Iterator[Row]:
        """Those that were asked for."""
        generate, choice = self.how.questions
        few, many = self.how.peer_questions
        for name in self.how.rows:
            if name == "generate":
                yield self.beside(name, GENERATE, generate, few)
            elif name == "choice":
                yield self.beside(name, CHOICE, choice, many)
            else:
                yield getattr(self, name)()


def bar(name: str, ours: float, most: float, unit: str) -> Row:
    """A row that is held against a bar instead of a peer."""
    row = {"name": name, "ours": round(ours, 3), "peer": most, "peer_name": "the bar", "unit": unit}
    return row | {"ratio": round(most / ours, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a quarter of the questions, batch 8 only")
    parser.add_argument("--model", type=Path, help="a checkpoint folder with its tokenizer")
    parser.add_argument("--model-dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--data", type=Path, default=DATA, help="folder with lmeval and reasoning/gsm8k")
    parser.add_argument("--peer", help="Python interpreter where lm_eval and torch are installed")
    parser.add_argument("--peer-dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 8, 16])
    parser.add_argument("--questions", nargs=2, type=int, default=[64, 128], metavar=("GENERATE", "CHOICE"))
    parser.add_argument(
        "--peer-questions", nargs=2, type=int, default=[16, 32], metavar=("GENERATE", "CHOICE")
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW")
    parser.add_argument("--threads", type=int, default=2)
    how = parser.parse_args()
    if how.quick:
        how.batches, how.questions, how.peer_questions = [8], [16, 32], [8, 8]
    if how.model is None and not GGUF.is_file():
        sys.exit(f"{GGUF} is not here: give a checkpoint folder with --model")
    with tempfile.TemporaryDirectory() as scratch:
        folder, model = Path(scratch), how.model
        if model is None:
            from camelid.formats.importing import import_model

            model = folder / "smollm2"
            with contextlib.redirect_stdout(sys.stderr):
                import_model(GGUF, model, dtype=how.model_dtype)
        for row in Bench(how, model, folder).rows():
            text = "{name}: {ours} {unit}, {peer_name} {peer}: {ratio} times"
            whole = how.json or "ratio" not in row
            print(json.dumps(row) if whole else text.format(**row), flush=True)


if __name__ == "__main__":
    main()
