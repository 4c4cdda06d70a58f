"""`camelid tune`."""

from camelid.recipes.tune import TuneRecipe


def tune(recipe: TuneRecipe) -> None:
    """Tune a model on conversations, or on pairs of input and target."""
    from camelid.train.stages import tune as stage
    from camelid.workflows.parity import parity_after

    made = stage(recipe)
    adapts = recipe.lora.rank is not None
    parity_after(recipe.model if adapts else made, adapter=made if adapts else None)
