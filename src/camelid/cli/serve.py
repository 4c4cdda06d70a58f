"""`camelid serve`."""

from typing import Annotated

from tyro.conf import Positional

from camelid.cli.flags import Group
from camelid.recipes.engine import EngineSettings
from camelid.recipes.serve import ServeSettings


def serve(
    settings: Annotated[ServeSettings, Group()],
    engine: Annotated[EngineSettings, Group(leave_out=("adapter",))],
    models: Annotated[tuple[str, ...], Positional] = (),
) -> None:
    """Serves models through OpenAI's API, for any client that speaks it.

    Args:
        models: checkpoint folders, or names on the hub; several are loaded as they are asked for
    """
    from camelid.serve.starting import start

    start(models, settings, engine)
