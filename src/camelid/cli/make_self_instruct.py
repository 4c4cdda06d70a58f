"""`camelid make self-instruct`."""

from camelid.recipes.make import MakeSelfInstructRecipe


def make_self_instruct(recipe: MakeSelfInstructRecipe) -> None:
    """Let a model write new instructions and their answers."""
    from camelid.makers.stage import make_self_instruct as stage

    stage(recipe)
