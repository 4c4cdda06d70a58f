"""`camelid make preferences`."""

from camelid.recipes.make import MakePreferencesRecipe


def make_preferences(recipe: MakePreferencesRecipe) -> None:
    """Let a model answer questions several times and rank its answers, as data for `camelid align`."""
    from camelid.makers.stage import make_preferences as stage

    stage(recipe)
