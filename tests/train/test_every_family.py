"""Every architecture goes through the same stages: trained, saved, loaded, generating."""

import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.batches import Batch, PairBatch
from camelid.engine.engine import Engine
from camelid.formats.hugging_face.checkpoint import load_checkpoint, save_checkpoint
from camelid.model.architectures import TRAITS
from camelid.model.transformer import Transformer
from camelid.recipes.model_shape import ModelShape
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.train.loop import training_steps
from camelid.train.objectives import cross_entropy
from camelid.train.optim import adamw
from camelid.train.stages import learn_tokenizer, pretrain

SENTENCES = "the cat sat on the mat and the dog ran over to it while a bird sang in the old tree near a lake"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    words = SENTENCES.split()
    documents = [
        " ".join(words[(7 * i + j * (i % 5 + 1)) % len(words)] for j in range(40)) for i in range(200)
    ]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    learn_tokenizer(
        TokenizerRecipe(
            out=folder / "vocabulary",
            data={"train": (folder / "text.jsonl",)},
            vocab_size=420,
            sentinels=40,
        )
    )
    return folder


def recipe(text, out, architecture: str, **flags) -> PretrainRecipe:
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "context_length": 64}
    return load_recipe(
        PretrainRecipe,
        None,
        {
            "out": str(out),
            "data.train": [str(text / "text.jsonl")],
            "data.validation_fraction": 0.05,
            "tokenizer": str(text / "vocabulary"),
            "model.architecture": architecture,
            **{f"model.{key}": value for key, value in sizes.items()},
            "training.steps": 25,
            "training.global_batch_tokens": 512,
            "training.context_length": 64,
            "training.compile": False,
            "training.learning_rate": 3e-3,
            **flags,
        },
    )


@pytest.mark.parametrize("architecture", TRAITS)
def test_pretrained_saved_and_generating(architecture, text, tmp_path):
    folder = pretrain(recipe(text, tmp_path / "run", architecture))
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["validation_loss"] for record in records if "validation_loss" in record]
    assert losses[-1] < losses[0] - 0.3
    engine = Engine.load(folder)
    prompt = "the cat <extra_id_0> mat" if architecture.startswith("t5") else "the cat"
    [[completion]] = engine.generate([prompt], max_new_tokens=5)
    assert completion.tokens


def test_prefix_lm_trains_a_decoder(text, tmp_path):
    pretrain(
        recipe(text, tmp_path / "run", "llama", **{"objective.kind": "prefix_lm", "training.z_loss": 1e-4})
    )


@pytest.mark.parametrize("kind", ["iid", "drop", "bert", "mass", "deshuffle", "prefix_lm"])
def test_every_denoising_trains_an_encoder_decoder(kind, text, tmp_path):
    # Forty sentinels are enough for the noise of 32 tokens.
    flags = {"objective.kind": kind, "training.steps": 2, "training.context_length": 32}
    pretrain(recipe(text, tmp_path / "run", "t5-v1.1", **flags))


@pytest.mark.parametrize(("architecture", "kind"), [("t5", "causal"), ("llama", "span")])
def test_an_objective_of_the_other_kind_of_model_is_refused(architecture, kind, text, tmp_path):
    with pytest.raises(WrongCall, match="encoder"):
        recipe(text, tmp_path / "run", architecture, **{"objective.kind": kind})


def shapes():
    return st.builds(
        dict,
        architecture=st.sampled_from(sorted(TRAITS)),
        hidden_size=st.sampled_from((16, 24)),
        num_layers=st.integers(1, 3),
        num_heads=st.sampled_from((1, 2, 4)),
        num_kv_heads=st.none(),
        norm=st.sampled_from((None, "rms", "layer")),
        feed_forward=st.sampled_from((None, "swiglu", "geglu", "gelu", "relu")),
        positions=st.sampled_from((None, "rotary", "learned", "relative")),
        parallel=st.sampled_from((None, True, False)),
        window=st.sampled_from((None, 1, 5)),
        tie_embeddings=st.sampled_from((None, True, False)),
        dropout=st.sampled_from((0.0, 0.2)),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes())
def test_any_valid_shape_trains_saves_loads_and_goes_on(tmp_path_factory, sizes):
    try:
        spec = ModelShape(context_length=24, **sizes).spec(50)
    except (CamelidError, ValueError):
        return
    model = Transformer(spec).initialize(0)
    ids = torch.randint(0, 50, (2, 12))
    ones, positions = torch.ones(2, 12), torch.arange(12).expand(2, 12)
    batch = (
        PairBatch(ids, ids >= 0, ids, ids, ones)
        if spec.encoder_layers
        else Batch(ids, ids, ones, torch.zeros_like(ids), positions)
    )
    optimizer = adamw(model.named_parameters(), weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
    [step] = training_steps(
        model, [batch], cross_entropy(model), optimizer, lambda _: 1e-3, micro_batch_size=1, gradient_clip=1.0
    )
    assert math.isfinite(step.loss)
    assert all(parameter.grad is None for parameter in model.parameters())
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(folder, model)
    again = load_checkpoint(folder)
    assert again.spec == spec
    model.eval()
    with torch.inference_mode():
        asked = (ids, ids[:, :4]) if spec.encoder_layers else (ids,)
        assert torch.equal(model(*asked), again(*asked))
