"""`camelid quantize`."""

from camelid.recipes.quantize import QuantizeRecipe


def quantize(recipe: QuantizeRecipe) -> None:
    """Quantise a model."""
    from camelid.workflows.quantize import quantize as stage

    stage(recipe)
