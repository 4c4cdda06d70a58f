"""The ROUGE-L filter of self-instruct: our index beside comparing with every instruction by `rouge_score`.

Instructions are variants of our 175 seed tasks and, where it is beside the repository, of Alpaca's: words are
exchanged, added and left out, so that many are near the threshold. The peer is the inner loop of the
published code: `_score_lcs` on texts that are tokenised beforehand. Both decide on the same instructions.
"""

import argparse
import gzip
import json
import random
import sys
import time
from pathlib import Path

from camelid.makers.novelty import NoveltyIndex
from camelid.makers.seeds import read_seeds

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="10,000 instructions instead of 100,000")
    options = parser.parse_args()
    size, asked = (10_000, 20) if options.quick else (100_000, 5)
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
        return
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
    row = {
        "name": f"novelty among {size:,}", "ours": ours, "peer": peer, "peer_name": "rouge_score, every pair",
        "unit": "instructions/s", "ratio": ours / peer,
    }  # fmt: skip
    print(json.dumps(row) if options.json else f"{row['name']}: {ours:,.1f}/s, peer {peer:,.3f}/s")


if __name__ == "__main__":
    main()
