"""`camelid generate`."""

from typing import Annotated

from tyro.conf import Positional

from camelid.cli.flags import Group
from camelid.lm.sampling import Sampling
from camelid.recipes.engine import EngineSettings
from camelid.recipes.server import ServerSettings


def generate(
    model: Annotated[str, Positional],
    prompt: str,
    sampling: Annotated[Sampling, Group(leave_out=("samples",))],
    engine: Annotated[EngineSettings, Group(leave_out=("max_batch",))],
    server: Annotated[ServerSettings, Group(leave_out=("parallel",))],
    chat: bool = False,
    system: str | None = None,
) -> None:
    """Continues a prompt, or answers it with --chat; only the text goes to standard output.

    Args:
        model: a checkpoint folder, a name on the hub, or the URL of an OpenAI-compatible server
        prompt: the prompt's text; `-` reads it from standard input
        chat: send the prompt as a user message through the model's chat template
        system: the system message; needs --chat
    """
    from camelid.engine.terminal import generate as print_completion

    print_completion(model, prompt, sampling, engine, server, chat=chat, system=system)
