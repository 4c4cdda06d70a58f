"""Tune a pretrained model on conversations of the embedded world, and ask it something.

    python examples/pretrain.py && python examples/tune.py --steps 200

The loss counts the assistant's turns only. Rows of your own look like those written here: one JSON object a
line with `messages`; Alpaca's and ShareGPT's are read too.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import camelid
from camelid import Conversation, Message, TextData, Training, TuneRecipe
from camelid.data import world

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=200, help="updates of 4,096 tokens each")
parser.add_argument(
    "--out", type=Path, default=Path("runs/example"), help="the folder of examples/pretrain.py"
)
arguments = parser.parse_args()
camelid.show_log()

chats = arguments.out / "chats.jsonl"
if not chats.exists():
    conversations = islice(world.conversations("train", seed=0), 20 * arguments.steps + 100)
    rows = (json.dumps({"messages": conversation.as_dicts()}) for conversation in conversations)
    chats.write_text("\n".join(rows), encoding="utf-8")

model = camelid.tune(
    TuneRecipe(
        out=arguments.out / "tune",
        model=str(arguments.out / "pretrain" / "model"),
        data=TextData(train=chats, validation_fraction=0.02),
        too_long="cut",  # keep the turns that fit into the context
        training=Training(
            steps=arguments.steps,
            global_batch_tokens=4096,
            context_length=512,
            learning_rate=1e-3,
            compile=False,
        ),
    )
)
question = Conversation((Message("user", "Please tell me a story."),))
[[reply]] = camelid.LM(model).generate([question], max_new_tokens=80)
print(f"{model}: {reply.text}")
