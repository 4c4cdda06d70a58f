"""Work on a Ray cluster, or on a local one: pieces in, results in order, done again where a worker is lost.

The extra `ray`. Every node needs this version of Camelid, and sees the same files under the same paths.
"""

import logging
import socket
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from camelid.base.errors import CamelidError, WrongCall, reason_of
from camelid.base.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")
LOCAL = "local"
"""The address of a Ray that is started here, with this machine's cores."""
ANSWERS_WITHIN = 10.0
"""Seconds in which a cluster takes a connection."""
LOST_AT_MOST = 5
"""Workers that may be lost over one piece; more often than that, the piece itself ends them."""


class Cluster(Generic[Item, Result]):
    """A Ray cluster that does one kind of work: `local`, `ray://HOST:PORT`, or HOST:PORT of its head.

    start: called once in each process with `arguments`, gives the function that does the work. whole_nodes: a
    piece gets a GPU, or where there are none the cores of a node, instead of one core. Raises `WrongCall` if
    ray is not installed, and `CamelidError` if the cluster does not answer.
    """

    def __init__(
        self,
        address: str,
        start: Callable[..., Callable[[Item], Result]],
        arguments: tuple[Any, ...],
        *,
        whole_nodes: bool = False,
    ) -> None:
        self.address = address
        self._ray = ray = _connected(address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        if not cores:
            raise CamelidError(f"--on {address}: the cluster has no cores; start its nodes with --num-cpus")
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        needs: dict[str, Any] = {"num_cpus": 1}
        self.workers = sum(cores)
        """Pieces that are worked on at the same time."""
        if whole_nodes and gpus:
            # Ray would end a process with a GPU after each piece, and the next would load the model again.
            needs, self.workers = {"num_cpus": 1, "num_gpus": 1, "max_calls": 0}, gpus
        elif whole_nodes:
            needs = {"num_cpus": min(cores)}
            self.workers = sum(each // min(cores) for each in cores)
        self._task = ray.remote(max_retries=LOST_AT_MOST, retry_exceptions=False, **needs)(_run)
        self._given = ray.put((uuid.uuid4().hex, __version__, start, arguments))

    def share(self, value: Any) -> Any:
        """Puts a value where every node fetches it at most once; pieces bring what `shared_value` takes."""
        return self._ray.put(value)

    def in_order(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, in order; at most two per worker are in flight.

        A piece whose worker or node is lost is worked on again elsewhere. Raises the work's own errors.
        """
        waiting: deque[tuple[Item, Any]] = deque()
        try:
            for item in items:
                waiting.append((item, self._task.remote(self._given, item)))
                if len(waiting) == 2 * self.workers:
                    yield self._first(waiting)
            while waiting:
                yield self._first(waiting)
        finally:
            for _, future in waiting:
                self._ray.cancel(future)

    def _first(self, waiting: deque[tuple[Item, Any]]) -> tuple[Item, Result]:
        item, future = waiting.popleft()
        errors = self._ray.exceptions
        try:
            return item, self._ray.get(future)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            raise CamelidError(
                f"--on {self.address}: a piece of the work was lost with its worker more than {LOST_AT_MOST} "
                f"times, perhaps for lack of memory ({reason_of(error)})"
            ) from error


def _connected(address: str) -> Any:
    """The module ray, connected to the cluster; once in a process."""
    try:
        import ray
    except ImportError:
        raise WrongCall('--on needs ray; install it with pip install "camelid[ray]"') from None
    if not ray.is_initialized():
        try:
            if address != LOCAL:
                host, _, port = address.removeprefix("ray://").rpartition(":")
                socket.create_connection((host, int(port)), ANSWERS_WITHIN).close()  # Ray waits for minutes
            ray.init(
                None if address == LOCAL else address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({"include_dashboard": False} if address == LOCAL else {}),
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise CamelidError(
                f"--on {address}: no Ray cluster answers ({reason_of(error)}); give {LOCAL}, or "
                "ray://HOST:10001 of a running one"
            ) from error
    return ray


def shared_value(given: Any) -> Any:
    """In a process of the cluster, the value that `Cluster.share` was given."""
    import ray

    return ray.get(given)


_works: dict[str, Callable[[Any], Any]] = {}
"""The work of this process, by the cluster's name for it."""


def _run(given: tuple[str, str, Callable[..., Callable[[Any], Any]], tuple[Any, ...]], item: Any) -> Any:
    """Does a piece in a process of the cluster."""
    name, version, start, arguments = given
    if version != __version__:
        raise CamelidError(f"a node has camelid {__version__}, this machine {version}; install the same")
    if name not in _works:
        _works.clear()  # of one model or tokenizer at a time
        _works[name] = start(*arguments)
    return _works[name](item)
