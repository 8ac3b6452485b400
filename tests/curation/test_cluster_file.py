from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).resolve().parents[2] / "configs" / "cluster.yaml"


def test_the_example_cluster_file_fits_rays_schema() -> None:
    config = prepare_config(yaml.safe_load(CLUSTER.read_text(encoding="utf-8")))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    assert (CLUSTER.parent.parent / config["file_mounts"]["~/helix4d"] / "pyproject.toml").exists()
