"""The recipes of published assistants, and their small twins: each trains two steps of a tiny model."""

import gzip
import json
import lzma
from itertools import islice
from pathlib import Path

import pytest

from camelid.cli.main import main
from camelid.formats.hugging_face.checkpoint import save_checkpoint
from camelid.model.presets import published
from camelid.model.transformer import Transformer
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import load_recipe
from camelid.recipes.tune import TuneRecipe
from camelid.text.tokenizer import train_tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
ALIGNED = ("-reward", "-ppo")
"""Stages after tuning, see test_rlhf_recipes.py."""
PUBLISHED, SMALL = (
    [path for path in sorted((FOLDER / name).glob("*.yaml")) if not path.stem.endswith(ALIGNED)]
    for name in ("published", "small")
)
NAMES = {
    *("alpaca", "alpaca-lora", "vicuna", "koala-distill", "koala-all"),
    *("baize", "gpt4all", "dolly", "galpaca", "qlora", "rlhf-sft", "stackllama-sft"),
}
SHAPES = {"dolly": "gpt-neox", "galpaca": "galactica"}
"""By recipe, the shape of its base; of all others it is LLaMA's."""
ROWS = [{"instruction": f"Who is number {n}?", "input": "", "output": f"It is {n}."} for n in range(8)]
RESPONSES = [{"question": "Hi?", "response_j": f"Hello {n}!", "response_k": "Go away."} for n in range(8)]
PAIRS = [{"prompt": "Hi?", "chosen": f"Hello {n}!", "rejected": "Go away."} for n in range(8)]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A function from the name of an architecture to the folder of a tiny model."""
    tokenizer = train_tokenizer(["Who is number one? It is a man, and she said hello."] * 9, 300)
    made: dict[str, Path] = {}

    def base(architecture: str) -> Path:
        if architecture not in made:
            folder = made[architecture] = tmp_path_factory.mktemp(architecture)
            spec = published(architecture, 16, 1, 2, vocab_size=300, context_length=2048, head_dim=8)
            save_checkpoint(folder, Transformer(spec).initialize(0))
            tokenizer.save(folder)
        return made[architecture]

    return base


def test_every_assistant_has_both():
    assert {path.stem for path in PUBLISHED} == NAMES
    assert {path.stem for path in SMALL} == NAMES | {"base-pythia", "base-galactica"}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_every_number_of_a_published_recipe_has_its_source(path):
    """A comment stands above each setting of training and adapters, or above the group that it belongs to."""
    recipe, text = load_recipe(TuneRecipe, path), path.read_text(encoding="utf-8")
    for section in ("lora", "training"):
        if section not in recipe.model_fields_set:
            continue
        block = text.partition(f"\n{section}:\n")[2].split("\n\n")[0].splitlines()
        assert block[0].startswith("  # "), section
        assert sum(line.startswith("  # ") for line in block) >= 2 or section == "lora"
    assert recipe.licence
    assert recipe.data.licence or all(source.licence for source in recipe.data.sources)


def run_two_steps(
    recipe: TuneRecipe, files: dict[str, Path], base: Path, tmp_path: Path, context: int = 256
) -> None:
    """The recipe as it is, but for paths, sizes and the number of steps."""
    values = recipe.model_dump(mode="json", exclude_unset=True)
    values |= {"out": str(tmp_path / "run"), "model": str(base)}
    values["data"] |= {"validation_fraction": 0.0}
    if recipe.data.train:
        values["data"]["train"] = [str(files[str(name)]) for name in recipe.data.train]
    for source in values["data"].get("sources", ()):
        source["path"] = str(files[source["path"]])
    values["training"] |= {
        "epochs": None,
        "steps": 2,
        "context_length": context,
        "global_batch_tokens": context,
    }
    values["training"] |= {"compile": False, "dtype": "float32", "warmup_steps": None, "warmup_fraction": 0.0}
    values["chat_template"] = str(FOLDER.parent / values["chat_template"])
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    assert main(["tune", str(tmp_path / "recipe.yaml")]) == 0


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_recipe_trains(path, bases, tmp_path):
    recipe = load_recipe(TuneRecipe, path)
    files = {}
    for number, name in enumerate(map(str, recipe.data.trained)):
        files[name] = tmp_path / f"{number}.jsonl"
        compares = any(word in name for word in ("hh-rlhf", "comparisons", "feedback"))
        rows = PAIRS if compares else RESPONSES if "stackexchange" in name else ROWS
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_two_steps(recipe, files, bases(SHAPES.get(path.stem, "llama")), tmp_path)


@pytest.mark.parametrize("path", [path for path in SMALL if path.stem in NAMES], ids=lambda path: path.stem)
def test_a_small_recipe_trains_on_its_data(path, bases, tmp_path, shared):
    """On the first rows of the files that it names; what `camelid make` makes is made up here."""
    recipe = load_recipe(TuneRecipe, path)
    files = {}
    for number, name in enumerate(map(str, recipe.data.trained)):
        files[name] = tmp_path / f"{number}.jsonl"
        if name.startswith("data/"):
            rows = first_rows(shared / name)
        else:
            assert name.startswith("runs/")
            rows = ROWS
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_two_steps(recipe, files, bases(SHAPES.get(path.stem, "llama")), tmp_path, 2048)


def first_rows(path: Path, count: int = 12) -> list[dict[str, object]]:
    opened = {".gz": gzip.open, ".xz": lzma.open}[path.suffix]
    with opened(path, "rt", encoding="utf-8") as file:
        if ".jsonl" in path.name:
            return [json.loads(line) for line in islice(file, count)]
        return json.load(file)[:count]


@pytest.mark.parametrize("name", ["base-pythia", "base-galactica"])
def test_the_small_bases_have_the_shape_of_the_published(name, shared):
    recipe = load_recipe(PretrainRecipe, FOLDER / "small" / f"{name}.yaml")
    assert (shared / recipe.data.train[0]).exists()
    assert recipe.model.spec(4096).parameter_count() < 6e6
