"""`camelid chat`."""

from typing import Annotated

from tyro.conf import Positional

from camelid.cli.flags import Group
from camelid.lm.sampling import Sampling
from camelid.recipes.engine import EngineSettings
from camelid.recipes.server import ServerSettings


def chat(
    model: Annotated[str, Positional],
    sampling: Annotated[Sampling, Group(leave_out=("samples",), defaults={"max_new_tokens": 512})],
    engine: Annotated[EngineSettings, Group(leave_out=("max_batch",))],
    server: Annotated[ServerSettings, Group(leave_out=("parallel",))],
    system: str | None = None,
    markdown: bool = True,
) -> None:
    """Talks to a model in the terminal; type /help for its commands.

    Args:
        model: a checkpoint folder, a name on the hub, or the URL of an OpenAI-compatible server
        system: the system message of the conversation
        markdown: show answers as Markdown, where the output is a terminal
    """
    from camelid.engine.terminal import chat as talk

    talk(model, sampling, engine, server, system, markdown)
