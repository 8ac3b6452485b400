"""Export a trained stage in TRELLIS.2's checkpoint layout, with its 4D settings next to TRELLIS.2's own."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch

from helix4d.core import ConfigError, FormatError, write_json
from helix4d.core.typed import build
from helix4d.curation.places.folder import Place, folder_at
from helix4d.model.checkpoint.checkpoint import save_network
from helix4d.model.networks.config import AttentionPattern
from helix4d.model.networks.flow import FlowTransformer
from helix4d.model.sampling.loading import SETTINGS_KEY
from helix4d.train.checkpoint import TrainState, list_checkpoints, load_checkpoint, restore, step_of
from helix4d.train.config import CONFIG_FILE, Stage, TrainConfig
from helix4d.train.data.dataset import latent_statistics
from helix4d.train.latents.latents import SHAPE, TEXTURE
from helix4d.train.low_rank import merge_low_rank
from helix4d.train.network import build_network, to_file_types

log = logging.getLogger("helix4d.train")

NAMES = {
    Stage.STRUCTURE: "sparse_structure_flow_model",
    Stage.GEOMETRY: "shape_slat_flow_model_512",
    Stage.MATERIAL: "tex_slat_flow_model_512",
}
_STATISTICS = {SHAPE: "shape_slat_normalization", TEXTURE: "tex_slat_normalization"}


def read_run(run: Place) -> TrainConfig:
    """Read the settings with which a run was last started.

    Raises:
        FormatError: if the folder is not that of a run.
    """
    try:
        values = json.loads(folder_at(run).read(CONFIG_FILE))
    except (OSError, ValueError) as error:
        raise FormatError(f"{run}: not the folder of a training run ({error})") from error
    return build(TrainConfig, values, str(run))


def load_trained(
    config: TrainConfig, device: torch.device, ema: bool = True, step: int | None = None
) -> FlowTransformer:
    """Load a run's network from a checkpoint (by default the last), with averaged (EMA) or raw weights.

    Low-rank updates are merged into the matrices that they belong to.
    """
    return _load(config, device, ema, step)[0]


def _load(config: TrainConfig, device: torch.device, ema: bool, step: int | None) -> tuple[FlowTransformer, TrainState]:
    saved = {step_of(place): place for place in list_checkpoints(config.place)}
    if not saved or (step is not None and step not in saved):
        which = "" if step is None else f" for step {step}"
        raise ConfigError(f"{config.place}: no checkpoint{which} (available steps: {sorted(saved) or 'none'})")
    path = saved[max(saved) if step is None else step]
    checkpoint = load_checkpoint(path)
    network = build_network(config, device)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    restore(checkpoint.ema if ema else checkpoint.model, trained, str(path))
    merge_low_rank(network)
    return network.eval().requires_grad_(False), checkpoint.state


def export_run(run: Place, output: Path, ema: bool = True, step: int | None = None) -> str:
    """Write the network to `output/ckpts`, list it in `output/pipeline.json` and return its name there.

    `pipeline.json` is created if necessary. Every tensor is written in its data type in the base checkpoint (see
    `to_file_types`), to which trained tensors are rounded.

    Raises:
        ConfigError: if the run has no such checkpoint, was trained with cross-frame attention but without a clean first
            frame, or does not match the stages already in `output`.
    """
    config = read_run(run)
    if not config.network.first_frame and config.network.video.pattern is not AttentionPattern.SPATIAL:
        raise ConfigError(
            f"{run}: trained without a clean first frame, which `helix4d sample` requires: evaluate this ablation with "
            "`helix4d study ablations` or `helix4d generate`"
        )
    path = output / "pipeline.json"
    document: dict[str, Any] = {"name": "Trellis2ImageTo3DPipeline", "args": {"models": {}}}
    if path.exists():
        document = json.loads(path.read_bytes())
    arguments = document["args"]
    shared = _shared_settings(config)
    if SETTINGS_KEY in arguments:  # written by an earlier export: shared settings must agree
        for key, value in shared.items():
            if arguments[key] != value:
                raise ConfigError(
                    f"{output}: {key} of the stages already there, {_short(arguments[key])}, differs from that of "
                    f"{run}, {_short(value)}: use another output"
                )
    network, state = _load(config, torch.device("cpu"), ema, step)
    to_file_types(network)
    name = NAMES[config.stage]
    save_network(network, output, f"ckpts/{name}")
    arguments["models"][name] = f"ckpts/{name}"
    write_json(path, {**document, "args": {**arguments, **shared}})
    note = (
        average_note(config.optimizer.ema, state.step, state.start_share)
        if ema
        else f"the network after {state.step:,} steps"
    )
    log.info("%s: ckpts/%s is %s", output, name, note)
    return name


def average_note(decay: float, steps: int, start_share: float) -> str:
    """Describe the moving average of a run for the log.

    Args:
        decay: decay per step.
        steps: number of steps of the run.
        start_share: remaining share of the initial weights in the average.
    """
    return (
        f"the moving average of {steps:,} steps with a decay of {decay:g}, in which the initial weights have "
        f"a share of {100 * start_share:.1f} %"
    )


def _shared_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the entries of `pipeline.json` that are shared by all stages."""
    statistics = latent_statistics(config.data)
    return {
        "image_cond_model": {"args": {"model_name": config.network.image_encoder}},
        SETTINGS_KEY: {"base": config.network.checkpoint, "image_size": config.data.image_size},
        **{
            key: {"mean": list(statistics[kind].mean), "std": list(statistics[kind].std)}
            for kind, key in _STATISTICS.items()
        },
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
