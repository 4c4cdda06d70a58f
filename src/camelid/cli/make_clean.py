"""`camelid make clean`."""

from camelid.recipes.clean import CleanRecipe


def make_clean(recipe: CleanRecipe) -> None:
    """Clean threads that people shared, as data for `camelid tune`."""
    from camelid.makers.clean_stage import make_clean as stage

    stage(recipe)
