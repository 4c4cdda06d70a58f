"""The gate on a recipe's `out`: free, or what the same command goes on with."""

from camelid.base.atomic import refuse_used
from camelid.data.read.files import REPLIES
from camelid.recipes.align import AlignRecipe
from camelid.recipes.make import MakeRecipe
from camelid.recipes.pretrain import PretrainRecipe
from camelid.recipes.recipe import Recipe
from camelid.recipes.sweep import SweepRecipe
from camelid.recipes.tune import TuneRecipe
from camelid.runs.run import IDENTITY, refuse_foreign


def see_out(recipe: Recipe) -> str:
    """What the folder is; raises `CamelidError` if the recipe's verb would refuse it."""
    out = recipe.out
    if isinstance(recipe, PretrainRecipe | TuneRecipe | AlignRecipe | SweepRecipe):
        refuse_foreign(out)
        return f"{out} {'holds a run that can be resumed' if (out / IDENTITY).exists() else 'is free'}"
    if isinstance(recipe, MakeRecipe) and (out / REPLIES).is_file():
        return f"{out} holds replies, which are not asked for again"
    refuse_used(out)
    return f"{out} is free"
