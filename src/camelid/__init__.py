"""Camelid: the survey of language models, made runnable.

    model = camelid.load_model("runs/first/model")        # logits = model(token_ids)
    tokenizer = camelid.load_tokenizer("runs/first/model")
    lm = camelid.LM("runs/first/model")                   # or the URL of an OpenAI-compatible server

What stands here is the public API, and all that most programs need. Importing this package imports no torch:
each name is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from camelid.base.version import __version__

if TYPE_CHECKING:
    from camelid.align.stage import align as align_model
    from camelid.base.errors import CamelidError, WrongCall
    from camelid.base.logs import show_log
    from camelid.data.rows.batches import batches
    from camelid.data.rows.packing import PackedDocuments
    from camelid.data.rows.shards import TokenShards
    from camelid.engine.engine import Engine
    from camelid.engine.open_lm import connect as LM
    from camelid.engine.perplexity import perplexity
    from camelid.engine.reward_model import RewardModel
    from camelid.engine.values import ValueScorer
    from camelid.evals.evaluate import compare_evaluations, evaluate
    from camelid.formats.exporting import export as export_model
    from camelid.formats.importing import import_model
    from camelid.formats.load import load_model, load_tokenizer
    from camelid.lm.interface import Completion, Score
    from camelid.lm.remote import RemoteLM
    from camelid.lm.sampling import Sampling
    from camelid.lm.scripted import ScriptedLM
    from camelid.model.spec import ModelSpec
    from camelid.model.transformer import Transformer
    from camelid.prompting.programs import chain_of_thought, direct, few_shot, likelihood
    from camelid.recipes.align import AlignRecipe
    from camelid.recipes.compare import CompareRecipe
    from camelid.recipes.data import TextData
    from camelid.recipes.engine import EngineSettings
    from camelid.recipes.evaluate import EvaluateRecipe
    from camelid.recipes.model_shape import ModelShape
    from camelid.recipes.pretrain import PretrainRecipe
    from camelid.recipes.quantize import QuantizeRecipe
    from camelid.recipes.recipe import load_recipe, save_recipe
    from camelid.recipes.tokenizer import TokenizerRecipe
    from camelid.recipes.training import Training
    from camelid.recipes.tune import TuneRecipe
    from camelid.runs.run import read_metrics
    from camelid.tasks.task import load_task
    from camelid.text.conversation import Conversation, Message
    from camelid.text.tokenizer import Tokenizer
    from camelid.train.loop import training_steps
    from camelid.train.objectives import cross_entropy
    from camelid.train.optim import adamw
    from camelid.train.stages import learn_tokenizer, pretrain, tune
    from camelid.workflows.compare import compare
    from camelid.workflows.quantize import quantize

HOMES: dict[str, tuple[str, ...]] = {
    "camelid.formats.load": ("load_model", "load_tokenizer"),
    "camelid.engine.open_lm": ("LM=connect",),
    "camelid.engine.engine": ("Engine",),
    "camelid.engine.values": ("ValueScorer",),
    "camelid.engine.reward_model": ("RewardModel",),
    "camelid.lm.remote": ("RemoteLM",),
    "camelid.lm.scripted": ("ScriptedLM",),
    "camelid.lm.sampling": ("Sampling",),
    "camelid.lm.interface": ("Completion", "Score"),
    "camelid.text.conversation": ("Conversation", "Message"),
    "camelid.text.tokenizer": ("Tokenizer",),
    "camelid.model.spec": ("ModelSpec",),
    "camelid.model.transformer": ("Transformer",),
    "camelid.train.stages": ("learn_tokenizer", "pretrain", "tune"),
    "camelid.align.stage": ("align_model=align",),
    "camelid.workflows.quantize": ("quantize",),
    "camelid.workflows.compare": ("compare",),
    "camelid.formats.importing": ("import_model",),
    "camelid.formats.exporting": ("export_model=export",),
    "camelid.recipes.recipe": ("load_recipe", "save_recipe"),
    "camelid.recipes.tokenizer": ("TokenizerRecipe",),
    "camelid.recipes.pretrain": ("PretrainRecipe",),
    "camelid.recipes.tune": ("TuneRecipe",),
    "camelid.recipes.align": ("AlignRecipe",),
    "camelid.recipes.quantize": ("QuantizeRecipe",),
    "camelid.recipes.compare": ("CompareRecipe",),
    "camelid.recipes.evaluate": ("EvaluateRecipe",),
    "camelid.recipes.data": ("TextData",),
    "camelid.recipes.model_shape": ("ModelShape",),
    "camelid.recipes.training": ("Training",),
    "camelid.recipes.engine": ("EngineSettings",),
    "camelid.runs.run": ("read_metrics",),
    "camelid.data.rows.shards": ("TokenShards",),
    "camelid.data.rows.packing": ("PackedDocuments",),
    "camelid.data.rows.batches": ("batches",),
    "camelid.train.loop": ("training_steps",),
    "camelid.train.objectives": ("cross_entropy",),
    "camelid.train.optim": ("adamw",),
    "camelid.tasks.task": ("load_task",),
    "camelid.prompting.programs": ("direct", "few_shot", "chain_of_thought", "likelihood"),
    "camelid.evals.evaluate": ("evaluate", "compare_evaluations"),
    "camelid.engine.perplexity": ("perplexity",),
    "camelid.base.logs": ("show_log",),
    "camelid.base.errors": ("CamelidError", "WrongCall"),
}
"""Where each public name lives, in the order of the API page; `LM=connect` where its module has another name
for it."""
_PLACES = {
    public: (module, own or public)
    for module, names in HOMES.items()
    for public, _, own in (name.partition("=") for name in names)
}
__all__ = [
    "LM",
    "AlignRecipe",
    "CamelidError",
    "CompareRecipe",
    "Completion",
    "Conversation",
    "Engine",
    "EngineSettings",
    "EvaluateRecipe",
    "Message",
    "ModelShape",
    "ModelSpec",
    "PackedDocuments",
    "PretrainRecipe",
    "QuantizeRecipe",
    "RemoteLM",
    "RewardModel",
    "Sampling",
    "Score",
    "ScriptedLM",
    "TextData",
    "TokenShards",
    "Tokenizer",
    "TokenizerRecipe",
    "Training",
    "Transformer",
    "TuneRecipe",
    "ValueScorer",
    "WrongCall",
    "__version__",
    "adamw",
    "align_model",
    "batches",
    "chain_of_thought",
    "compare",
    "compare_evaluations",
    "cross_entropy",
    "direct",
    "evaluate",
    "export_model",
    "few_shot",
    "import_model",
    "learn_tokenizer",
    "likelihood",
    "load_model",
    "load_recipe",
    "load_task",
    "load_tokenizer",
    "perplexity",
    "pretrain",
    "quantize",
    "read_metrics",
    "save_recipe",
    "show_log",
    "training_steps",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'camelid' has no attribute {name!r}")
    module, own = _PLACES[name]
    return getattr(importlib.import_module(module), own)


def __dir__() -> list[str]:
    return sorted(__all__)
