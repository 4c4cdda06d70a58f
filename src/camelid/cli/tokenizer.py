"""`camelid tokenizer`."""

from camelid.recipes.tokenizer import TokenizerRecipe


def tokenizer(recipe: TokenizerRecipe) -> None:
    """Learn a vocabulary from text."""
    from camelid.train.stages import learn_tokenizer as stage

    stage(recipe)
