"""The survey's claims about reasoning, measured on models trained here: docs/reasoning.md.

    python bench/reasoning.py train                 # text, vocabulary and the models of four sizes
    python bench/reasoning.py tune                  # the middle claims' models, tuned with and without steps
    python bench/reasoning.py measure               # all claims, or those named: measure length votes
    python bench/reasoning.py write                 # the tables and plots of docs/reasoning.md

Everything lies in --out (runs/reasoning) and is made once; what exists is kept, and a stopped call goes on.
Each claim's numbers become a file in docs/reasoning, from which `write` makes the page.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from reasoning_chains import shuffled_steps, wrong_steps
from reasoning_claims import CLAIMS, MAIN, SIZES, TUNED
from reasoning_documents import TRAINED, Solved, document, drawn, write_corpus
from reasoning_page import DATA, write_page

from camelid import TextData, TokenizerRecipe, learn_tokenizer
from camelid.base.json import write_json
from camelid.data.world.grammar import Dice
from camelid.tasks.item import Item

RECIPES = Path(__file__).parents[1] / "recipes" / "reasoning"
CORPUS, VOCABULARY, HELD_OUT = 8_000_000, 4_000_000, 300
"""Characters of the corpus and of its beginning that the vocabulary is learned from; held-out documents."""
PAIRS = 8000
SPOILED: dict[str, Callable[[Item, Dice], Item]] = {"shuffled": shuffled_steps, "wrong": wrong_steps}


def camelid(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "camelid", *map(str, arguments)], check=True)


def train(out: Path, sizes: list[str], seeds: list[int]) -> None:
    """The corpus, its vocabulary, and a model of each size and seed."""
    out.mkdir(parents=True, exist_ok=True)
    corpus, held_out, tokenizer = out / "corpus.jsonl", out / "validation.jsonl", out / "tokenizer"
    if not tokenizer.exists():
        write_corpus(corpus, CORPUS, seed=0)
        texts = (document(Dice("held out", index)) for index in range(HELD_OUT))
        held_out.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        beginning = out / "vocabulary.jsonl"
        write_corpus(beginning, VOCABULARY, seed=0)
        learn_tokenizer(TokenizerRecipe(out=tokenizer, data=TextData(train=[beginning]), vocab_size=640))
    for seed in seeds:
        for size in sizes:
            width, layers, heads = SIZES[size]
            shape = ["--model.hidden-size", width, "--model.num-layers", layers, "--model.num-heads", heads]
            data = ["--data.train", corpus, "--data.validation", held_out, "--tokenizer", tokenizer]
            folder = out / name_of(size, seed)
            if not (folder / "model").exists():
                camelid(
                    "pretrain",
                    RECIPES / "pretrain-questions.yaml",
                    *data,
                    *shape,
                    "--seed",
                    seed,
                    "--out",
                    folder,
                )


def name_of(size: str, seed: int) -> str:
    """The folder of a model in the output folder."""
    return size if seed == 0 else f"{size}-{seed}"


def tune(out: Path, kinds: list[str]) -> None:
    """The large model tuned on sums, with each kind of reply."""
    for kind in kinds:
        folder, pairs = out / f"sums-{kind}", out / f"sums-{kind}.jsonl"
        if not (folder / "model").exists():
            pairs.write_text("".join(json.dumps(row) + "\n" for row in tuning_rows(kind)), encoding="utf-8")
            flags = ["--model", out / MAIN / "model", "--data.train", pairs, "--out", folder]
            camelid("tune", RECIPES / "tune-skill.yaml", *flags)


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


def measure(out: Path, claims: list[str]) -> None:
    """The numbers of each claim, as a JSON file that the page is made from."""
    for claim in claims:
        rows = CLAIMS[claim](out)
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
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    if unknown := set(arguments.claims) - CLAIMS.keys():
        parser.error(f"no claim {', '.join(sorted(unknown))}; the claims are {', '.join(CLAIMS)}")
    if arguments.what == "train":
        train(arguments.out, arguments.sizes, arguments.seeds)
    elif arguments.what == "tune":
        tune(arguments.out, arguments.kinds)
    elif arguments.what == "measure":
        measure(arguments.out, arguments.claims or list(CLAIMS))
    else:
        write_page()


if __name__ == "__main__":
    main()
