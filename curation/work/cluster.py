"""The connection to Ray. This file and `ray_loop.py` are the only ones that import Ray."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # a compiled module

from helix4d.core import ConfigError, Helix4DError, StorageError, first_line
from helix4d.core.processes import python_path
from helix4d.core.scratch import own_folder
from helix4d.curation.config import RunConfig

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 30.0
_RETRIES = 3


@dataclass(frozen=True)
class WorkerNeeds:
    """Resources that Ray reserves for one worker.

    Attributes:
        cpus: number of CPUs.
        gpus: number of GPUs; a fraction shares one.
        memory_bytes: main memory.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    memory_bytes: float = 0.0

    @classmethod
    def of(cls, run: RunConfig, gpus: float = 0.0) -> WorkerNeeds:
        """CPUs and memory per worker as configured, with `gpus` GPUs."""
        return cls(float(run.cpus_per_worker), gpus, run.memory_gb_per_worker * 1e9)

    def to_ray(self) -> dict[str, Any]:
        """Return the options that Ray's tasks and actors take."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory_bytes}

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs, {self.gpus:g} GPUs, {self.memory_bytes / 1e9:.1f} GB"


class Cluster:
    """A connection to a Ray cluster, or to a Ray started on this machine, as a context manager.

    A Ray instance that is started here listens on the loopback interface only, and requires a token that only this
    process and its descendants know. A cluster that is joined keeps its own settings.

    Args:
        run: address, number of workers, and the resources of each.

    Raises:
        ConfigError: on entry, if the cluster does not respond, if Ray's temporary folder is not this user's own, or if
            this machine lacks the resources that one worker needs. The last is only a warning for a cluster that was
            joined, because it may still grow.
    """

    def __init__(self, run: RunConfig) -> None:
        self._run = run
        self._address = run.address or os.environ.get("RAY_ADDRESS")
        self._settings = ExitStack()

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": "warning",
            "runtime_env": _worker_environment(),
        }
        if self._address:
            _check_reachable(self._address)
            try:
                ray.init(address=self._address, **options)
            except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
                raise ConfigError(
                    f"cannot connect to the Ray cluster at {self._address}: {_root_cause(error)}. Check that it is "
                    "running and that both sides use the same RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH"
                ) from error
        else:
            cpus = self._run.cpus_per_worker
            workers = self._run.workers or max(1, (os.cpu_count() or 1) // cpus)
            self._settings.enter_context(_closed_to_others())
            try:
                ray.init(
                    address="local",
                    num_cpus=workers * cpus,
                    include_dashboard=False,
                    _temp_dir=str(_ray_folder()),
                    **options,
                )
            except BaseException:
                self._settings.close()
                raise
        try:
            self._check_that_a_worker_fits()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._settings.close()

    @property
    def can_grow(self) -> bool:
        """Whether nodes may join later: not on a Ray that was started here."""
        return bool(self._address)

    @property
    def cpus(self) -> float:
        """Number of CPUs of the cluster now."""
        return float(ray.cluster_resources().get("CPU", 1.0))

    @property
    def gpus(self) -> float:
        """Number of GPUs of the cluster now."""
        return float(ray.cluster_resources().get("GPU", 0.0))

    def places(self, needs: WorkerNeeds) -> int:
        """Number of workers with these needs that can run at the same time, at least 1."""
        limits = [
            available / needed for available, needed in ((self.cpus, needs.cpus), (self.gpus, needs.gpus)) if needed
        ]
        return max(1, int(min(limits, default=1)))

    def call(self, function: Callable[[], Any], gpus: float) -> Any:
        """Result of a function, run in a worker process of its own for which Ray reserves `gpus` GPUs."""
        return ray.get(_call_alone.options(num_gpus=gpus).remote(function))

    def submit(self, function: Callable[..., None], *arguments: Any) -> Any:
        """Run a short function somewhere in the cluster, without waiting for a place.

        Ray runs it again if its worker or node is lost, so it must be safe to repeat.

        Returns:
            A handle for `ended` and `check`.
        """
        return _call.remote(function, *arguments)

    def ended(self, handles: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Split handles into those whose function has ended, well or badly, and the others."""
        done, pending = ray.wait(list(handles), num_returns=len(handles), timeout=0) if handles else ([], [])
        return list(done), list(pending)

    def check(self, handles: Sequence[Any]) -> None:
        """Wait for submitted functions and raise the first error.

        Raises:
            StorageError: if a worker or node was lost again and again, so that what it should have written is missing.
        """
        try:
            ray.get(list(handles))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Helix4DError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            raise StorageError(
                f"a shard could not be written: its Ray worker or node was lost {1 + _RETRIES} times "
                f"({first_line(error)}). Rerun the command; everything finished is kept"
            ) from error

    def _check_that_a_worker_fits(self) -> None:
        needs = WorkerNeeds.of(self._run, self._run.gpus_per_worker or 0.0)
        nodes = [_node_resources(node["Resources"]) for node in ray.nodes() if node["Alive"]]
        if any(_fits(needs, node) for node in nodes):
            return
        available = "; ".join(map(str, nodes)) or "no nodes"
        problem = f"a worker needs {needs}, which no node has (available: {available})"
        if not self.can_grow:
            raise ConfigError(f"{problem}: lower --cpus-per-worker, --gpus-per-worker or --memory-gb-per-worker")
        log.warning("%s: waiting for a node that does", problem)


@ray.remote(num_cpus=0, max_retries=_RETRIES)
def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@ray.remote(num_cpus=0, max_calls=1)
def _call_alone(function: Callable[[], Any]) -> Any:
    return function()


def _ray_folder() -> Path:
    """Return the folder for sockets and logs of a local Ray instance: one per user, unlike Ray's default.

    Ray makes the folder accessible to everyone, so it is placed in one that only the user can access. The name is short
    because the path of a socket has at most 107 bytes.
    """
    return own_folder(Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), f"ray-{os.geteuid()}")) / "ray"


@contextmanager
def _closed_to_others() -> Iterator[None]:
    """Configure Ray so that other users cannot use the instance that the block starts and shuts down.

    Ray turns the node address 127.0.0.1 into the address of a network interface, and then listens on all interfaces,
    unless a variable meant for macOS and Windows disables clusters. The token is passed in the environment, which only
    the user can read; Ray itself would write it to a file that everyone can read.
    """
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",
    }
    before = {name: os.environ.get(name) for name in variables}
    open_to_nodes = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(variables)
    ray_constants.ENABLE_RAY_CLUSTER = False  # Ray reads its variable at import
    _reload_authentication()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        ray_constants.ENABLE_RAY_CLUSTER = open_to_nodes
        _reload_authentication()


def _reload_authentication() -> None:
    """Make Ray read its environment variables again, which it caches on import and on first use."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _node_resources(resources: dict[str, float]) -> WorkerNeeds:
    return WorkerNeeds(resources.get("CPU", 0.0), resources.get("GPU", 0.0), resources.get("memory", 0.0))


def _fits(needs: WorkerNeeds, node: WorkerNeeds) -> bool:
    return needs.cpus <= node.cpus and needs.gpus <= node.gpus and needs.memory_bytes <= node.memory_bytes


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would retry silently for a quarter of an hour.

    Raises:
        ConfigError: if the connection fails.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():  # "auto": Ray looks among this machine's processes
        return
    try:
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster responds at {address} ({error})") from error


def _root_cause(error: BaseException) -> str:
    """Return the message of the innermost error, without the advice that Ray appends."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.split(r"\. (?:Note:|Last conn)", first_line(error))[0].rstrip(".")


def _worker_environment() -> dict[str, Any]:
    """Runtime environment in which workers import the `helix4d` that the driver runs.

    Workers of a Ray job get the job's own copy of the code from Ray.
    """
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {"env_vars": {"PYTHONPATH": python_path()}}
