"""`camelid eval`."""

from camelid.recipes.evaluate import EvaluateRecipe


def evaluate(recipe: EvaluateRecipe) -> None:
    """Evaluate a model on tasks and text."""
    from camelid.evals.stage import evaluate_recipe

    evaluate_recipe(recipe)
