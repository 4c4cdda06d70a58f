"""What pretraining gives to a task: python bench/downstream.py SST2_FOLDER STORIES...

STORIES: files or folders of text. SST2_FOLDER: `train.tsv` and `test.tsv` (or .gz) with `sentence` and
`label`. Every row is pretrained by a recipe of recipes/lineage with the flags that are printed, tuned by
recipes/lineage/tune-sst2.yaml, and asked all of `test.tsv` greedily: an answer counts where it is the label's
word to the letter. GFLOP are those of one pretraining update, forward and backward, counted by torch on real
rows. Intervals are Student's 95 % ones over the seeds.
"""

import argparse
import csv
import gzip
import statistics
import tempfile
from pathlib import Path

from variants import STUDENT, camelid, interval

RECIPES = Path(__file__).parents[1] / "recipes" / "lineage"
DECODER, PAIRS = "pretrain-stories-1m.yaml", "pretrain-t5-2m.yaml"
FEELING = ("negative", "positive")
PHRASES_ALIKE = ["--training.global-batch-tokens", 1024]
"""A decoder's packed rows hold about two phrases, an encoder-decoder's one."""
UNTRAINED = "--training.steps 1 --training.learning-rate 1e-12"
ROWS = {
    "decoder, not pretrained": (DECODER, UNTRAINED),
    "decoder, causal": (DECODER, ""),
    "encoder-decoder, not pretrained": (PAIRS, UNTRAINED),
    "encoder-decoder, span corruption": (PAIRS, "--objective.kind span"),
    "encoder-decoder, i.i.d. noise": (PAIRS, "--objective.kind iid"),
    "encoder-decoder, dropped tokens": (PAIRS, "--objective.kind drop"),
    "encoder-decoder, MASS-style": (PAIRS, "--objective.kind mass"),
    "encoder-decoder, BERT-style": (PAIRS, "--objective.kind bert"),
    "encoder-decoder, deshuffling": (PAIRS, "--objective.kind deshuffle"),
    "encoder-decoder, prefix LM": (PAIRS, "--objective.kind prefix_lm"),
}


def labelled(folder: Path, split: str) -> list[tuple[str, str]]:
    """Sentences and their feelings in words."""
    path = next(path for path in (folder / f"{split}.tsv", folder / f"{split}.tsv.gz") if path.exists())
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"], FEELING[int(row["label"])]) for row in rows]


def accuracy(model: Path, asked: list[tuple[str, str]]) -> float:
    """Share of the sentences whose greedy answer is the label."""
    from camelid.data.rows.text_examples import SEPARATOR
    from camelid.engine.engine import Engine

    engine = Engine.load(model)
    end = "" if engine.model.encoder is not None else SEPARATOR
    prompts = [f"sst2 sentence: {sentence}{end}" for sentence, _ in asked]
    answers = engine.generate(prompts, temperature=0, max_new_tokens=8)
    return statistics.mean(answer[0].text == label for answer, (_, label) in zip(answers, asked, strict=True))


def zero_shot(model: Path, asked: list[tuple[str, str]]) -> float:
    """Share of the sentences after which the label's adjective is likelier than the other's."""
    from camelid.engine.engine import Engine

    engine = Engine.load(model)
    words = [" bad", " good"]
    prompts = [f"{sentence.strip()} . it was" for sentence, _ in asked for _ in words]
    scores = engine.score(prompts, words * len(asked))
    liked = [good.logprob > bad.logprob for bad, good in zip(scores[::2], scores[1::2], strict=True)]
    return statistics.mean(
        like == (label == "positive") for like, (_, label) in zip(liked, asked, strict=True)
    )


def cost(run: Path) -> tuple[float, float]:
    """GFLOP of an update, and the tokens that are foretold for each one read."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from camelid import load_model, load_tokenizer
    from camelid.data.rows.batches import PairBatch, batches
    from camelid.recipes.pretrain import PretrainRecipe
    from camelid.recipes.recipe import load_recipe
    from camelid.train.objectives import cross_entropy
    from camelid.train.parallel import ProcessGroup
    from camelid.train.training_rows import text_rows

    recipe = load_recipe(PretrainRecipe, run / "recipe.yaml")
    rows, _ = text_rows(recipe, load_tokenizer(recipe.tokenizer), ProcessGroup())
    model = load_model(run / "model").train()
    batch = next(batches(rows, recipe.training.global_batch_tokens // recipe.training.context_length, 0))
    with FlopCounterMode(display=False) as counter:
        cross_entropy(model, torch.float32)(batch).backward()
    read = batch.source_mask.sum() if isinstance(batch, PairBatch) else batch.tokens.numel()
    return counter.get_total_flops() / 1e9, float(batch.weights.sum() / read)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sst2", type=Path)
    parser.add_argument("stories", nargs="+", type=Path)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, default=3, choices=STUDENT)
    arguments = parser.parse_args()
    asked = labelled(arguments.sst2, "test")
    train = next(arguments.sst2.glob("train.tsv*"))
    usual = max(statistics.mean(label == feeling for _, label in asked) for feeling in FEELING)
    print(f"{len(asked)} sentences; always the more frequent answer: {100 * usual:.1f} %\n")
    print(
        "| pretraining | flags | GFLOP an update | tokens foretold for each read | tuned, % | zero-shot, % |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary = Path(scratch) / "tokenizer"
        text: list[object] = ["--data.train", *arguments.stories]
        sizes = ["--vocab-size", 2148, "--sentinels", 100]
        camelid("tokenizer", "--out", vocabulary, *text, "--data.skip-bad-rows", *sizes)
        for number, name in enumerate(arguments.rows):
            recipe, flags = ROWS[name]
            tuned, untuned = [], []
            for seed in range(arguments.seeds):
                run = Path(scratch) / f"{number}-{seed}"
                data = [*text, "--tokenizer", vocabulary, "--seed", seed]
                camelid("pretrain", RECIPES / recipe, "--out", run, *data, *flags.split())
                task = ["--model", run / "model", "--data.train", train, "--seed", seed]
                task += PHRASES_ALIKE if recipe == DECODER else []
                camelid("tune", RECIPES / "tune-sst2.yaml", "--out", f"{run}-tuned", *task)
                tuned.append(100 * accuracy(Path(f"{run}-tuned") / "model", asked))
                if recipe == DECODER:
                    untuned.append(100 * zero_shot(run / "model", asked))
            flop, foretold = cost(run)
            columns = [
                f"{statistics.mean(each):.1f} ± {interval(each):.1f}" if each else "-"
                for each in (tuned, untuned)
            ]
            spent = "0" if flags == UNTRAINED else f"{flop:.1f}"
            print(
                f"| {name} | `{flags or '-'}` | {spent} | {foretold:.2f} | {' | '.join(columns)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
