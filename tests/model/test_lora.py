"""LoRA's layer against its formula, and adapters put on, merged and frozen."""

import pytest
import torch

from camelid.base.errors import CamelidError
from camelid.model.adapters import adaptable, adapted, add_lora, merge_adapters
from camelid.model.lora import LoRA
from camelid.model.spec import FeedForward, Learned, ModelSpec, Norm, RelativeBuckets
from camelid.model.transformer import Transformer

SIZES = {"vocab_size": 40, "hidden_size": 12, "num_layers": 2, "num_heads": 3, "context_length": 16}
ALL = ("*layers.*_proj",)
TOKENS = torch.arange(12).view(2, 6)


def llama(**changes: object) -> ModelSpec:
    return ModelSpec.llama(**(SIZES | changes))  # type: ignore[arg-type]


def filled(spec: ModelSpec, settings: LoRA, targets: tuple[str, ...] = ALL) -> Transformer:
    """A model with random weights and updates that are not 0, in float64."""
    model = add_lora(Transformer(spec).initialize(0, std=0.3), settings, targets).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in adapted(model).values():
            module.lora_b.normal_(generator=generator)
    return model


def test_the_update_is_alpha_over_rank_times_b_a() -> None:
    settings = LoRA(3, 6.0)
    module = adapted(filled(llama(), settings))["layers.0.mlp.up_proj"]
    x = torch.randn(5, 12, dtype=torch.float64)
    weight = module.base.weight + 2.0 * module.lora_b @ module.lora_a
    torch.testing.assert_close(module(x), x @ weight.T)
    assert LoRA(4, 6.0, rank_stabilised=True).scale == 3.0


def test_a_new_adapter_changes_nothing_and_alone_is_trained() -> None:
    model = Transformer(llama()).initialize(0, std=0.3).eval()
    before = model(TOKENS)
    add_lora(model, LoRA(2, 8.0), ("*.q_proj", "!layers.0.*"))
    assert torch.equal(model(TOKENS), before)
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    assert trained == ["layers.1.self_attn.q_proj.lora_a", "layers.1.self_attn.q_proj.lora_b"]
    drawn = model.layers[1].self_attn.q_proj.lora_a.detach()
    assert 0.8 * 12**-0.5 < drawn.abs().max() <= 12**-0.5


T5 = ModelSpec(
    **SIZES | {"num_kv_heads": 3, "head_dim": 4},
    feed_forward=FeedForward(20, "geglu"),
    positions=RelativeBuckets(8, 12),
    norm=Norm(),
    encoder_layers=2,
)
GPT2 = ModelSpec(
    **SIZES | {"num_kv_heads": 3, "head_dim": 4},
    feed_forward=FeedForward(20, "gelu", bias=True),
    positions=Learned(),
    norm=Norm("layer", bias=True),
    attention_bias="all",
)


@pytest.mark.parametrize("spec", [llama(num_kv_heads=1), GPT2, T5], ids=["llama", "gpt2", "t5"])
def test_merged_equals_unmerged(spec: ModelSpec) -> None:
    model = filled(spec, LoRA(2, 8.0, rank_stabilised=True))
    inputs = (TOKENS, TOKENS) if spec.encoder_layers else (TOKENS,)
    with torch.no_grad():
        before = model(*inputs)
        merge_adapters(model)
        assert not adapted(model)
        torch.testing.assert_close(model(*inputs), before, rtol=0, atol=1e-5)  # B A is a float32 product


def test_a_pattern_that_matches_nothing_names_what_there_is() -> None:
    with pytest.raises(CamelidError, match=r"'\*\.query' matches nothing.*layers\.0\.self_attn\.q_proj"):
        add_lora(Transformer(llama()), LoRA(2, 8.0), ("*.query",))
    untied = Transformer(llama(tie_embeddings=False))
    assert "lm_head" not in adaptable(untied)
    with pytest.raises(CamelidError, match="takes no update"):
        add_lora(add_lora(untied, LoRA(2, 8.0), ("*.q_proj",)), LoRA(2, 8.0), ("*.q_proj",))


def test_dropout_draws_for_each_linear_and_row_by_its_seed() -> None:
    model = filled(llama(), LoRA(2, 8.0, dropout=0.5)).train()
    seeds = torch.tensor([5, 6])
    both = model(TOKENS, dropout_seeds=seeds)
    assert torch.equal(model(TOKENS, dropout_seeds=seeds), both)
    torch.testing.assert_close(model(TOKENS[1:], dropout_seeds=seeds[1:]), both[1:])
    assert not torch.equal(model(TOKENS, dropout_seeds=seeds + 1), both)
    with pytest.raises(CamelidError, match="dropout_seeds"):
        model(TOKENS)
    gate, up = (adapted(model)[f"layers.0.mlp.{name}"] for name in ("gate_proj", "up_proj"))
    assert gate.site != up.site
    ones = torch.ones(1, 4, 12, dtype=torch.float64)
    for module in (gate, up):
        module.lora_a.data.fill_(1)  # s B A x then counts the inputs that were kept
    counts = [module(ones, seeds[:1]) - module.base(ones) for module in (gate, up)]
    assert not torch.equal(counts[0] / gate.lora_b.sum(1), counts[1] / up.lora_b.sum(1))
