"""Writes docs/api.md, the page of all that stands in `camelid.__all__`, from signatures and docstrings.

python docs/write_api.py
"""

import inspect
import textwrap
from pathlib import Path

from pydantic import BaseModel

import camelid

PAGE = Path(__file__).with_name("api.md")
SECTIONS = {
    "Models": ("load_model", "load_tokenizer", "LM", "Transformer", "ModelSpec", "Tokenizer"),
    "Generating": (
        *("Sampling", "Completion", "Score", "Conversation", "Message"),
        *("Engine", "ValueScorer", "RewardModel", "EngineSettings", "RemoteLM", "ScriptedLM"),
    ),
    "Stages": (
        *(
            "learn_tokenizer",
            "pretrain",
            "tune",
            "align_model",
            "quantize",
            "compare",
            "import_model",
            "export_model",
        ),
        *("read_metrics", "show_log"),
    ),
    "Recipes": (
        *(
            "TokenizerRecipe",
            "PretrainRecipe",
            "TuneRecipe",
            "AlignRecipe",
            "QuantizeRecipe",
            "CompareRecipe",
            "EvaluateRecipe",
        ),
        *("TextData", "ModelShape", "Training", "load_recipe", "save_recipe"),
    ),
    "The training loop": (
        *("training_steps", "batches", "PackedDocuments", "TokenShards", "cross_entropy", "adamw"),
    ),
    "Evaluating": (
        *("load_task", "evaluate", "compare_evaluations", "perplexity"),
        *("direct", "few_shot", "chain_of_thought", "likelihood"),
    ),
    "Errors": ("CamelidError", "WrongCall"),
}
HEAD = """\
# API

What stands in `camelid.__all__`, with the first words of each docstring; `help(camelid.LM)` has all of them.
This page is written by `python docs/write_api.py`, and the tests hold it to the code. [From
Python](python.md) shows it at work.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for section, names in SECTIONS.items():
        parts += [f"\n## {section}\n", *(_entry(name) for name in names)]
    return "".join(parts)


def _entry(name: str) -> str:
    thing = getattr(camelid, name)
    about = textwrap.fill(" ".join(_docstring(thing).split()), 110)
    return f"\n### {name}\n\n```text\n{_signature(name, thing)}\n```\n\n{about}\n"


def _docstring(thing: object) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0]


def _signature(name: str, thing: object) -> str:
    if isinstance(thing, type) and issubclass(thing, Exception):
        return f"{name}(message)"
    if isinstance(thing, type) and issubclass(thing, BaseModel):
        needed = [f"{field}=" for field, info in thing.model_fields.items() if info.is_required()]
        others = len(thing.model_fields) - len(needed)
        return f"{name}({', '.join([*needed, *([f'... {others} more'] if others else [])])})"
    signature = inspect.signature(thing)  # type: ignore[arg-type]
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
    whole = f"{name}{inspect.Signature(plain)}"
    return "\n".join(textwrap.wrap(whole, 106, subsequent_indent="    ", break_long_words=False))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
