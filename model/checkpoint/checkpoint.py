"""TRELLIS.2's checkpoint layout, read and written: `pipeline.json`, `ckpts/NAME.json` and `ckpts/NAME.safetensors`.

A network is built without memory, then given the file's tensors in the file's types. Entries of `pipeline.json` with
two slashes or more point into other hub repositories (the sparse-structure decoder does).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from helix4d.core import ConfigError, FormatError, first_line, write_bytes, write_json
from helix4d.model.networks.config import (
    BASE,
    DenseDecoderConfig,
    DenseEncoderConfig,
    FlowConfig,
    SparseDecoderConfig,
    SparseEncoderConfig,
    VideoConfig,
)
from helix4d.model.networks.flow import DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.vae.dense_vae import DenseDecoder, DenseEncoder
from helix4d.model.vae.sc_vae import SparseDecoder, SparseEncoder

_FLOWS: dict[str, type[FlowTransformer]] = {
    "SparseStructureFlowModel": DenseFlow,
    "SLatFlowModel": SparseFlow,
    "ElasticSLatFlowModel": SparseFlow,
}
_VAES: dict[str, tuple[Any, Any]] = {
    "SparseStructureEncoder": (DenseEncoder, DenseEncoderConfig),
    "SparseStructureDecoder": (DenseDecoder, DenseDecoderConfig),
    "FlexiDualGridVaeEncoder": (SparseEncoder, SparseEncoderConfig),
    "FlexiDualGridVaeDecoder": (SparseDecoder, SparseDecoderConfig),
    "SparseUnetVaeEncoder": (SparseEncoder, SparseEncoderConfig),
    "SparseUnetVaeDecoder": (SparseDecoder, SparseDecoderConfig),
}
_VIDEO_KEY = "helix4d"  # beside TRELLIS.2's `name` and `args`, which its own loader reads alone


@dataclass(frozen=True)
class CheckpointSource:
    """A local folder or a hub repository in TRELLIS.2's layout.

    Attributes:
        root: the folder, or `owner/repository`.
        revision: of the hub repository at `root`; other repositories are read at their default.
        mirrors: local folders to read instead of the hub repositories they are keyed by.
        offline: use the hub's local cache only.
    """

    root: str
    revision: str | None = None
    mirrors: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False

    def file(self, relative: str) -> Path:
        """The local path of a file of this source, fetched if need be."""
        return self._find(self.root, relative, self.revision)

    def reference(self, reference: str, suffix: str) -> Path:
        """The local path of an entry of `pipeline.json` with a suffix: here, or in the repository that it names."""
        _refuse_escape(reference)
        owner, slash, rest = reference.partition("/")
        if reference.count("/") < 2 or not slash:
            return self.file(reference + suffix)
        repository, _, path = rest.partition("/")
        return self._find(f"{owner}/{repository}", path + suffix, None)

    def _find(self, root: str, relative: str, revision: str | None) -> Path:
        _refuse_escape(relative)
        folder = Path(self.mirrors.get(root, root))
        if folder.is_dir():
            if not (folder / relative).is_file():
                raise FormatError(f"{folder}: no file {relative}: is this a folder in TRELLIS.2's layout?")
            return folder / relative
        if root.count("/") != 1:
            raise FormatError(f"{root} is neither a folder nor a hub repository (owner/name)")
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(root, relative, revision=revision, local_files_only=self.offline))
        except (OSError, ValueError) as error:
            raise ConfigError(hub_failure(f"{root}: no {relative}", error)) from error


@dataclass
class Pipeline:
    """The networks of a `pipeline.json` by their names in it, and everything else that it says.

    Attributes:
        networks: such as `sparse_structure_flow_model`, `shape_slat_decoder`.
        args: `pipeline.json`'s `args`, without `models`: samplers, normalizations, the conditioning model.
        name: TRELLIS.2's class name.
    """

    networks: dict[str, nn.Module]
    args: dict[str, Any]
    name: str = "Trellis2ImageTo3DPipeline"

    @classmethod
    def from_pretrained(
        cls,
        source: str | CheckpointSource,
        names: Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        compute_dtype: torch.dtype = torch.float32,
        vae_dtype: torch.dtype | None = None,
    ) -> Pipeline:
        """Load the networks called `names` (by default all); the types are those of `load_network`.

        Args:
            source: where to look.
            names: such as `sparse_structure_decoder`.
            dtype: of the parameters; by default the files' own.
            compute_dtype: of the activations inside the blocks.
            vae_dtype: the same for encoders and decoders; by default as in the flows.
        """
        source = CheckpointSource(source) if isinstance(source, str) else source
        document = read_settings(source.file("pipeline.json"))
        args = dict(document["args"])
        models = model_references(args.pop("models", None), source.root)
        if missing := sorted(set(names or ()) - set(models)):
            raise ConfigError(f"{source.root}: pipeline.json has no {missing}; it has {sorted(models)}")
        wanted = models if names is None else {name: models[name] for name in names}
        networks = {name: load_network(source, reference, dtype, compute_dtype) for name, reference in wanted.items()}
        for network in networks.values():
            if vae_dtype is not None and not isinstance(network, FlowTransformer):
                network.__dict__["compute_dtype"] = vae_dtype
        return cls(networks, args, document.get("name", cls.name))

    def save_pretrained(self, folder: Path) -> None:
        """Write all networks under `folder/ckpts` and the `pipeline.json` that names them, last."""
        for name, network in self.networks.items():
            save_network(network, folder, f"ckpts/{name}")
        models = {name: f"ckpts/{name}" for name in self.networks}
        write_json(folder / "pipeline.json", {"name": self.name, "args": {**self.args, "models": models}})


def load_network(
    source: str | CheckpointSource,
    reference: str,
    dtype: torch.dtype | None = None,
    compute_dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """One network, such as `ckpts/ss_flow_img_dit_1_3B_64_bf16`, in evaluation mode on the CPU.

    Args:
        source: where to look.
        reference: the path without suffix, as `pipeline.json` has it.
        dtype: of the parameters; by default the file's own.
        compute_dtype: of the activations inside the blocks.
    """
    source = CheckpointSource(source) if isinstance(source, str) else source
    document = read_settings(source.reference(reference, ".json"))
    path = source.reference(reference, ".safetensors")
    try:
        with torch.device("meta"):
            network = build_network(document)
    except FormatError as error:
        raise FormatError(f"{reference}.json: {error}") from error
    load_weights(network, _read_tensors(path, dtype), path.name)
    network.__dict__["compute_dtype"] = compute_dtype
    return network.eval()


def model_references(models: Any, origin: str) -> dict[str, str]:
    """The `models` of a `pipeline.json`, checked: their names in it to their places.

    Raises:
        FormatError: if it is no object of texts.
    """
    if not isinstance(models, dict) or not all(isinstance(place, str) for place in models.values()):
        raise FormatError(f'{origin}: pipeline.json has no "models" that names networks and their places')
    return models


def image_encoder_name(args: Mapping[str, Any], origin: str) -> str | None:
    """The image encoder that a `pipeline.json`'s `args` name, None where they name none.

    Raises:
        FormatError: if they say it in another form.
    """
    if "image_cond_model" not in args:
        return None
    try:
        name = args["image_cond_model"]["args"]["model_name"]
    except (KeyError, TypeError) as error:
        name = error
    if not isinstance(name, str):
        raise FormatError(f"{origin}: pipeline.json's image_cond_model has no args with a model_name in them")
    return name


def hub_failure(what: str, error: Exception) -> str:
    """A message for what a hub did not give."""
    return (
        f"{what} to be had ({first_line(error)}): is it a folder, or a hub repository that exists? A gated one needs "
        "its terms accepted and `hf auth login`; without a network only what was fetched before is there"
    )


def save_network(network: nn.Module, folder: Path, reference: str) -> None:
    """Write `folder/reference.safetensors`, then `folder/reference.json`."""
    _refuse_escape(reference)
    tensors = {
        k: v.detach().contiguous().cpu() for k, v in network.state_dict().items() if not k.endswith("rope_phases")
    }
    write_bytes(folder / f"{reference}.safetensors", save(tensors))
    write_json(folder / f"{reference}.json", describe_network(network))


def build_network(document: Mapping[str, Any]) -> nn.Module:
    """A network from the contents of its JSON, with weights still to come."""
    name, args = document.get("name"), document["args"]
    if not isinstance(name, str) or name not in _FLOWS | _VAES:
        raise FormatError(f"unknown network {name!r}: known ones are {sorted([*_FLOWS, *_VAES])}")
    try:
        if name in _FLOWS:
            video = VideoConfig(**document[_VIDEO_KEY]) if _VIDEO_KEY in document else BASE
            network: nn.Module = _FLOWS[name](FlowConfig.from_args(args), video)
        else:
            build, config = _VAES[name]
            network = build(config.from_args(args))
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise FormatError(f"no {name} can be made of these settings: {error}") from error
    network.__dict__["official"] = {"name": name, "args": dict(args)}
    return network


def describe_network(network: nn.Module) -> dict[str, Any]:
    """The contents of a network's JSON: as it was read, or else what TRELLIS.2's constructor of that kind takes."""
    document: dict[str, Any] = dict(network.__dict__.get("official") or _official(network))
    if isinstance(network, FlowTransformer) and network.video != BASE:
        document[_VIDEO_KEY] = asdict(network.video)
    return document


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Give a network its tensors; every name and every shape must be right."""
    wanted = {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("rope_phases")}
    given = {k: tuple(v.shape) for k, v in tensors.items()}
    if wanted != given:
        missing, extra = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
        other = [
            f"{k} {given[k]} for {wanted[k]}" for k in sorted(wanted.keys() & given.keys()) if wanted[k] != given[k]
        ]
        raise FormatError(
            f"{origin}: does not fit {type(network).__name__}: {len(missing)} tensors missing {missing[:3]}, "
            f"{len(extra)} unknown {extra[:3]}, {len(other)} of another shape {other[:3]}"
        )
    network.load_state_dict(dict(tensors), assign=True)


def _official(network: nn.Module) -> dict[str, Any]:
    config: Any = network.config
    args: dict[str, Any] = config.to_args()
    if isinstance(network, FlowTransformer):
        name = "SparseStructureFlowModel" if isinstance(network, DenseFlow) else "SLatFlowModel"
        return {"name": name, "args": args}
    if isinstance(network, DenseEncoder | DenseDecoder):
        return {"name": f"SparseStructure{type(network).__name__.removeprefix('Dense')}", "args": args}
    levels = len(config.model_channels)
    args |= {"block_type": ["SparseConvNeXtBlock3d"] * levels, "block_args": [{}] * levels}
    if isinstance(network, SparseEncoder):
        args["down_block_type"] = ["SparseResBlockS2C3d"] * (levels - 1)
        return {"name": "SparseUnetVaeEncoder", "args": args}
    if not isinstance(network, SparseDecoder):
        raise ConfigError(f"{type(network).__name__} is not a network of TRELLIS.2: it has no place in its layout")
    args["up_block_type"] = ["SparseResBlockC2S3d"] * (levels - 1)
    return {"name": "SparseUnetVaeDecoder", "args": args}


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file of TRELLIS.2's layout: an object with `args`.

    Raises:
        FormatError: if it is something else.
    """
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise FormatError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("args"), dict):
        raise FormatError(f'{path}: no object with "args" in it: not a configuration of TRELLIS.2\'s layout')
    return document


def _read_tensors(path: Path, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """All tensors but the derived `rope_phases`."""
    try:
        with safe_open(path, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys() if not name.endswith("rope_phases")}  # noqa: SIM118
    except SafetensorError as error:
        raise FormatError(f"{path}: not a safetensors file, or a truncated one: {error}") from error
    return tensors if dtype is None else {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _refuse_escape(relative: str) -> None:
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\\" in relative or not relative:
        raise FormatError(f"the path {relative!r} leaves its folder: refused")
