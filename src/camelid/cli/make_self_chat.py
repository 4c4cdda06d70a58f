"""`camelid make self-chat`."""

from camelid.recipes.make import MakeSelfChatRecipe


def make_self_chat(recipe: MakeSelfChatRecipe) -> None:
    """Let a model write both sides of conversations."""
    from camelid.makers.stage import make_self_chat as stage

    stage(recipe)
