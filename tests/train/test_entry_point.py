"""Every pass goes through the modules' own `forward`, so that hooks (of FSDP2) see it: training, validation,
generation."""

from collections import Counter

import numpy as np
import pytest
import torch

from camelid.data.rows.batches import collate
from camelid.data.rows.packing import Row
from camelid.data.rows.pairs import pair
from camelid.engine.engine import Engine
from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.text.tokenizer import train_tokenizer
from camelid.train.loop import training_steps
from camelid.train.objectives import cross_entropy
from camelid.train.validation import validation_loss

KINDS = ("tied", "untied", "encoder-decoder")
VOCAB = 300


def model_of(kind):
    architecture = "t5" if kind == "encoder-decoder" else "llama"
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "context_length": 32, "dropout": 0.0}
    tied = None if kind == "encoder-decoder" else kind == "tied"
    shape = ModelShape(architecture=architecture, tie_embeddings=tied, **sizes)
    return Transformer(shape.spec(VOCAB)).initialize(0)


def rows_of(kind):
    """Four rows; weights differ from token to token."""
    generator = np.random.default_rng(0)
    ids = generator.integers(0, VOCAB, (4, 13))
    if kind == "encoder-decoder":
        return [pair(row[:8], row[8:], 0) for row in ids]
    weights = generator.random((4, 12)).astype(np.float32)
    documents, positions = np.zeros(12, dtype=np.int64), np.arange(12)
    return [
        Row(row[:-1], row[1:], weight, documents, positions) for row, weight in zip(ids, weights, strict=True)
    ]


class Rows:
    def __init__(self, kind):
        self.rows = rows_of(kind)
        self.context, self.per_epoch, self.digest = 12, len(self.rows), ""

    def __getitem__(self, index):
        return self.rows[index % self.per_epoch]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def hooked(kind):
    """A model, and how often a forward hook of the root, the encoder and the output projection has fired."""
    model, fired = model_of(kind), Counter()
    watched = {"root": model, "encoder": model.encoder, "head": model.head}
    for name, module in watched.items():
        if module is not None:
            module.register_forward_hook(lambda *_, name=name: fired.update([name]))
    for block in model.layers:
        block.register_forward_hook(lambda *_: fired.update(["blocks"]))
    return model, fired


def expected(model, passes):
    """What a number of whole forward passes fires; a tied head is the embedding, which fires for tokens
    too."""
    counts = Counter(root=passes, blocks=passes * len(model.layers), head=passes)
    if model.lm_head is None:
        counts["head"] += passes * len(model.stacks)
    if model.encoder is not None:
        counts["encoder"] = passes
    return counts


def test_training_fires_the_hooks_once_a_micro_batch(kind, hooked):
    model, fired = hooked
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batch = collate(rows_of(kind))
    settings = {"micro_batch_size": 2, "gradient_clip": 1.0}
    list(training_steps(model, [batch], cross_entropy(model), optimizer, lambda _: 0.1, **settings))
    assert fired == expected(model, 2)


def test_validation_fires_the_hooks_once_a_batch(kind, hooked):
    model, fired = hooked
    validation_loss(model, Rows(kind), np.ones(VOCAB, dtype=np.int64), torch.float32, 1)
    assert fired == expected(model, 4)


def test_generation_fires_the_hooks_once_a_step(kind, hooked):
    model, fired = hooked
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 8, VOCAB, sentinels=VOCAB - 280)
    engine = Engine(model, tokenizer, native=False)
    [[completion]] = engine.generate(["the cat"], max_new_tokens=3)
    assert len(completion.tokens) == 3
    encoders = int(model.encoder is not None)
    # The first pass gives the first token; an encoder's pass goes through the root, too.
    assert fired["root"] == 3 + encoders
    assert fired["blocks"] == 3 * len(model.layers)
    assert fired["encoder"] == encoders
    assert fired["head"] == (6 + encoders if model.lm_head is None else 3)


def test_encoding_fires_the_hooks_of_root_and_encoder():
    model, fired = model_of("encoder-decoder"), Counter()
    model.register_forward_hook(lambda *_: fired.update(["root"]))
    model.encoder.register_forward_hook(lambda *_: fired.update(["encoder"]))
    model.encode(torch.zeros(1, 4, dtype=torch.long))
    assert fired == {"root": 1, "encoder": 1}
