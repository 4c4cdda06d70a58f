"""The recipe class of each stage."""

from camelid.recipes.align import AlignRecipe
from camelid.recipes.clean import CleanRecipe
from camelid.recipes.compare import CompareRecipe
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.recipes.make import (
    MakeAnswersRecipe,
    MakePreferencesRecipe,
    MakeSelfChatRecipe,
    MakeSelfInstructRecipe,
)
from camelid.recipes.plan import PlanRecipe
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.quantize import QuantizeRecipe
from camelid.recipes.recipe import Recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.recipes.tune import TuneRecipe

RECIPES: dict[str, type[Recipe]] = {
    "tokenizer": TokenizerRecipe,
    "pretrain": PretrainRecipe,
    "tune": TuneRecipe,
    "align": AlignRecipe,
    "quantize": QuantizeRecipe,
    "compare": CompareRecipe,
    "eval": EvaluateRecipe,
    "make answers": MakeAnswersRecipe,
    "make preferences": MakePreferencesRecipe,
    "make self-instruct": MakeSelfInstructRecipe,
    "make self-chat": MakeSelfChatRecipe,
    "make clean": CleanRecipe,
    "scale sweep": SweepRecipe,
    "scale plan": PlanRecipe,
}
