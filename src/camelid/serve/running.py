"""Runs the server until it is asked to end."""

import asyncio
import logging
import math
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from camelid.base.errors import CamelidError, WrongCall, reason_of
from camelid.recipes.engine import EngineSettings
from camelid.recipes.serve import ServeSettings
from camelid.serve.app import make_app
from camelid.serve.connection import Connection, Patience
from camelid.serve.guard import is_local, rules_for
from camelid.serve.keys import add_key, read_keys
from camelid.serve.models import Models
from camelid.serve.request_log import logging_to
from camelid.serve.sources import load_models

logger = logging.getLogger(__name__)
LAST_SECONDS = 3
"""After the grace period, for the last errors to reach their clients."""


def serve(models: Sequence[str], settings: ServeSettings, engine: EngineSettings) -> None:
    """Serves models until Ctrl-C or SIGTERM; then answers what has begun, within the grace period."""
    if settings.new_key is not None:
        if settings.keys is None:
            raise WrongCall("--new-key needs --keys FILE, the file of keys")
        print(add_key(settings.keys, settings.new_key))
        return
    keys = None if settings.keys is None else read_keys(settings.keys)
    if keys is None and not is_local(settings.host):
        raise WrongCall(
            f"--host {settings.host} is reached from other machines, so a key is needed: make one with "
            "camelid serve --new-key NAME --keys FILE, and give --keys FILE"
        )
    limits = {
        "most_requests": settings.max_requests,
        "most_of_one": settings.max_of_one,
        "rate": settings.rate,
    }
    with _bound(settings) as listening, logging_to(settings.log):
        loaded = load_models(models, settings, engine)
        rules = rules_for(settings.host, keys, settings.allow_origin, **limits)
        app = make_app(loaded, rules, log_prompts=settings.log_prompts)
        host, port = listening.getsockname()[:2]
        logger.info(f"http://{host}:{port} is the page, http://{host}:{port}/v1 the API; Ctrl-C ends")
        Server(app, loaded, settings.grace_seconds).run(sockets=[listening])


class Server(uvicorn.Server):
    """uvicorn's server with patience for slow clients. Asked to end, it takes no more requests, and lets
    those that run end within `grace_seconds`; then their answers end with an error."""

    def __init__(
        self, app: ASGIApp, models: Models, grace_seconds: float = 20.0, patience: Patience | None = None
    ) -> None:
        self.models, self.grace_seconds = models, grace_seconds
        connection: Any = partial(Connection, patience or Patience())
        super().__init__(
            uvicorn.Config(
                app,
                http=connection,
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # anybody can write one
                server_header=False,
                timeout_graceful_shutdown=math.ceil(grace_seconds) + LAST_SECONDS,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        ending = loop.call_later(self.grace_seconds, loop.run_in_executor, None, self.models.close)
        await super().shutdown(sockets)
        ending.cancel()


def _bound(settings: ServeSettings) -> socket.socket:
    """The socket, bound before the models are loaded: a port in use is known at once."""
    try:
        return socket.create_server((settings.host, settings.port))
    except OSError as error:
        raise CamelidError(
            f"cannot listen on {settings.host}:{settings.port}: {reason_of(error).lower()}; "
            "choose another --port"
        ) from error
