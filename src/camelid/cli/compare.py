"""`camelid compare`."""

from camelid.recipes.compare import CompareRecipe


def compare(recipe: CompareRecipe) -> None:
    """Compare models side by side."""
    from camelid.workflows.compare import compare as stage

    stage(recipe)
