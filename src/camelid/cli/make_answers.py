"""`camelid make answers`."""

from camelid.recipes.make import MakeAnswersRecipe


def make_answers(recipe: MakeAnswersRecipe) -> None:
    """Let a teacher answer questions, as data for `camelid tune`."""
    from camelid.makers.stage import make_answers as stage

    stage(recipe)
