"""Whoever reads a linear layer's weight by itself refuses layers that compute something else; torch computes
them all."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from native_models import NEEDS_COMPILER, PLAIN, close, extend, fresh, ids, random_model
from torch import Tensor, nn

from camelid.base.errors import CamelidError
from camelid.engine.decoder import TorchDecoder
from camelid.engine.engine import Engine
from camelid.engine.native.decoder import NativeDecoder, supports
from camelid.formats.hugging_face.checkpoint import load_checkpoint, save_checkpoint
from camelid.formats.packed.storage import save_quantized
from camelid.model.layers import Linear
from camelid.model.linears import kind_of, linears
from camelid.model.surgery import replace
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear, pack, packed_linears
from camelid.quant.quantize import Calibrated, quantize_head, quantize_model, unpack_model
from camelid.quant.round_to_nearest import round_to_nearest
from camelid.text.tokenizer import Tokenizer

SPEC = dataclasses.replace(PLAIN, vocab_size=320)
UP, HEAD = "layers.1.mlp.up_proj", "lm_head"


class LowRank(Linear):
    """A subclass that says nothing of its kind: W x + A B x."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight = base.weight
        self.a, self.b = (nn.Parameter(torch.randn(size, 2) * 0.2) for size in base.weight.shape)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.b.to(x.dtype) @ self.a.T.to(x.dtype)

    def merged(self) -> Linear:
        plain = Linear(self.in_features, self.out_features, bias=False)
        plain.weight = nn.Parameter(self.weight + self.a @ self.b.T)
        return plain


class Declared(LowRank):
    """The same, which says what it is."""

    linear_kind = "lora"


class Doubled(nn.Module):
    """A module of other make, whose `weight` is not what it multiplies by."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = base.weight, None
        self.in_features, self.out_features = base.in_features, base.out_features

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, 2 * self.weight.to(x.dtype))

    def merged(self) -> Linear:
        plain = Linear(self.in_features, self.out_features, bias=False)
        plain.weight = nn.Parameter(2 * self.weight)
        return plain


class Wrapped(nn.Module):
    """A plain layer inside of another module."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.in_features, self.out_features = base, base.in_features, base.out_features

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.base(x)

    def merged(self) -> Linear:
        return Doubled(self.base).merged()


KINDS = (LowRank, Declared, Doubled, Wrapped)
EVERYWHERE = [(kind, path) for kind in KINDS for path in (UP, HEAD)]


def changed(kind: Callable[[nn.Linear], nn.Module], path: str) -> tuple[Transformer, Transformer]:
    """A model with a layer of another kind, and the plain one that computes the same."""
    model, merged = random_model(SPEC), random_model(SPEC)
    torch.manual_seed(0)
    layer = kind(linears(model)[path])  # type: ignore[arg-type]
    replace(model, path, layer)
    replace(merged, path, layer.merged())  # type: ignore[operator]
    return model, merged


def test_only_what_a_class_declares_of_itself_counts() -> None:
    base = nn.Linear(4, 8, bias=False)
    assert kind_of(base) == kind_of(Linear(4, 8)) == "plain"
    assert [kind_of(kind(base)) for kind in KINDS] == [None, "lora", None, None]
    packed = pack(round_to_nearest(torch.randn(32, 32), 4, 32))
    assert kind_of(packed) == "packed"
    packed.__class__ = type("Louder", (PackedLinear,), {})
    assert kind_of(packed) is None
    of_one = Linear(4, 8)
    of_one.forward = lambda x: x  # type: ignore[method-assign]
    assert kind_of(of_one) is None
    model, _ = changed(Wrapped, UP)
    assert [path for path in linears(model) if path.startswith(UP)] == [UP]


@NEEDS_COMPILER
@pytest.mark.parametrize(("kind", "path"), EVERYWHERE)
def test_generation_computes_them_in_torch(
    kind: Callable[[nn.Linear], nn.Module], path: str, tokenizer: Tokenizer
) -> None:
    model, merged = changed(kind, path)
    assert supports(merged, torch.float32)
    assert not supports(model, torch.float32)
    assert isinstance(Engine(model, tokenizer).decoder, TorchDecoder)
    with pytest.raises(CamelidError, match=path):
        NativeDecoder(model, torch.float32, 64)
    logits = [
        extend(decoder := make(each, torch.float32, 64), fresh(decoder, 1), [ids(9)], True)
        for make, each in ((TorchDecoder, model), (NativeDecoder, merged))
    ]
    assert close(*logits, torch.float32)
    plain = TorchDecoder(random_model(SPEC), torch.float32, 64)
    assert not close(logits[0], extend(plain, fresh(plain, 1), [ids(9)], True), torch.float32)


@pytest.mark.parametrize(("kind", "path"), EVERYWHERE)
def test_quantising_and_saving_refuse_them(
    kind: Callable[[nn.Linear], nn.Module], path: str, tmp_path: Path
) -> None:
    model, _ = changed(kind, path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    refused = pytest.raises(CamelidError, match=rf"^{path} is a {kind.__name__}, .*merge")
    calibrated = Calibrated("awq", torch.zeros(1, 4, dtype=torch.int64))
    with refused:
        quantize_model(model, 4, 32, ["layers.0.*_proj"])
    with refused:
        quantize_model(model, 4, 32, calibrated=calibrated)
    with refused:
        quantize_head(model, 8)
    with refused:
        save_checkpoint(tmp_path, model)
    assert not [*tmp_path.iterdir()]
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_saving_refuses_what_stands_beside_packed_layers(tmp_path: Path) -> None:
    model = quantize_model(random_model(SPEC), 4, 32)
    replace(model, HEAD, LowRank(linears(model)[HEAD]))  # type: ignore[arg-type]
    with pytest.raises(CamelidError, match=r"^lm_head is a LowRank, .*merge"):
        save_quantized(tmp_path, model)


def test_a_plain_folder_holds_no_packed_layers(tmp_path: Path) -> None:
    model = quantize_model(random_model(SPEC), 4, 32)
    paths = list(packed_linears(model))
    with pytest.raises(CamelidError, match=rf"^{paths[0]} is a PackedLinear, .*unpack"):
        save_checkpoint(tmp_path, model)
    save_checkpoint(tmp_path, unpack_model(model))
    assert load_checkpoint(tmp_path).state_dict().keys() == model.state_dict().keys()
    assert not packed_linears(model)
    assert len(paths) == 7 * SPEC.num_layers
