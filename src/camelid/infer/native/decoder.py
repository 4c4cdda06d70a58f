"""The decoder of `decoder.c` over a `Transformer`'s weights: a whole step is one call."""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int32, c_void_p
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from camelid.errors import CamelidError
from camelid.infer.native.build import library
from camelid.model.rotary import inverse_frequencies, rotation
from camelid.model.spec import ModelSpec, Rotary
from camelid.model.surgery import linears
from camelid.model.transformer import Transformer
from camelid.quant.packed import PackedLinear

KINDS = {torch.float32: 0, torch.bfloat16: 1}
PACKED_KINDS = {8: 2, 4: 3}
LANES = 32
CHUNK_ROWS = 512
"""Rows of one call; longer prompts take several, which bounds the memory of a step."""


def _structure(name: str, **fields: object) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _integers(*names: str) -> dict[str, object]:
    return dict.fromkeys(names, c_int32)


def _pointers(*names: str) -> dict[str, object]:
    return dict.fromkeys(names, c_void_p)


# The structures of decoder.c, field by field.
PROJECTIONS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORMS = {"attention_norm": "input_layernorm.weight", "mlp_norm": "post_attention_layernorm.weight"}
CLinear = _structure(
    "CLinear",
    **_pointers("weight", "bias", "scales", "zeros"),
    **_integers("kind", "outer", "inner", "group"),
)
CLayer = _structure("CLayer", **_pointers(*NORMS), **dict.fromkeys(PROJECTIONS, CLinear))
CModel = _structure(
    "CModel",
    **_integers(
        "kind",
        "layers",
        "width",
        "heads",
        "kv_heads",
        "head_dim",
        "hidden",
        "vocab",
        "slots",
        "capacity",
        "widen",
    ),
    eps=c_float,
    layer=POINTER(CLayer),
    **_pointers("embedding", "norm"),
    unembedding=CLinear,
    **_pointers("cosine", "sine", "keys", "values"),
)
CBatch = _structure(
    "CBatch",
    **_integers("rows", "wanted"),
    **_pointers("tokens", "slots", "positions", "wanted_rows", "logits"),
)
CSummary = _structure(
    "CSummary", logits=c_void_p, **_integers("rows", "vocab"), **_pointers("greedy", "log_total")
)


def supports(model: Transformer, dtype: torch.dtype) -> bool:
    """Whether the native decoder computes this model: on the CPU, float32 or bfloat16, linears plain or packed."""
    if not _is_llama(model.spec):
        return False
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    found = _projections(model)
    known = all(
        f"layers.{i}.{name}" in found for i in range(len(model.layers)) for name in PROJECTIONS.values()
    )
    return on_cpu and known and dtype in KINDS


@cache
def _widen_from() -> int:
    """Rows from which bfloat16 products are done in float32, timed once: all decoders of a process compute alike."""
    return int(library().camelid_widen_from())


def _is_llama(spec: ModelSpec) -> bool:
    """Whether the blocks are LLaMA's, save for biases."""
    return (
        isinstance(spec.positions, Rotary)
        and spec.norm.kind == "rms"
        and spec.feed_forward.kind == "swiglu"
        and spec.window is None
        and spec.output_scale == 1
        and not (spec.parallel or spec.query_key_norm or spec.encoder_layers)
    )


def _projections(model: Transformer) -> dict[str, nn.Linear | PackedLinear]:
    packed = {path: module for path, module in model.named_modules() if isinstance(module, PackedLinear)}
    return {**linears(model), **packed}


class NativeDecoder:
    """See `camelid.infer.decoder.Decoder`; weights that are already in `dtype` are used where they lie."""

    def __init__(self, model: Transformer, dtype: torch.dtype, slots: int, capacity: int) -> None:
        spec = model.spec
        self.spec, self.dtype, self.lengths = spec, dtype, [0] * slots
        self._step = library().camelid_step
        self._step.argtypes, self._step.restype = [c_void_p, c_void_p, c_int], c_int
        self._summarise = library().camelid_summarise
        self._summarise.argtypes, self._summarise.restype = [c_void_p, c_int], None
        self._kept: list[object] = []
        shape = (spec.num_layers, slots, spec.num_kv_heads, capacity, -(-spec.head_dim // LANES) * LANES)
        self.keys, self.values = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
        assert isinstance(spec.positions, Rotary)  # `supports` has said so
        angles = rotation(torch.arange(capacity), inverse_frequencies(spec.positions, spec.head_dim))
        cosine, sine = (side[:, : spec.head_dim // 2] for side in angles)
        embedding = self._address(model.embed_tokens.weight, dtype)
        self._model = CModel(
            kind=KINDS[dtype],
            layers=spec.num_layers,
            width=spec.hidden_size,
            heads=spec.num_heads,
            kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            hidden=spec.feed_forward.width,
            vocab=spec.vocab_size,
            slots=slots,
            capacity=capacity,
            widen=_widen_from(),
            eps=spec.norm.eps,
            layer=self._layers(model),
            embedding=embedding,
            norm=self._address(model.norm.weight),
            unembedding=CLinear(
                weight=embedding if model.lm_head is None else self._address(model.lm_head.weight, dtype),
                kind=KINDS[dtype],
                outer=spec.vocab_size,
                inner=spec.hidden_size,
            ),
            cosine=self._address(cosine),
            sine=self._address(sine),
            keys=self.keys.data_ptr(),
            values=self.values.data_ptr(),
        )

    def extend(
        self, first_slot: int, tokens: Sequence[Sequence[int]], every: bool = False
    ) -> Float[Tensor, "rows vocab"]:
        """See `Decoder.extend`."""
        rows: list[tuple[int, int, int, bool]] = []
        for slot, ids in enumerate(tokens, first_slot):
            begin, last = self.lengths[slot], len(ids) - 1
            if begin + len(ids) > self.keys.shape[3]:
                raise CamelidError(
                    f"the cache holds {self.keys.shape[3]} tokens and would need {begin + len(ids)}"
                )
            rows += [(token, slot, begin + i, every or i == last) for i, token in enumerate(ids)]
        logits = torch.empty(sum(row[3] for row in rows), self.spec.vocab_size)
        done = 0
        for begin in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[begin : begin + CHUNK_ROWS]
            wanted = sum(row[3] for row in chunk)
            self._run(chunk, logits[done : done + wanted])
            done += wanted
        for slot, ids in enumerate(tokens, first_slot):
            self.lengths[slot] += len(ids)
        return logits

    def summarise(
        self, logits: Float[Tensor, "rows vocab"]
    ) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
        """See `Decoder.summarise`; torch's threads stay asleep, which would otherwise be in the way of ours."""
        rows, vocab = logits.shape
        greedy, log_total = torch.empty(rows, dtype=torch.int32), torch.empty(rows)
        logits = logits.contiguous()
        summary = CSummary(logits.data_ptr(), rows, vocab, greedy.data_ptr(), log_total.data_ptr())
        self._summarise(ctypes.addressof(summary), torch.get_num_threads())
        return greedy, log_total

    def fork(self, source: int, target: int, length: int) -> None:
        """See `Decoder.fork`."""
        for side in (self.keys, self.values):
            side[:, target, :, :length] = side[:, source, :, :length]
        self.truncate(target, length)

    def truncate(self, slot: int, length: int) -> None:
        """See `Decoder.truncate`."""
        self.lengths[slot] = length

    def _run(self, rows: list[tuple[int, int, int, bool]], logits: Tensor) -> None:
        columns = [(c_int32 * len(rows))(*column) for column in list(zip(*rows, strict=True))[:3]]
        wanted = [index for index, row in enumerate(rows) if row[3]]
        wanted_rows = (c_int32 * len(wanted))(*wanted)
        addresses = [ctypes.addressof(column) for column in (*columns, wanted_rows)]
        batch = CBatch(len(rows), len(wanted), *addresses, logits.data_ptr())
        if self._step(ctypes.addressof(self._model), ctypes.addressof(batch), torch.get_num_threads()):
            raise CamelidError(f"out of memory for a step of {len(rows)} tokens")

    def _layers(self, model: Transformer) -> ctypes.Array[ctypes.Structure]:
        parameters, modules = dict(model.named_parameters()), _projections(model)
        layers = (CLayer * len(model.layers))()
        for index in range(len(layers)):
            for field, name in NORMS.items():
                setattr(layers[index], field, self._address(parameters[f"layers.{index}.{name}"]))
            for field, name in PROJECTIONS.items():
                setattr(layers[index], field, self._linear(modules[f"layers.{index}.{name}"]))
        return layers

    def _linear(self, module: nn.Linear | PackedLinear) -> ctypes.Structure:
        bias = dict(module.named_parameters(), **dict(module.named_buffers())).get("bias")
        linear = CLinear(
            bias=None if bias is None else self._address(bias),
            outer=module.out_features,
            inner=module.in_features,
        )
        if isinstance(module, PackedLinear):
            # What has no kernel of its own is computed as bytes.
            known = module.bits in PACKED_KINDS
            linear.kind, linear.group = PACKED_KINDS[module.bits if known else 8], module.group_size
            linear.weight = self._address(module.codes if known else module.quantized().codes, torch.uint8)
            linear.scales = self._address(module.scales)
            linear.zeros = self._address(module.zeros, torch.uint8)
        else:
            linear.kind, linear.weight = KINDS[self.dtype], self._address(module.weight, self.dtype)
        return linear

    def _address(self, tensor: Tensor, dtype: torch.dtype = torch.float32) -> int:
        """Where a tensor's values lie in `dtype`; kept as long as this decoder lives."""
        tensor = tensor.detach().to(dtype).contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()
