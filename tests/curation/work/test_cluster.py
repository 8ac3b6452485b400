from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from helix4d.core import ConfigError
from helix4d.curation.config import RunConfig
from helix4d.curation.work import cluster
from helix4d.curation.work.cluster import Cluster, WorkerNeeds

pytestmark = pytest.mark.slow


def test_a_machine_too_small_for_a_worker_is_refused() -> None:
    connection = Cluster(RunConfig(workers=1, memory_gb_per_worker=1e6))
    with pytest.raises(ConfigError, match=r"which no node has .*: lower --cpus-per-worker"), connection:
        pass
    assert not ray.is_initialized()


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no Ray cluster responds at {address}"), Cluster(RunConfig(address)):
            pass


def test_a_cluster_that_refuses_the_token_is_reported() -> None:
    # In processes of their own: a Ray that once had a token mode keeps it.
    head = [sys.executable, "-c", _HEAD.format(mode="token")]
    joins = [sys.executable, "-c", _JOINS.format(mode="disabled")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(head, env=clean, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("at ")).split()[1]
        ended = subprocess.run([*joins, address], env=clean, capture_output=True, text=True, timeout=120, check=False)
        process.communicate("done")
    assert f"cannot connect to the Ray cluster at {address}" in ended.stdout, ended.stderr
    assert "RAY_AUTH_TOKEN_PATH" in ended.stdout


def test_a_local_ray_keeps_its_files_in_a_private_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the second time, because Ray makes its folder accessible to everyone."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # the names of sockets are limited to 107 bytes
        monkeypatch.setattr(tempfile, "tempdir", short)
        own = Path(short, f"ray-{os.geteuid()}")
        for _ in range(2):
            with Cluster(RunConfig(workers=1)):
                assert (own / "ray" / "session_latest").is_dir()
            assert own.stat().st_mode & 0o777 == 0o700
        own.chmod(0o777)
        with (
            pytest.raises(ConfigError, match="is writable by others: remove it, or set TMPDIR"),
            Cluster(RunConfig(workers=1)),
        ):
            pass


_HEAD = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "{mode}"
import ray
context = ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
print("at", context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""
_JOINS = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "{mode}"
from helix4d.core import ConfigError
from helix4d.curation.config import RunConfig
from helix4d.curation.work.cluster import Cluster
try:
    with Cluster(RunConfig(sys.argv[1])):
        pass
except ConfigError as error:
    print(error)
"""


def test_workers_of_a_cluster_import_the_drivers_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable install comes last on their path, and the driver's folder, which may hold `assets/`, before it."""
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    path = cluster._worker_environment()["env_vars"]["PYTHONPATH"].split(os.pathsep)
    assert (Path(path[0]) / "assets" / "__init__.py").exists()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert cluster._worker_environment() == {}, "a job brings its own copy of the code"


def test_the_scarcest_resource_limits_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 3.0})
    connection = Cluster(RunConfig())
    assert connection.places(WorkerNeeds(cpus=2)) == 4
    assert connection.places(WorkerNeeds(cpus=1, gpus=0.5)) == 6
    assert connection.places(WorkerNeeds(cpus=16)) == 1, "a node with more CPUs may join"
    assert connection.places(WorkerNeeds()) == 1


def test_a_local_ray_is_closed_to_other_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "absent"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with Cluster(RunConfig(workers=1)) as connection:
        token = os.environ["RAY_AUTH_TOKEN"]
        assert (len(token), os.environ["RAY_AUTH_MODE"]) == (64, "token")
        assert connection.call(_double_four, 0) == 8
        gcs = ray.get_runtime_context().gcs_address
        listening = set(_listening(token))
        session = Path(ray._private.worker._global_node.get_session_dir_path())
        assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
        assert {address for _, address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}, listening
        written = [path for path in session.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
        assert not written, "the token is in a file"
        refused = [sys.executable, "-c", _ASKS, str(gcs)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_TOKEN")}
        clean["HOME"] = str(tmp_path)
        ended = subprocess.run(refused, env=clean, capture_output=True, text=True, timeout=120, check=False)
        assert "AuthenticationError" in ended.stderr
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def _listening(token: str) -> Iterator[tuple[str, str]]:
    """Yield the name and address of every listening process that knows the token."""
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.environ().get("RAY_AUTH_TOKEN") == token:
                connections = process.net_connections("tcp")
                yield from ((process.name(), c.laddr.ip) for c in connections if c.status == psutil.CONN_LISTEN)


def _double_four() -> int:
    return 8


_ASKS = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
"""
