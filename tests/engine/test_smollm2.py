"""A real chat model end to end: imported, reproduced, quantised, asked."""

import json
from pathlib import Path

import pytest
import torch

from camelid.engine.engine import Engine
from camelid.engine.generation import Generation
from camelid.formats.importing import import_model
from camelid.lm.sampling import Sampling
from camelid.recipes.quantize import QuantizeRecipe
from camelid.text.conversation import Conversation, Message
from camelid.workflows.quantize import quantize

pytestmark = pytest.mark.slow
QUESTION = Conversation((Message("user", "What is the capital of France?"),))


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = shared / "weights" / "smollm2-135m-instruct-q4_1" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    out = tmp_path_factory.mktemp("smollm2") / "model"
    import_model(source, out)
    return out


def test_float32_reproduces_the_reference_in_one_batch(folder: Path, shared: Path) -> None:
    path = shared / "weights" / "smollm2-135m-instruct-q4_1" / "reference_numpy_f32_greedy.json"
    references = json.loads(path.read_text())["results"]
    engine = Engine.load(folder)
    generations = []
    for row in references:
        limit = len(row["generated_tokens"])
        sampling = Sampling(max_new_tokens=limit)
        generations.append(Generation(row["prompt_tokens"], sampling, 0, limit, engine.tokenizer))
    for _ in engine.run(generations):
        pass
    assert [generation.tokens for generation in generations] == [
        row["generated_tokens"] for row in references
    ]


@pytest.mark.parametrize(("bits", "group", "smaller"), [(4, 32, 4.0), (4, 64, 4.2), (8, None, 3.2)])
def test_quantised_it_still_knows_paris(
    folder: Path, tmp_path: Path, bits: int, group: int | None, smaller: float
) -> None:
    out = tmp_path / "small"
    quantize(QuantizeRecipe(model=folder, out=out, bits=bits, group_size=group))
    assert (folder / "model.safetensors").stat().st_size > smaller * (
        out / "model.safetensors"
    ).stat().st_size
    engine = Engine.load(out)
    assert engine.dtype == torch.bfloat16
    [[answer]] = engine.generate([QUESTION], max_new_tokens=20)
    assert "Paris" in answer.text
