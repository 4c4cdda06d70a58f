"""`camelid align`."""

from camelid.recipes.align import AlignRecipe


def align(recipe: AlignRecipe) -> None:
    """Train a model on how good answers are."""
    from camelid.align.stage import align as stage

    stage(recipe)
