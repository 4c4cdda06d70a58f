"""Pretrain a small model on stories of the embedded world, and let it continue a sentence.

    python examples/pretrain.py --steps 300          # about two minutes on two cores

Text, vocabulary, model: each stage writes a folder, and the next one reads it. The same call goes on where a
killed one stopped. For a text of your own, point `TextData` at your files.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import camelid
from camelid import ModelShape, PretrainRecipe, TextData, TokenizerRecipe, Training
from camelid.data import world

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=300, help="updates of 4,096 tokens each")
parser.add_argument("--out", type=Path, default=Path("runs/example"), help="folder for all that is made")
arguments = parser.parse_args()
camelid.show_log()

# Text: one JSON object a line. Documents of the world are stories, questions and facts, the same for the same
# seed.
arguments.out.mkdir(parents=True, exist_ok=True)
text = arguments.out / "text.jsonl"
if not text.exists():
    count = 10 * arguments.steps + 100
    rows = (json.dumps({"text": document}) for document in islice(world.documents("train", seed=0), count))
    text.write_text("\n".join(rows), encoding="utf-8")
data = TextData(train=text, validation_fraction=0.02)

# Vocabulary: byte-level BPE, small because the world's English is.
tokenizer = arguments.out / "tokenizer"
if not tokenizer.exists():
    camelid.learn_tokenizer(TokenizerRecipe(out=tokenizer, data=data, vocab_size=2048))

# Model: a LLaMA of 1.3 million parameters.
model = camelid.pretrain(
    PretrainRecipe(
        out=arguments.out / "pretrain",
        data=data,
        tokenizer=tokenizer,
        model=ModelShape(hidden_size=128, num_layers=4, num_heads=2, context_length=512),
        training=Training(
            steps=arguments.steps,
            global_batch_tokens=4096,
            context_length=512,
            learning_rate=3e-3,
            compile=False,
        ),
    )
)
[[completion]] = camelid.LM(model).generate(["Once upon a time"], max_new_tokens=60, temperature=0.7)
print(f"{model}: Once upon a time{completion.text}")
