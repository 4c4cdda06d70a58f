"""`camelid scale plan`."""

from camelid.recipes.plan import PlanRecipe


def scale_plan(recipe: PlanRecipe) -> None:
    """Plan a training run for a budget: model, tokens, batch, learning rate, cost, and its recipe."""
    from camelid.workflows.plan import scale_plan as stage

    stage(recipe)
