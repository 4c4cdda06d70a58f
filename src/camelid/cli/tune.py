"""`camelid tune`."""

from camelid.recipes.tune import TuneRecipe


def tune(recipe: TuneRecipe) -> None:
    """Tune a model on conversations, or on pairs of input and target."""
    from camelid.workflows.gated import tune as stage

    stage(recipe)
