"""The parameter names of each file format and family: one table for reading and writing.

Our module is on the left; `#` stands for the layer number. `Naming` describes how a format's arrangement of
values differs from ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from camelid.model.spec import ModelSpec


class Place(NamedTuple):
    """The location of one of our parameters on disk."""

    name: str
    part: int = 0
    """Its index among the parameters concatenated in the tensor."""
    parts: int = 1
    transposed: bool = False
    """Stored as [inputs, outputs]."""
    pairs: int = 0
    """If not 0: the head size; rows rotated together are adjacent on disk, half a rotation apart in ours."""
    rotated: int = 0
    """With `pairs`: the rotated rows at the start of each head; 0: all."""
    blocks: int = 1
    """Blocks of rows on disk, each with its share of every part: GPT-NeoX has one per head."""

    def stored_shape(self, own: torch.Size) -> torch.Size:
        """The shape on disk, if each part has the shape `own`."""
        whole = (own[0] * self.parts, *own[1:])
        return torch.Size(whole[::-1] if self.transposed else whole)

    def put(self, parts: list[Tensor]) -> Tensor:
        """The tensor on disk."""
        paired = [_split(self._paired(part), self.blocks, -1) for part in parts]
        joined = (torch.cat(paired, dim=1) if len(parts) > 1 else paired[0]).flatten(0, 1)
        return joined.T if self.transposed and joined.ndim == 2 else joined

    def take(self, stored: Tensor) -> Tensor:
        """Our parameter from the tensor on disk; a view if the order of values allows it."""
        whole = stored.T if self.transposed and stored.ndim == 2 else stored
        blocks = _split(whole, self.blocks, -1)
        part = (blocks.chunk(self.parts, dim=1)[self.part] if self.parts > 1 else blocks).flatten(0, 1)
        return self._reordered(part, (-1, 2))

    def _paired(self, part: Tensor) -> Tensor:
        return self._reordered(part, (2, -1))

    def _reordered(self, part: Tensor, order: tuple[int, int]) -> Tensor:
        """The rotated rows of every head read as a table of this shape and written column by column."""
        if not self.pairs:
            return part
        rotated, rest = _split(part, -1, self.pairs).tensor_split([self.rotated or self.pairs], dim=1)
        columns = rotated.reshape(len(rotated), *order, *part.shape[1:]).transpose(1, 2).flatten(1, 2)
        return torch.cat((columns, rest), dim=1).flatten(0, 1)


def _split(rows: Tensor, outer: int, inner: int) -> Tensor:
    """The first dimension as two."""
    return rows.reshape(outer, inner, *rows.shape[1:])


class Row(NamedTuple):
    """The names of one module; `meta` is Meta's layout, which only LLaMA has."""

    hugging_face: str
    gguf: str = ""
    meta: str = ""
    part: int = 0
    """Its index among the modules concatenated under one name."""
    parts: int = 1


Table = Mapping[str, Row]
LLAMA_NAMES: Table = {
    "embed_tokens": Row("model.embed_tokens", "token_embd", "tok_embeddings"),
    "norm": Row("model.norm", "output_norm", "norm"),
    "lm_head": Row("lm_head", "output", "output"),
} | {
    f"layers.#.{ours}": Row(f"model.layers.#.{ours}", f"blk.#.{gguf}", f"layers.#.{meta}" if meta else "")
    for ours, gguf, meta in (
        ("input_layernorm", "attn_norm", "attention_norm"),
        ("self_attn.q_proj", "attn_q", "attention.wq"),
        ("self_attn.k_proj", "attn_k", "attention.wk"),
        ("self_attn.v_proj", "attn_v", "attention.wv"),
        ("self_attn.o_proj", "attn_output", "attention.wo"),
        ("self_attn.q_norm", "attn_q_norm", ""),
        ("self_attn.k_norm", "attn_k_norm", ""),
        ("post_attention_layernorm", "ffn_norm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate", "feed_forward.w1"),
        ("mlp.down_proj", "ffn_down", "feed_forward.w2"),
        ("mlp.up_proj", "ffn_up", "feed_forward.w3"),
    )
}
"""LLaMA, and Mistral, Qwen and Cohere, which use the same names."""
GPT2_NAMES: Table = {
    "embed_tokens": Row("transformer.wte", "token_embd"),
    "embed_positions": Row("transformer.wpe", "position_embd"),
    "norm": Row("transformer.ln_f", "output_norm"),
    "lm_head": Row("lm_head", "output"),
} | {
    f"layers.#.{ours}": Row(f"transformer.h.#.{hugging_face}", f"blk.#.{gguf}", "", *joined)
    for ours, hugging_face, gguf, *joined in (
        ("input_layernorm", "ln_1", "attn_norm"),
        ("self_attn.q_proj", "attn.c_attn", "attn_qkv", 0, 3),
        ("self_attn.k_proj", "attn.c_attn", "attn_qkv", 1, 3),
        ("self_attn.v_proj", "attn.c_attn", "attn_qkv", 2, 3),
        ("self_attn.o_proj", "attn.c_proj", "attn_output"),
        ("post_attention_layernorm", "ln_2", "ffn_norm"),
        ("mlp.up_proj", "mlp.c_fc", "ffn_up"),
        ("mlp.down_proj", "mlp.c_proj", "ffn_down"),
    )
}
GPT_NEOX_NAMES: Table = {
    "embed_tokens": Row("gpt_neox.embed_in", "token_embd"),
    "norm": Row("gpt_neox.final_layer_norm", "output_norm"),
    "lm_head": Row("embed_out", "output"),
} | {
    f"layers.#.{ours}": Row(f"gpt_neox.layers.#.{hugging_face}", f"blk.#.{gguf}", "", *joined)
    for ours, hugging_face, gguf, *joined in (
        ("input_layernorm", "input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attention.query_key_value", "attn_qkv", 0, 3),
        ("self_attn.k_proj", "attention.query_key_value", "attn_qkv", 1, 3),
        ("self_attn.v_proj", "attention.query_key_value", "attn_qkv", 2, 3),
        ("self_attn.o_proj", "attention.dense", "attn_output"),
        ("post_attention_layernorm", "post_attention_layernorm", "ffn_norm"),
        ("mlp.up_proj", "mlp.dense_h_to_4h", "ffn_up"),
        ("mlp.down_proj", "mlp.dense_4h_to_h", "ffn_down"),
    )
}
GPT_J_NAMES: Table = {
    "embed_tokens": Row("transformer.wte"),
    "norm": Row("transformer.ln_f"),
    "lm_head": Row("lm_head"),
} | {
    f"layers.#.{ours}": Row(f"transformer.h.#.{hugging_face}")
    for ours, hugging_face in (
        ("input_layernorm", "ln_1"),
        *((f"self_attn.{each}_proj", f"attn.{each}_proj") for each in "qkv"),
        ("self_attn.o_proj", "attn.out_proj"),
        ("mlp.up_proj", "mlp.fc_in"),
        ("mlp.down_proj", "mlp.fc_out"),
    )
}
OPT_NAMES: Table = {
    "embed_tokens": Row("model.decoder.embed_tokens"),
    "embed_positions": Row("model.decoder.embed_positions"),
    "norm": Row("model.decoder.final_layer_norm"),
    "lm_head": Row("lm_head"),
} | {
    f"layers.#.{ours}": Row(f"model.decoder.layers.#.{hugging_face}")
    for ours, hugging_face in (
        ("input_layernorm", "self_attn_layer_norm"),
        *((f"self_attn.{each}_proj", f"self_attn.{each}_proj") for each in "qkv"),
        ("self_attn.o_proj", "self_attn.out_proj"),
        ("post_attention_layernorm", "final_layer_norm"),
        ("mlp.up_proj", "fc1"),
        ("mlp.down_proj", "fc2"),
    )
}
"""GGUF has no architecture for GPT-J and OPT."""


def _t5(up_proj: str) -> Table:
    table = {"embed_tokens": Row("shared", "token_embd"), "lm_head": Row("lm_head", "output")}
    attention = [(f"self_attn.{each}_proj", f"0.SelfAttention.{each}", f"attn_{each}") for each in "qkvo"]
    cross_attention = [
        ("cross_attn_layernorm", "1.layer_norm", "cross_attn_norm"),
        *((f"cross_attn.{each}_proj", f"1.EncDecAttention.{each}", f"cross_attn_{each}") for each in "qkvo"),
    ]
    for ours, theirs, gguf, cross in (
        ("", "decoder", "dec", cross_attention),
        ("encoder.", "encoder", "enc", []),
    ):
        bias = f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias"
        table[f"{ours}relative_bias"] = Row(bias, f"{gguf}.blk.0.attn_rel_b")
        table[f"{ours}norm"] = Row(f"{theirs}.final_layer_norm", f"{gguf}.output_norm")
        last = 2 if cross else 1
        feed_forward = f"{last}.DenseReluDense"
        rows = [
            ("input_layernorm", "0.layer_norm", "attn_norm"),
            *attention,
            *cross,
            ("post_attention_layernorm", f"{last}.layer_norm", "ffn_norm"),
            ("mlp.gate_proj", f"{feed_forward}.wi_0", "ffn_gate"),
            ("mlp.up_proj", f"{feed_forward}.{up_proj}", "ffn_up"),
            ("mlp.down_proj", f"{feed_forward}.wo", "ffn_down"),
        ]
        for module, name, short in rows:
            table[f"{ours}layers.#.{module}"] = Row(f"{theirs}.block.#.layer.{name}", f"{gguf}.blk.#.{short}")
    return table


T5_NAMES, T5_V1_1_NAMES = _t5("wi"), _t5("wi_1")
"""T5 1.1 has a gate besides the up projection, and numbers both."""


@dataclass(frozen=True)
class Naming:
    """How files of one format store the parameters of a family."""

    table: Table
    format: Literal["hugging_face", "gguf", "meta"]
    transposed: bool = False
    """Whether the layers' linears are stored as [inputs, outputs]."""
    pairs: bool = False
    """Whether query and key rows rotated together are adjacent; ours are half a rotation apart."""
    by_head: bool = False
    """Whether modules under one name alternate by head; otherwise they follow one another."""

    def name(self, parameter: str) -> str:
        """The name of the tensor that holds a parameter."""
        module, kind = parameter.rsplit(".", 1)
        layer = re.sub(r"\D", "", module)
        return f"{getattr(self._row(module), self.format)}.{kind}".replace("#", layer)

    def place(self, spec: ModelSpec, parameter: str) -> Place:
        """The location of a parameter of this model."""
        module, _ = parameter.rsplit(".", 1)
        row, transposed = self._row(module), self.transposed and module.endswith("_proj")
        pairs = spec.head_dim if self.pairs and module.endswith(("q_proj", "k_proj")) else 0
        rotated = getattr(spec.positions, "dims", None) if pairs else None
        blocks = spec.num_heads if self.by_head and row.parts > 1 else 1
        return Place(self.name(parameter), row.part, row.parts, transposed, pairs, rotated or 0, blocks)

    def _row(self, module: str) -> Row:
        return self.table[re.sub(r"\d+", "#", module)]
