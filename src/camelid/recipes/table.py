"""Every kind of recipe by its stage."""

from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import Recipe
from camelid.recipes.tokenizer import TokenizerRecipe
from camelid.recipes.tune import TuneRecipe

RECIPES: dict[str, type[Recipe]] = {
    "tokenizer": TokenizerRecipe,
    "pretrain": PretrainRecipe,
    "tune": TuneRecipe,
}
