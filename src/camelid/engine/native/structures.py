"""The structures of the decoder in C, field by field, and the functions that take them."""

import ctypes
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p


def _structure(name: str, **fields: object) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _integers(*names: str) -> dict[str, object]:
    return dict.fromkeys(names, c_int32)


def _pointers(*names: str) -> dict[str, object]:
    return dict.fromkeys(names, c_void_p)


PROJECTIONS = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
"""The linears of a layer, by their fields in C."""
SLOTS = {"key": 1, "value": 2, "up": 1}
"""Which result A x is a linear's own, where several are computed in one phase; 0 for the others."""
NORMS = {
    "attention_norm": "input_layernorm.weight",
    "mlp_norm": "post_attention_layernorm.weight",
    "query_norm": "self_attn.q_norm.weight",
    "key_norm": "self_attn.k_norm.weight",
}
CLinear = _structure(
    "CLinear",
    **_pointers("weight", "bias", "scales", "zeros"),
    **_integers("kind", "scale_kind", "outer", "inner", "group", "zero_step"),
    **_pointers("low", "raise"),
    **_integers("rank", "slot"),
)
CLayer = _structure(
    "CLayer", **_pointers(*NORMS), **_integers("window"), **dict.fromkeys(PROJECTIONS, CLinear)
)
CModel = _structure(
    "CModel",
    **_integers("kind", "arithmetic"),
    **_integers("layers", "width", "heads", "kv_heads", "head_dim", "hidden", "vocab"),
    **_integers("blocks", "kv_packed", "segment"),
    eps=c_float,
    layer=POINTER(CLayer),
    **_pointers("embedding", "norm"),
    unembedding=CLinear,
    **_pointers("cosine", "sine", "cache", "workspace"),
    workspace_bytes=c_int64,
)
CBatch = _structure(
    "CBatch",
    **_integers("rows", "wanted"),
    **_pointers(
        "tokens", "positions", "tables", "blocks", "wanted_rows", "logits", "greedy", "highest", "log_total"
    ),
)
CPacking = _structure(
    "CPacking", **_pointers("packed_integers", "lines"), **_integers("bits", "count", "outer")
)

FUNCTIONS = {
    "camelid_step": (c_int, c_void_p, c_void_p, c_int),
    "camelid_copy_block": (None, c_void_p, c_int, c_int),
    "camelid_clear_block": (None, c_void_p, c_int),
    "camelid_pack": (None, c_void_p, c_int),
    "camelid_free": (None, c_void_p),
    "camelid_arithmetic": (c_int,),
    "camelid_integers": (c_int,),
    "camelid_tuned": (c_int,),
}
"""What each function returns, and then what it takes."""
