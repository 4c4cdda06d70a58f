"""`camelid serve`."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
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
    with _modules_not_collected():
        from camelid.serve.running import serve as run

        gc.freeze()
        gc.enable()
        run(models, settings, engine)


@contextmanager
def _modules_not_collected() -> Iterator[None]:
    """Modules are imported without collections, until the block freezes their objects; they thaw after it.

    They are 300,000 that all stay. A full collection looks at each, which takes 0.3 s: at the start several
    times, and later in the middle of everybody's answers.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
