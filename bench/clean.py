"""Cleaning shared threads: `camelid make clean` beside FastChat's own scripts, on the same generated threads.

Threads of about 10 kB of HTML, some of them malformed as in ShareGPT's dumps. The peer is clean_sharegpt,
filter_wrong_format and split_long_conversation of fschat 0.2.36 (with markdownify 0.11.6), as its
prepare_all.py runs them, with the same tokenizer. Both are timed as commands, from the dump to the rows, and
must keep the same threads; pieces that only one side has are counted and explained.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
CONTEXT = 2048
WORDS = str.split(
    "the of and to in is that it for on with as this be are by from or an at model data list value time "
    "system user code function water people language number world story night paper answer question example"
)
STEPS = (
    ("clean_sharegpt", ("--in-file", "raw.json", "--out-file", "clean.json")),
    ("filter_wrong_format", ("--in-file", "clean.json", "--out-file", "lists.json")),
    (
        "split_long_conversation",
        (
            *("--in-file", "lists.json", "--out-file", "split.json"),
            *("--model-name-or-path", "vocabulary", "--max-length", str(CONTEXT)),
        ),
    ),
)


class Writer:
    """Writes answers as a chat page has them."""

    def __init__(self, chance: random.Random):
        self.chance = chance
        self.kinds: tuple[Callable[[], str], ...] = (
            self.paragraph,
            self.paragraph,
            self.items,
            self.code,
            self.table,
        )

    def words(self, least: int, most: int) -> str:
        return " ".join(self.chance.choices(WORDS, k=self.chance.randint(least, most))).capitalize() + "."

    def paragraph(self) -> str:
        text = f"{self.words(10, 30)} <strong>{self.words(1, 2)}</strong> {self.words(10, 30)}"
        return f"<p>{text} <code>{self.chance.choice(WORDS)}</code></p>"

    def items(self) -> str:
        kind = self.chance.choice(("ol", "ul"))
        items = "".join(f"<li><p>{self.words(5, 15)}</p></li>" for _ in range(self.chance.randint(2, 6)))
        return f"<{kind}>{items}</{kind}>"

    def code(self) -> str:
        lines = "\n".join(f"    x{at} = f({self.chance.randint(0, 99)}) &lt; {at}" for at in range(6))
        head = '<div class="flex"><span>python</span><button class="flex ml-auto">Copy code</button></div>'
        body = f'<code class="!whitespace-pre hljs language-python">def f():\n{lines}\n</code>'
        return f'<pre><div class="bg-black">{head}<div class="p-4">{body}</div></div></pre>'

    def table(self) -> str:
        rows = "".join(f"<tr><td>{self.words(1, 3)}</td><td>{at}</td></tr>" for at in range(3))
        return f"<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody>{rows}</tbody></table>"

    def answer(self, size: int) -> str:
        text = '<div class="markdown prose w-full break-words light">'
        while len(text) < size:
            text += self.chance.choice(self.kinds)()
        return f"{text}</div>"

    def thread(self, name: str, size: int = 10_000) -> dict[str, Any]:
        turns = list[dict[str, str]]()
        while size > 0:
            question, answer = self.words(8, 40), self.answer(self.chance.randint(800, 3000))
            turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
            size -= len(question) + len(answer)
        return {"id": name, "conversations": turns}


def dump(count: int, path: Path, seed: int = 0) -> None:
    """Threads of which about a fifth have one fault each."""
    writer, rows = Writer(random.Random(seed)), list[dict[str, Any]]()
    for number in range(count):
        row = writer.thread(f"t{number}")
        turns, fault = row["conversations"], writer.chance.randrange(50)
        if fault == 0:
            turns.insert(0, {"from": "gpt", "value": "<p>An answer that comes first</p>"})
        elif fault == 1:
            turns.append({"from": "human", "value": "One more question?"})
        elif fault == 2:
            turns.insert(2, dict(turns[0]))
        elif fault == 3:
            turns[1]["value"] += " ChatGPT"
        elif fault == 4:
            turns[-1]["value"] = "<div></div>"
        elif fault == 5 and rows:
            row["id"] = rows[-1]["id"]
        elif fault == 6 and rows:
            turns[:2] = [dict(turn) for turn in rows[-1]["conversations"][:2]]
        elif fault == 7:
            row["plugins"] = ["web"]
        elif fault == 8:
            turns[1]["value"] = "<p>x</p>\n1. one\n1. one again" + turns[1]["value"]
        elif fault == 9:
            del turns[1:]
        elif fault == 10:
            turns[1]["value"] = "1 / 2" + turns[1]["value"]
        rows.append(row)
    path.write_text(json.dumps(rows), encoding="utf-8")


class Spent(NamedTuple):
    """Wall and processor seconds of commands, and the peak memory in MB of one of them."""

    wall: float
    processor: float
    memory: float


def timed(commands: list[list[str]], folder: Path) -> Spent:
    """What the commands take, one after the other."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src"), "TOKENIZERS_PARALLELISM": "false"}
    began, processor, memory = time.perf_counter(), 0.0, 0
    for command in commands:
        with (folder / "log.txt").open("w+") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
        processor += usage.ru_utime + usage.ru_stime
        memory = max(memory, usage.ru_maxrss)
    return Spent(time.perf_counter() - began, processor, memory / 1024)


def ours(name: str, workers: int) -> list[str]:
    words = [sys.executable, "-m", "camelid", "make", "clean", f"{name}.json", "--out", f"{name}-rows"]
    settings = ["--tokenizer", "vocabulary", "--context-length", str(CONTEXT), "--turn-tokens", "6"]
    return [*words, *settings, "--no-refusals", "--workers", str(workers)]


def compared(folder: Path) -> dict[str, Any]:
    """The threads and pieces that both sides keep, and those that only one does."""
    raw = {row["id"]: row for row in reversed(json.loads((folder / "raw.json").read_text()))}
    rows = [json.loads(line) for line in (folder / "raw-rows" / "rows.jsonl").read_text().splitlines()]
    pieces = [
        {row["made"]["id"] for row in rows},
        {row["id"] for row in json.loads((folder / "split.json").read_text())},
    ]
    threads = [{piece.rpartition("_")[0] for piece in side} for side in pieces]
    last = 0
    for piece in pieces[0] - pieces[1]:
        name, _, start = piece.rpartition("_")
        last += int(start) >= len(raw[name]["conversations"]) // 2 * 2 - 4
    return {
        "threads": [len(side) for side in threads],
        "threads_in_both": len(threads[0] & threads[1]),
        "pieces": [len(side) for side in pieces],
        "pieces_in_both": len(pieces[0] & pieces[1]),
        "last_pieces_that_the_peer_loses": last,
    }


def main() -> None:
    """Prints one comparison a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="fewer threads")
    parser.add_argument("--threads", type=int, default=1500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable, help="a Python with fschat 0.2.36")
    given = parser.parse_args()
    count = 150 if given.quick else given.threads
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dump(count, folder / "raw.json")
        dump(count // 4, folder / "quarter.json", seed=1)
        text = "\n".join(Writer(random.Random(1)).words(20, 40) + " x1 = f(7) < 3 def" for _ in range(4000))
        (folder / "text.txt").write_text(text)
        learn = [
            sys.executable,
            "-m",
            "camelid",
            "tokenizer",
            "--data.train",
            "text.txt",
            "--vocab-size",
            "2000",
        ]
        timed([[*learn, "--out", "vocabulary"]], folder)
        quarter = timed([ours("quarter", 1)], folder)
        single = timed([ours("raw", 1)], folder)
        (folder / "raw-rows").rename(folder / "single-rows")
        both = timed([ours("raw", given.workers)], folder)
        peer = [[given.peer_python, "-m", f"fastchat.data.{name}", *words] for name, words in STEPS]
        other = timed(peer, folder)
        same = compared(folder)
    for workers, mine in ((given.workers, both), (1, single)):
        row = {
            "name": f"clean {count} threads of 10 kB, {workers} processes",
            "ours": round(count / mine.wall, 1),
            "peer": round(count / other.wall, 1),
            "peer_name": "FastChat 0.2.36",
            "unit": "threads/s",
            "ratio": round(other.wall / mine.wall, 2),
            "ratio_of_processor_seconds": round(other.processor / mine.processor, 2),
            **same,
        }
        print(json.dumps(row) if given.json else row)
    row = {
        "name": f"clean memory, {count} threads",
        "ours": round(single.memory),
        "peer": round(quarter.memory),
        "peer_name": f"ours, {count // 4} threads",
        "unit": "MB",
        "ratio": round(quarter.memory / single.memory, 3),
    }
    print(json.dumps(row) if given.json else row)


if __name__ == "__main__":
    main()
