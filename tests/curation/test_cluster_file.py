"""The cluster files in configs/ conform to the schemas of their tools, and run a command that exists."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler._private.util import prepare_config, validate_config

from helix4d.curation.command import parse_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
USED = ["runs/geometry/model.bin", "my_shards/train/a.tar", "out/a.tar", "demo_output/a.webp", ".git/a", ".venv/a"]
"""Files of a used checkout that are not needed on nodes."""
KEPT = ["pyproject.toml", "curation/pipeline.py", "evaluation/runner.py", "tests/out/a.py"]


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    return content


def test_the_example_cluster_file_fits_rays_schema() -> None:
    config = prepare_config(_read("cluster.yaml"))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    assert (ROOT / config["file_mounts"]["~/helix4d"] / "pyproject.toml").exists()


@pytest.fixture
def used_checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    for name in [*USED, *KEPT]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    for name in (".gitignore", ".rayignore"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_a_job_of_a_used_checkout_sends_only_code(used_checkout: Path, tmp_path: Path) -> None:
    package = tmp_path / "package.zip"
    create_package(str(used_checkout), package, excludes=[], include_gitignore=False, include_parent_dir=False)
    names = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert names >= set(KEPT)
    assert not names & set(USED)


def test_git_ignores_outputs(used_checkout: Path) -> None:
    shutil.rmtree(used_checkout / ".git")
    subprocess.run(["git", "init", "--quiet"], cwd=used_checkout, check=True)
    found = subprocess.run(["git", "check-ignore", *USED[:4], *KEPT], cwd=used_checkout, capture_output=True, text=True)
    assert found.stdout.split() == USED[:4]


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_the_launcher_copies_only_code(used_checkout: Path, tmp_path: Path) -> None:
    excluded = [f"--exclude={pattern}" for pattern in _read("cluster.yaml")["rsync_exclude"]]
    subprocess.run(["rsync", "-a", *excluded, f"{used_checkout}/", tmp_path / "copy"], check=True)
    names = {
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    assert names >= set(KEPT)
    assert not names & set(USED)


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    fields = {**required, **optional}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
AMOUNTS = _object({"cpu": TEXT, "memory": TEXT})
CONTAINER = _object(
    {"name": TEXT, "image": TEXT, "resources": _object({"limits": AMOUNTS, "requests": AMOUNTS})},
    envFrom={"type": "array", "items": _object({"secretRef": _object({"name": TEXT})})},
    ports={"type": "array", "items": _object({"containerPort": COUNT, "name": TEXT})},
)
TEMPLATE = _object({"spec": _object({"containers": {"type": "array", "items": CONTAINER, "minItems": 1}})})
PARAMETERS = {"type": "object", "additionalProperties": TEXT}
WORKERS = {"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT, "template": TEMPLATE}
RAY_JOB = _object(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": _object({"name": {**TEXT, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}}),
        "spec": _object(
            {
                "entrypoint": TEXT,
                "rayClusterSpec": _object(
                    {
                        "rayVersion": TEXT,
                        "headGroupSpec": _object({"template": TEMPLATE}, rayStartParams=PARAMETERS),
                        "workerGroupSpecs": {"type": "array", "items": _object(WORKERS, rayStartParams=PARAMETERS)},
                    },
                    authOptions=_object({"mode": {"enum": ["disabled", "token"]}}),
                ),
            },
            shutdownAfterJobFinishes={"type": "boolean"},
            ttlSecondsAfterFinished=COUNT,
        ),
    }
)
"""The fields that the file uses, with the types of KubeRay's API (ray.io/v1)."""


def test_the_kuberay_file_fits_its_api_and_runs_a_valid_command() -> None:
    job = _read("kuberay.yaml")
    jsonschema.validate(job, RAY_JOB)
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["helix4d", "curate"]
    assert parse_config(words[2:], "helix4d curate").remote == "s3://BUCKET/shards"
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}" in (ROOT / "constraints.txt").read_text()


def test_the_skypilot_file_fits_its_schema() -> None:
    if importlib.util.find_spec("sky") is None:
        pytest.skip("the package skypilot is not installed")
    from sky.utils import schemas

    jsonschema.validate(_read("skypilot.yaml"), schemas.get_task_schema())


def test_the_skypilot_file_runs_a_valid_command(tmp_path: Path) -> None:
    task = _read("skypilot.yaml")
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (line,) = [line.strip() for line in task["run"].splitlines() if "helix4d curate" in line]
    words = [word.replace("$", "s3://bucket/") for word in shlex.split(line)[2:]]
    assert parse_config(words, "helix4d curate").remote == "s3://bucket/OUTPUT"


@pytest.mark.skipif(
    shutil.which("readelf") is None or shutil.which("dpkg") is None, reason="not a Debian with binutils"
)
def test_the_image_installs_what_blender_links_to() -> None:
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        pytest.skip("bpy is not installed")
    library = Path(spec.origin).with_name("__init__.so")
    read = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    needed = {line.split("[")[1].rstrip("]") for line in read.splitlines() if "NEEDED" in line}
    bundled = {path.name for path in library.parent.rglob("*.so*")}
    image = (CONFIGS / "Dockerfile").read_text().split()
    base = {"libc6", "libgcc-s1", "libstdc++6", "libgcc1", "zlib1g"}
    for name in sorted(needed - bundled):
        found = subprocess.run(["dpkg", "-S", f"*/{name}"], capture_output=True, text=True)
        packages = {line.split(":")[0] for line in found.stdout.splitlines()}
        if packages:  # else it is not installed here either
            assert packages & ({*image} | base), f"{name} is in {packages}"


def test_the_image_gets_every_package_of_the_wheel() -> None:
    ignored = (CONFIGS / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in sent)
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "tests"}
    assert folders <= sent
