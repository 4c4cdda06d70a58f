"""Making data: the filter of new instructions beside `rouge_score`, a teacher's answers beside its engine.

novelty: whether an instruction resembles one of a pool, by our index and by comparing with every one, as the
inner loop of Self-Instruct's code does: `_score_lcs` on texts that are tokenised beforehand. Instructions are
variants of our 175 seed tasks and, where it is beside the repository, of Alpaca's: words are exchanged, added
and left out, so that many are near the threshold. Both must decide alike.

answers (with --model FOLDER): tokens per second of `camelid make answers`, with journal and checks, beside
`Engine.generate` on the same questions. The seeds differ, so that nothing comes from the cache.
"""

import argparse
import gzip
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from camelid.base.journal import Journal
from camelid.data.read.prompts import Question
from camelid.lm.sampling import Sampling
from camelid.makers.answers import make_answers
from camelid.makers.novelty import NoveltyIndex
from camelid.makers.seeds import read_seeds
from camelid.makers.teacher import Teacher
from camelid.text.conversation import Conversation, Message

QUESTIONS, NEW_TOKENS = 48, 48
ALPACA = Path(__file__).resolve().parents[2] / "shared/data/instruct/alpaca/alpaca_5000.json.gz"


def instructions() -> list[str]:
    texts = [task.instruction for task in read_seeds()]
    if ALPACA.exists():
        with gzip.open(ALPACA, "rt") as file:
            texts += [row["instruction"] for row in json.load(file)]
    return texts


def variant(text: str, rng: random.Random, vocabulary: list[str]) -> str:
    words = text.split()
    for _ in range(rng.randint(1, max(1, len(words) // 2))):
        at, kind = rng.randrange(len(words)), rng.random()
        if kind < 0.5:
            words[at] = rng.choice(vocabulary)
        elif kind < 0.75:
            words.insert(at, rng.choice(vocabulary))
        elif len(words) > 3:
            words.pop(at)
    return " ".join(words)


def novelty(size: int, asked: int) -> dict[str, Any] | None:
    rng, texts = random.Random(0), instructions()
    vocabulary = [word for text in texts for word in text.split()]
    pool = [variant(rng.choice(texts), rng, vocabulary) for _ in range(size)]
    queries = [variant(rng.choice(texts), rng, vocabulary) for _ in range(200)]
    began = time.perf_counter()
    index = NoveltyIndex(pool)
    print(f"{size:,} instructions indexed in {time.perf_counter() - began:.1f} s", file=sys.stderr)
    began = time.perf_counter()
    found = [index.similar(query) is not None for query in queries]
    ours = len(queries) / (time.perf_counter() - began)
    try:
        from rouge_score.rouge_scorer import _score_lcs
        from rouge_score.tokenizers import DefaultTokenizer
    except ModuleNotFoundError:
        print('no peer: pip install rouge_score, or "camelid[test]"', file=sys.stderr)
        return None
    tokenizer = DefaultTokenizer(use_stemmer=False)
    tokens = [tokenizer.tokenize(text) for text in pool]
    began = time.perf_counter()
    decided = []
    for query in queries[:asked]:
        words = tokenizer.tokenize(query)
        decided.append(max(_score_lcs(each, words).fmeasure for each in tokens) >= index.threshold)
    peer = asked / (time.perf_counter() - began)
    if decided != found[:asked]:
        raise SystemExit(f"the decisions differ: {found[:asked]}, by rouge_score {decided}")
    return row(f"novelty among {size:,}", ours, peer, "rouge_score, every pair", "instructions/s")


def answers(model: str, rounds: int) -> dict[str, Any]:
    from camelid.engine.engine import Engine

    asked = [Question(task.id, Conversation((Message("user", task.instruction),))) for task in read_seeds()]
    prompts = [question.conversation for question in asked[:QUESTIONS]]
    lm, ours, peer = Engine.load(model), list[float](), list[float]()
    lm.generate(prompts[:4], max_new_tokens=8)
    for number in range(rounds):
        sampling = Sampling(NEW_TOKENS, 0.7, seed=2 * number)
        began = time.perf_counter()
        done = lm.complete(prompts, sampling)
        peer.append(sum(len(each.tokens) for [each] in done) / (time.perf_counter() - began))
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder) / "replies.jsonl", "bench", "making", "nothing")
            teacher, began = Teacher(lm, journal, tries=1), time.perf_counter()
            make_answers(asked[:QUESTIONS], teacher, replace(sampling, seed=2 * number + 1))
            tokens = sum(reply.tokens or 0 for reply in teacher.replies)
            ours.append(tokens / (time.perf_counter() - began))
    return row("answers", statistics.median(ours), statistics.median(peer), "Engine.generate", "tokens/s")


def row(name: str, ours: float, peer: float, peer_name: str, unit: str) -> dict[str, Any]:
    return {
        "name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ours / peer,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="10,000 instructions instead of 100,000")
    parser.add_argument(
        "--model", help="folder of the teacher for the row `answers`; without it that is left out"
    )
    options = parser.parse_args()
    found = [novelty(10_000, 20) if options.quick else novelty(100_000, 5)]
    if options.model:
        found.append(answers(options.model, 1 if options.quick else 3))
    for each in filter(None, found):
        shown = f"{each['name']}: {each['ours']:,.1f} {each['unit']}, {each['peer_name']} {each['peer']:,.3f}"
        print(json.dumps(each) if options.json else shown)


if __name__ == "__main__":
    main()
