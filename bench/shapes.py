"""Depth against width: models of about equal parameters without the vocabulary, trained on the same tokens.

The five shapes have 18,432 to 19,200 layers x width^2, within 5 %. Vocabulary, batch and optimiser are those
of `camelid scale sweep`, and the rate is transferred from its base width by rate x base / width, as there. A
finished shape is not trained again.

    python bench/shapes.py --text FILE --validation FILE --out FOLDER [--steps 400] [--seeds 0 1]
"""

import argparse
from pathlib import Path

from camelid.recipes.data import TextData
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.recipes.training import Training
from camelid.report.training import training_seconds
from camelid.runs.run import METRICS, read_metrics
from camelid.scaling.rates import transferred_rate
from camelid.scaling.reading import run_point
from camelid.train.stages import MODEL, learn_tokenizer, pretrain

SHAPES = ((2, 96), (3, 80), (6, 56), (8, 48), (18, 32))
"""Layers and width."""
HEAD, CONTEXT, BATCH, VOCABULARY = 8, 128, 1024, 512
RATE, BASE_WIDTH = 8e-3, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = parser.parse_args()
    data = TextData(train=(asked.text,), validation=(asked.validation,))
    if not (tokenizer := asked.out / "tokenizer").exists():
        learn_tokenizer(TokenizerRecipe(out=tokenizer, data=data, vocab_size=VOCABULARY))
    print("| layers x width | parameters | without vocabulary | validation loss by seed | tokens/s |")
    print("|---|---|---|---|---|")
    for layers, width in SHAPES:
        recipes = [recipe(data, asked.out, layers, width, asked.steps, seed) for seed in asked.seeds]
        for each in recipes:
            if not (each.out / MODEL).is_dir():
                pretrain(each)
        runs = [run_point(each.out) for each in recipes]
        records = read_metrics(recipes[0].out / METRICS)
        speed = sum(row.get("tokens", 0) for row in records) / training_seconds(records)
        blocks = recipes[0].model.spec(1).parameter_count() - width
        losses = ", ".join(f"{run.loss:.3f}" for run in runs)
        print(f"| {layers} x {width} | {runs[0].parameters:,.0f} | {blocks:,} | {losses} | {speed:,.0f} |")


def recipe(data: TextData, out: Path, layers: int, width: int, steps: int, seed: int) -> PretrainRecipe:
    """The run of a shape."""
    return PretrainRecipe(
        out=out / f"{layers}x{width}-{seed}",
        data=data,
        tokenizer=out / "tokenizer",
        model=ModelShape(
            hidden_size=width,
            num_layers=layers,
            num_heads=width // HEAD,
            feed_forward_width=round(8 * width / 3),
            context_length=CONTEXT,
            tie_embeddings=True,
        ),
        training=Training(
            steps=steps,
            global_batch_tokens=BATCH,
            context_length=CONTEXT,
            optimizer="muon",
            learning_rate=transferred_rate(RATE, BASE_WIDTH, width),
            schedule="cosine",
            min_learning_rate_ratio=0.05,
            warmup_fraction=0.05,
            dtype="float32",
            compile=False,
            validate_every=steps,
            checkpoint_every=steps,
        ),
        seed=seed,
    )


if __name__ == "__main__":
    main()
