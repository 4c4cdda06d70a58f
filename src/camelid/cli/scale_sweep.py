"""`camelid scale sweep`."""

from camelid.recipes.sweep import SweepRecipe


def scale_sweep(recipe: SweepRecipe) -> None:
    """Train a ladder of small models, fit a scaling law, and predict a larger model before training it."""
    from camelid.workflows.sweep.stage import scale_sweep as stage

    stage(recipe)
