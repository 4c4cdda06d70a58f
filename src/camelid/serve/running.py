"""Runs the server until it is asked to end."""

import logging
import socket
from collections.abc import Sequence

import uvicorn

from camelid.base.errors import CamelidError, WrongCall, reason_of
from camelid.engine.engine import Engine
from camelid.engine.open_lm import is_url, open_lm
from camelid.recipes.engine import EngineSettings
from camelid.recipes.serve import ServeSettings
from camelid.serve.app import make_app
from camelid.serve.models import load_models

logger = logging.getLogger(__name__)


def serve(models: Sequence[str], settings: ServeSettings, engine: EngineSettings) -> None:
    """Serves models until Ctrl-C or SIGTERM; then answers what has begun, within the grace period."""
    if not models:
        raise WrongCall("no model given: camelid serve MODEL")

    def open_engine(model: str) -> Engine:
        if is_url(model):
            raise WrongCall(f"{model} is a server already; camelid serve takes folders and hub names")
        opened = open_lm(model, engine)
        assert isinstance(opened, Engine)
        return opened

    with _bound(settings) as listening:
        app = make_app(load_models(models, open_engine))
        host, port = listening.getsockname()[:2]
        logger.info(f"serving on http://{host}:{port}/v1 (Ctrl-C ends)")
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
