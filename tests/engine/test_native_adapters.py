"""The decoder in C computes adapters unmerged, as torch does, over float and packed weights."""

import pytest
import torch
from native_models import NEEDS_COMPILER, PLAIN, SPECS, close, extend, fresh, ids, random_model

from camelid.engine.decoder import TorchDecoder
from camelid.engine.native.decoder import NativeDecoder, supports
from camelid.model.adapters import adapted, add_lora
from camelid.model.lora import LoRA
from camelid.model.transformer import Transformer
from camelid.quant.quantize import quantize_model

pytestmark = NEEDS_COMPILER


@torch.no_grad()
def with_adapter(model: Transformer, targets: tuple[str, ...], rank: int) -> Transformer:
    add_lora(model, LoRA(rank, 2.0 * rank), targets).eval()
    generator = torch.Generator().manual_seed(3)
    for module in adapted(model).values():
        module.lora_b.uniform_(-0.3, 0.3, generator=generator)
    return model


CASES = {
    "all": (("*layers.*_proj",), 8, "plain"),
    "keys and the up projection": (("*.k_proj", "*.up_proj"), 3, "plain"),
    "one layer": (("layers.1.*down_proj", "layers.1.*.q_proj"), 33, "sizes that fill no vector"),
    "biases": (("*layers.*_proj",), 5, "biases"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_c_and_torch_agree(name: str, dtype: torch.dtype) -> None:
    targets, rank, spec = CASES[name]
    model = with_adapter(random_model(SPECS[spec]).to(dtype), targets, rank)
    assert agree(model, dtype)


@pytest.mark.parametrize("bits", [4, 8])
def test_over_packed_weights(bits: int) -> None:
    model = with_adapter(quantize_model(random_model(PLAIN), bits, 32), ("*layers.*_proj",), 4)
    assert agree(model, torch.float32)


def agree(model: Transformer, dtype: torch.dtype) -> bool:
    """Whether C supports the model and gives torch's logits for several tokens at once and for one."""
    if not supports(model, dtype):
        return False
    ours, theirs = NativeDecoder(model, dtype, 256), TorchDecoder(model, dtype, 256)
    rows = [ids(20, 1), ids(3, 2)]
    found = [
        [extend(each, fresh(each, 2), tokens, True) for each in (ours, theirs)]
        for tokens in (rows, [row[:1] for row in rows])
    ]
    return all(close(*both, dtype) for both in found)


def test_changed_adapters_are_noticed_and_read_again() -> None:
    model = with_adapter(random_model(PLAIN), ("*layers.*_proj",), 4)
    decoder = NativeDecoder(model, torch.float32, 64)
    before = extend(decoder, fresh(decoder, 1), [ids(5, 1)])
    with torch.no_grad():
        next(iter(adapted(model).values())).lora_b.add_(0.5)
    assert decoder.weights.changed
    decoder.renew()
    assert not torch.allclose(extend(decoder, fresh(decoder, 1), [ids(5, 1)]), before)
