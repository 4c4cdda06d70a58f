"""Runs the server until it is asked to end."""

import logging
import socket
from collections.abc import Sequence

import uvicorn

from camelid.base.errors import CamelidError, WrongCall, reason_of
from camelid.recipes.engine import EngineSettings
from camelid.recipes.serve import ServeSettings
from camelid.serve.app import make_app
from camelid.serve.guard import is_local, rules_for
from camelid.serve.keys import add_key, read_keys
from camelid.serve.sources import load_models

logger = logging.getLogger(__name__)


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
    with _bound(settings) as listening:
        rules = rules_for(settings.host, keys, settings.allow_origin)
        app = make_app(load_models(models, settings, engine), rules)
        host, port = listening.getsockname()[:2]
        logger.info(f"http://{host}:{port} is the page, http://{host}:{port}/v1 the API; Ctrl-C ends")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(settings.grace_seconds)
        )
        uvicorn.Server(config).run(sockets=[listening])


def _bound(settings: ServeSettings) -> socket.socket:
    """The socket, bound before the models are loaded: a port in use is known at once."""
    try:
        return socket.create_server((settings.host, settings.port))
    except OSError as error:
        raise CamelidError(
            f"cannot listen on {settings.host}:{settings.port}: {reason_of(error).lower()}; "
            "choose another --port"
        ) from error
