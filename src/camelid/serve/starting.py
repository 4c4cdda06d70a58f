"""Starts the server: its modules are imported here, without the garbage collector."""

import gc
from collections.abc import Sequence

from camelid.recipes.engine import EngineSettings
from camelid.recipes.serve import ServeSettings


def start(models: Sequence[str], settings: ServeSettings, engine: EngineSettings) -> None:
    """Imports the server and runs it until it is asked to end, see `running.serve`.

    Modules are imported without collections and their objects frozen: they are 300,000 that all stay, and a
    full collection looks at each, which takes 0.3 s: at the start several times, and later in the middle of
    everybody's answers.
    """
    gc.disable()
    try:
        from camelid.serve.running import serve

        gc.freeze()
        gc.enable()
        serve(models, settings, engine)
    finally:
        gc.enable()
        gc.unfreeze()
