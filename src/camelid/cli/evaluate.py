"""`camelid eval`."""

from camelid.recipes.evaluate import EvaluateRecipe


def evaluate(recipe: EvaluateRecipe) -> None:
    """Evaluate a model on tasks and text."""
    from camelid.workflows.ladder import evaluate_or_climb

    evaluate_or_climb(recipe)
