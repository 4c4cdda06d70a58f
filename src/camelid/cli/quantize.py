"""`camelid quantize`."""

from camelid.recipes.quantize import QuantizeRecipe


def quantize(recipe: QuantizeRecipe) -> None:
    """Make a model small."""
    from camelid.workflows.quantize import quantize as stage

    stage(recipe)
