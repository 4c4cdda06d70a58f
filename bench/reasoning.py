"""The survey's claims about reasoning, measured on models trained here: docs/reasoning.md.

    python bench/reasoning.py train                 # text, vocabulary and models of four sizes
    python bench/reasoning.py tune                  # the largest ones tuned, with and without steps
    python bench/reasoning.py measure               # all claims, or those named: measure length votes
    python bench/reasoning.py write                 # the tables and plots of docs/reasoning.md

Everything lies in --out (runs/reasoning), the models and answers of each of --seeds in a folder of their own.
What exists is kept, and a stopped call goes on. Each claim's numbers become a file in docs/reasoning, from
which `write` makes the page.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instruction_runs import camelid
from reasoning_chains import shuffled_steps, wrong_steps
from reasoning_claims import MAIN, SIZES, TUNED, chains, fragile, length, parts, sizes, spoiled, tuned
from reasoning_documents import TRAINED, Solved, document, drawn, write_corpus
from reasoning_page import DATA, write_page
from reasoning_verifier import GENERATOR, SMALLER, verifier
from reasoning_votes import EARLY, EARLY_UPDATES, votes

from camelid import TextData, TokenizerRecipe, learn_tokenizer
from camelid.base.atomic import write_text_atomically
from camelid.base.json import json_line, write_json
from camelid.data.world.grammar import Dice
from camelid.tasks.item import Item

RECIPES = Path(__file__).parents[1] / "recipes" / "reasoning"
CORPUS, VOCABULARY, HELD_OUT = 12_000_000, 4_000_000, 300
"""Characters of the corpus and of its beginning that the vocabulary is learned from; held-out documents."""
PAIRS = 8000
CLAIMS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    each.__name__: each for each in (length, tuned, sizes, votes, parts, fragile, spoiled, verifier, chains)
}
ERRING = (SMALLER, GENERATOR)
SPOILED: dict[str, Callable[[Item, Dice], Item]] = {"shuffled": shuffled_steps, "wrong": wrong_steps}


def train(out: Path, sizes: list[str], seeds: list[int]) -> None:
    """The corpus and its vocabulary, which all seeds share, and a model of each size and seed; of the middle
    size also one with fewer updates, which errs more.
    """
    out.mkdir(parents=True, exist_ok=True)
    corpus, held_out, tokenizer = out / "corpus.jsonl", out / "validation.jsonl", out / "tokenizer"
    if not tokenizer.exists():
        write_corpus(corpus, CORPUS, seed=0)
        texts = (document(Dice("held out", index)) for index in range(HELD_OUT))
        write_text_atomically(held_out, "".join(json_line({"text": text}) for text in texts))
        beginning = out / "vocabulary.jsonl"
        write_corpus(beginning, VOCABULARY, seed=0)
        learn_tokenizer(TokenizerRecipe(out=tokenizer, data=TextData(train=[beginning]), vocab_size=640))
    for seed in seeds:
        for size in sizes:
            width, layers, heads = SIZES[size]
            shape = ["--model.hidden-size", width, "--model.num-layers", layers, "--model.num-heads", heads]
            data = ["--data.train", corpus, "--data.validation", held_out, "--tokenizer", tokenizer]
            names = {size: [], EARLY: ["--training.steps", EARLY_UPDATES]} if size == "middle" else {size: []}
            for name, less in names.items():
                folder = of_seed(out, seed) / name
                if not (folder / "model").exists():
                    more = [*less, "--seed", seed, "--out", folder]
                    camelid("pretrain", RECIPES / "pretrain-questions.yaml", *data, *shape, *more)


def of_seed(out: Path, seed: int) -> Path:
    """The folder of a seed's models and answers."""
    return out / f"seed-{seed}"


def tune(out: Path, kinds: list[str], seeds: list[int]) -> None:
    """The large model of each seed tuned on sums, with each kind of reply; with steps also a small one, whose
    solutions the verifier rates.
    """
    for kind in kinds:
        pairs = out / f"sums-{kind}.jsonl"
        if not pairs.exists():
            write_text_atomically(pairs, "".join(json_line(row) for row in tuning_rows(kind)))
        for seed in seeds:
            models = of_seed(out, seed)
            for size, name in [(MAIN, f"sums-{kind}"), *([ERRING] if kind == "steps" else [])]:
                if not (models / name / "model").exists():
                    flags = ["--model", models / size / "model", "--data.train", pairs, "--seed", seed]
                    camelid("tune", RECIPES / "tune-skill.yaml", *flags, "--out", models / name)


def tuning_rows(kind: str) -> list[dict[str, str]]:
    """Questions of trained lengths with their replies, which a decoder reads joined by a line break."""
    dice, rows = Dice("tune"), []
    for _ in range(PAIRS):
        problem = drawn("sums", "train", dice, dice.pick(TRAINED))
        item = Item("", problem.question, problem.answer, rationale=problem.steps)
        item = SPOILED.get(kind, lambda item, _: item)(item, Dice("spoil", problem.question))
        steps = "" if kind == "direct" else item.rationale
        question, mark, reply = Solved(item.question, item.answer, steps).text().partition("\nA:")
        rows.append({"input": question, "target": mark[1:] + reply})
    return rows


def measure(out: Path, claims: list[str], seeds: list[int]) -> None:
    """The numbers of each claim, as a JSON file that the page is made from."""
    for claim in claims:
        rows = [{"seed": seed, **row} for seed in seeds for row in CLAIMS[claim](of_seed(out, seed))]
        DATA.mkdir(exist_ok=True)
        write_json(DATA / f"{claim}.json", {"rows": rows})
        print(f"{claim}: {len(rows)} rows", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "tune", "measure", "write"))
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"for measure: {', '.join(CLAIMS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/reasoning"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=TUNED, default=list(TUNED))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    if unknown := set(arguments.claims) - CLAIMS.keys():
        parser.error(f"no claim {', '.join(sorted(unknown))}; the claims are {', '.join(CLAIMS)}")
    if arguments.what == "train":
        train(arguments.out, arguments.sizes, arguments.seeds)
    elif arguments.what == "tune":
        tune(arguments.out, arguments.kinds, arguments.seeds)
    elif arguments.what == "measure":
        measure(arguments.out, arguments.claims or list(CLAIMS), arguments.seeds)
    else:
        write_page()


if __name__ == "__main__":
    main()
