"""Tokenise and pack a corpus: `camelid.data` beside `datasets.map`, with the same tokenizer on two processes.

Both read rows of real text (children's books beside the repository, else Camelid's own world), encode them
and lay them out in rows of 512 tokens. Ours is timed from the file to every packed row read once; the
peer from a data set that is already loaded to one that holds the packed rows. Each job runs in a process
of its own; memory is the peak of what the job and its workers hold alone (USS).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONTEXT = 512
WORKERS = 2
VOCABULARY = 8192
ROW_CHARACTERS = 2000


def corpus_texts() -> Iterator[str]:
    """Endless documents of about two thousand characters, cut at paragraphs of real books if there are
    any."""
    books = HERE.parents[1] / "shared/data/pretrain/chilit.jsonl.xz"
    if not books.exists():
        from camelid.data.world import documents

        yield from documents("train")
    from camelid.data.read.corpus import Corpus

    while True:
        for book, _ in Corpus(books):
            paragraphs, size = [], 0
            for paragraph in book.split("\n\n"):
                paragraphs.append(paragraph)
                size += len(paragraph)
                if size >= ROW_CHARACTERS:
                    yield "\n\n".join(paragraphs)
                    paragraphs, size = [], 0


def write_corpus(path: Path, megabytes: float) -> None:
    written = 0
    with path.open("w") as file:
        for text in corpus_texts():
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
            if written >= megabytes * 1e6:
                return


def ours(corpus: Path, tokenizer_folder: Path, out: Path) -> tuple[float, int]:
    """Seconds and tokens."""
    from camelid.data.read.corpus import Corpus
    from camelid.data.rows.packing import PackedDocuments
    from camelid.data.rows.shards import TokenShards, write_shards
    from camelid.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    start = time.perf_counter()
    write_shards(Corpus(corpus), tokenizer, out, validation_fraction=0, workers=WORKERS)
    shards = TokenShards(out)
    rows = PackedDocuments(shards, CONTEXT)
    trained = sum(int(rows[index].weights.sum()) for index in range(rows.per_epoch))
    return time.perf_counter() - start, trained - len(shards)


def peer(corpus: Path, tokenizer_folder: Path, out: Path) -> tuple[float, int]:
    """Seconds and tokens."""
    import datasets
    import tokenizers

    datasets.disable_progress_bars()
    tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    data = datasets.load_dataset("json", data_files=str(corpus), split="train", cache_dir=str(out))

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        encodings = tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)
        return {"input_ids": [[*encoding.ids, 0] for encoding in encodings]}

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        stream = list(chain.from_iterable(batch["input_ids"]))
        return {"input_ids": [stream[i : i + CONTEXT] for i in range(0, len(stream), CONTEXT)]}

    start = time.perf_counter()
    encoded = data.map(encode, batched=True, num_proc=WORKERS, remove_columns=data.column_names)
    packed = encoded.map(group, batched=True, num_proc=WORKERS)
    seconds = time.perf_counter() - start
    return seconds, sum(len(row["input_ids"]) for row in packed) - len(data)


def peak_memory(process: subprocess.Popen[str]) -> float:
    """Waits for a job; the most megabytes that it and its children held at one moment."""
    import psutil

    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        held = 0
        try:
            for one in [root, *root.children(recursive=True)]:
                held += one.memory_full_info().uss
        except psutil.NoSuchProcess:
            pass  # a worker has just ended; the next look counts anew
        peak = max(peak, held)
        time.sleep(0.02)
    return peak / 1e6


def run(job: str, corpus: Path, tokenizer_folder: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            __file__,
            "--job",
            job,
            str(corpus),
            str(tokenizer_folder),
            f"{out}/made",
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        memory = peak_memory(process)
        output = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"the job failed: {' '.join(command)}")
    return json.loads(output.splitlines()[-1]) | {"memory": memory}


def median(results: list[dict[str, float]], value: str) -> float:
    return statistics.median(result[value] for result in results)


def comparison(name: str, unit: str, mine: float, theirs: float, ratio: float) -> dict[str, object]:
    return {
        "name": name,
        "ours": round(mine, 2),
        "peer": round(theirs, 2),
        "peer_name": f"datasets.map, {WORKERS} processes",
        "unit": unit,
        "ratio": round(ratio, 2),
    }


def compare(sizes: list[float], repeats: int) -> Iterator[dict[str, object]]:
    from camelid.text.tokenizer import train_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for megabytes in sizes:
            write_corpus(base / f"{megabytes:g}.jsonl", megabytes)
        sample = (json.loads(line)["text"] for line in (base / f"{sizes[0]:g}.jsonl").open())
        train_tokenizer(sample, VOCABULARY).save(base / "tokenizer")
        for megabytes in sizes:
            corpus = base / f"{megabytes:g}.jsonl"
            results = {
                job: [run(job, corpus, base / "tokenizer") for _ in range(repeats)]
                for job in ("ours", "peer")
            }
            counts = {result["tokens"] for job in results.values() for result in job}
            if len(counts) != 1:
                raise SystemExit(f"the two made different numbers of tokens: {counts}")
            mine, theirs = (megabytes / median(results[job], "seconds") for job in results)
            yield comparison(f"tokenise and pack {megabytes:g} MB", "MB/s", mine, theirs, mine / theirs)
            mine, theirs = (median(results[job], "memory") for job in results)
            yield comparison(f"memory {megabytes:g} MB of text", "MB", mine, theirs, theirs / mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object a line, nothing else")
    parser.add_argument("--quick", action="store_true", help="less text, one repeat")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job, *paths = arguments.job
        seconds, tokens = {"ours": ours, "peer": peer}[job](*map(Path, paths))
        print(json.dumps({"seconds": seconds, "tokens": tokens}))
        return
    sizes, repeats = ([4.0, 16.0], 1) if arguments.quick else ([24.0, 96.0], 3)
    for row in compare(sizes, repeats):
        text = "{name}: {ours} {unit}, {peer_name} {peer} {unit}: {ratio} times as good"
        print(json.dumps(row) if arguments.json else text.format(**row), flush=True)


if __name__ == "__main__":
    main()
