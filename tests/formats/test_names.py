"""The tables of names against llama.cpp's own map from other formats' names to GGUF's (gguf-py's
`tensor_mapping.py`)."""

import re

import gguf
import pytest

from camelid.formats.names import (
    GPT2_NAMES,
    GPT_NEOX_NAMES,
    LLAMA_NAMES,
    T5_NAMES,
    T5_V1_1_NAMES,
    Naming,
    Table,
)

ARCHITECTURES = {
    "LLAMA": LLAMA_NAMES,
    "GPT2": GPT2_NAMES,
    "T5": T5_NAMES,
    "T5_V1_1": T5_V1_1_NAMES,
    "GPTNEOX": GPT_NEOX_NAMES,
}
TENSORS = {"LLAMA": gguf.MODEL_ARCH.QWEN3, "GPT2": gguf.MODEL_ARCH.GPT2, "GPTNEOX": gguf.MODEL_ARCH.GPTNEOX}
"""Qwen 3 has what LLaMA has, and norms of queries and keys."""
ROWS = [(name, module) for name, table in ARCHITECTURES.items() for module in table]


@pytest.mark.parametrize(("name", "module"), ROWS)
def test_hugging_face_and_meta_names_mean_the_tensor_of_the_gguf_name(name: str, module: str) -> None:
    row = ARCHITECTURES[name][module]
    known = gguf.get_tensor_name_map(TENSORS.get(name, gguf.MODEL_ARCH.T5), 9)
    for theirs in filter(None, (row.hugging_face, row.meta)):
        # Any layer will do; T5 has its relative biases in layer 0 on both sides.
        assert known.get_name(theirs.replace("#", "3")) == row.gguf.replace("#", "3"), theirs


@pytest.mark.parametrize("table", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_no_two_modules_share_a_place(table: Table) -> None:
    for column in ("hugging_face", "gguf", "meta"):
        places = [(getattr(row, column), row.part) for row in table.values() if getattr(row, column)]
        assert len(set(places)) == len(places)
    joined = [row for row in table.values() if row.parts > 1]
    assert sorted(row.part for row in joined) == [*range(len(joined))]
    assert {row.parts for row in joined} <= {len(joined)}


def test_a_layer_has_its_own_number_in_every_format() -> None:
    for column, expected in (
        ("hugging_face", "model.layers.12.mlp.up_proj.bias"),
        ("gguf", "blk.12.ffn_up.bias"),
        ("meta", "layers.12.feed_forward.w3.bias"),
    ):
        assert Naming(LLAMA_NAMES, column).name("layers.12.mlp.up_proj.bias") == expected  # type: ignore[arg-type]
    assert re.fullmatch(
        r"dec\.blk\.10\.attn_q\.weight", Naming(T5_NAMES, "gguf").name("layers.10.self_attn.q_proj.weight")
    )
