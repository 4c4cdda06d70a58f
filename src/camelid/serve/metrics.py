"""What a server counts, as `/metrics` in Prometheus' text format."""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camelid.serve.models import Models

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The counts of one server: requests by path and status, tokens, and what the engines have to do.

    Paths that do not exist count as `other`, so that nobody can make the table grow.
    """

    def __init__(self, models: Models, paths: Iterable[str]) -> None:
        self._registry, self._paths = CollectorRegistry(), frozenset(paths)
        self._requests = Counter(
            "camelid_requests", "Requests by path and status", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "camelid_request_seconds",
            "Seconds from a request to the end of its response",
            ["path"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(_OfModels(models))

    def text(self) -> bytes:
        """All of it, as of now."""
        return generate_latest(self._registry)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Counts a response."""
        known = path if path in self._paths else "other"
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)


class Counting:
    """The ASGI middleware that counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            self.metrics.count(scope["path"], status, time.perf_counter() - began)


class _OfModels(Collector):
    """What the models know themselves, read when somebody asks."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        prompt = CounterMetricFamily("camelid_prompt_tokens", "Tokens of prompts", labels=["model"])
        completion = CounterMetricFamily("camelid_completion_tokens", "Generated tokens", labels=["model"])
        running = GaugeMetricFamily("camelid_running", "Texts that are being generated", labels=["model"])
        waiting = GaugeMetricFamily("camelid_waiting", "Texts that wait for a place", labels=["model"])
        for name, counted in self._models.counted():
            prompt.add_metric([name], counted.prompt)
            completion.add_metric([name], counted.completion)
        for each in self._models.loaded():
            scheduler = each.engine.scheduler
            running.add_metric([each.name], sum(len(one.requests) for one in [*scheduler.running]))
            waiting.add_metric([each.name], len(scheduler.waiting))
        yield from (prompt, completion, running, waiting)
