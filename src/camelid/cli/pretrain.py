"""`camelid pretrain`."""

from camelid.recipes.pretrain import PretrainRecipe


def pretrain(recipe: PretrainRecipe) -> None:
    """Train a new model on raw text."""
    from camelid.train.stages import pretrain as stage

    stage(recipe)
