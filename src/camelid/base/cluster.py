"""Work on a Ray cluster, or on a local one: pieces in, results in order, done again where a worker is lost.

The extra `ray`. Every node needs this version of Camelid, and sees the same files under the same paths.
"""

import logging
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

from camelid.base.errors import CamelidError, WrongCall, reason_of
from camelid.base.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")
LOCAL = "local"
"""The address of a Ray that is started here, with this machine's cores, even where another one runs."""
ANSWERS_WITHIN = 10.0
"""Seconds in which a cluster takes a connection."""
LOST_AT_MOST = 5
"""Workers that may be lost over one piece; more often than that, the piece itself ends them."""


LOOK_EVERY, NOWHERE_FOR = 30.0, 180.0
"""Seconds between looks at the nodes while a result is waited for, and for which none may offer what a piece
needs: Ray itself would wait for such a node for ever."""


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
        self._needs = {"CPU": needs["num_cpus"], "GPU": needs.get("num_gpus", 0)}
        self._task = ray.remote(max_retries=LOST_AT_MOST, retry_exceptions=False, **needs)(_run)
        self._given = ray.put((uuid.uuid4().hex, __version__, start, arguments))

    def share(self, value: Any) -> Any:
        """Puts a value where every node fetches it at most once; pieces bring what `shared_value` takes."""
        return self._ray.put(value)

    def in_order(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, in order; at most two per worker are in flight.

        A piece whose worker or node is lost is worked on again elsewhere. Raises the work's own errors, and
        `CamelidError` if no node that is left can take a piece.
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
            self._wait_for(future)
            return item, self._ray.get(future)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            raise CamelidError(
                f"--on {self.address}: a piece of the work was lost with its worker more than {LOST_AT_MOST} "
                f"times, perhaps for lack of memory ({reason_of(error)})"
            ) from error

    def _wait_for(self, future: Any) -> None:
        """Waits for a result; raises `CamelidError` if for `NOWHERE_FOR` seconds no node could work on it."""
        possible = time.monotonic()
        while not self._ray.wait([future], timeout=LOOK_EVERY)[0]:
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            if any(all(node.get(what, 0) >= count for what, count in self._needs.items()) for node in nodes):
                possible = time.monotonic()
            elif time.monotonic() - possible > NOWHERE_FOR:
                left = "; ".join(map(_resources, nodes)) or "none is left"
                raise CamelidError(
                    f"--on {self.address}: a piece of the work needs a node with {_resources(self._needs)}, "
                    f"and for {NOWHERE_FOR:.0f} seconds no node had that (nodes: {left}); add such a node, "
                    "and run the same command again"
                )


def _resources(of_node: dict[str, float]) -> str:
    """What a node has, or a piece needs, in words."""
    parts = [(of_node.get("CPU", 0), "core"), (of_node.get("GPU", 0), "GPU")]
    return " and ".join(f"{count:g} {name}{'' if count == 1 else 's'}" for count, name in parts if count)


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
                address,  # None would join a Ray that RAY_ADDRESS names, or that runs here
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({"include_dashboard": False} if address == LOCAL else {}),
            )
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise CamelidError(
                f"--on {address}: no Ray cluster answers ({reason_of(error)}); give {LOCAL}, or "
                "ray://HOST:10001 of a running one; set RAY_AUTH_MODE=token for one that asks for a token"
            ) from error
    return ray


def for_all_nodes(name: str | Path) -> str:
    """An existing file or folder by its absolute path, since processes of the cluster run in another folder;
    anything else, such as a name on the hub, as it is."""
    return str(Path(name).absolute()) if Path(name).exists() else str(name)


def refuse_unseen(*names: str | Path | None) -> None:
    """In a process of the cluster: raises `CamelidError` for an absolute path that is not on this node."""
    for name in names:
        if name is not None and Path(name).is_absolute() and not Path(name).exists():
            raise CamelidError(
                f"{name} is not on the node {socket.gethostname()}; with --on all nodes must see the same "
                "files under the same paths: put it on a file system that they share"
            )


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
