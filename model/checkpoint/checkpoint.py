"""Read and write TRELLIS.2's checkpoint layout: `pipeline.json`, `ckpts/NAME.json` and `ckpts/NAME.safetensors`.

Networks are built on the meta device and then assigned the stored tensors, by default in their stored types. Entries of
`pipeline.json` with two or more slashes refer to other hub repositories (as for the sparse-structure decoder).
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
_VIDEO_KEY = "helix4d"  # stored next to `name` and `args`; TRELLIS.2's own loader ignores it


@dataclass(frozen=True)
class CheckpointSource:
    """A local folder or a hub repository in TRELLIS.2's layout.

    Attributes:
        root: path of the folder, or `owner/repository`.
        revision: Git revision of the hub repository `root`; other repositories are read at their default branch.
        mirrors: local folders to read in place of hub repositories, keyed by `owner/repository`.
        offline: whether to read only the local hub cache.
    """

    root: str
    revision: str | None = None
    mirrors: Mapping[str, str] = field(default_factory=dict)
    offline: bool = False

    def file(self, relative: str) -> Path:
        """Return the local path of a file in this source, downloading it if necessary."""
        return self._find(self.root, relative, self.revision)

    def reference(self, reference: str, suffix: str) -> Path:
        """Return the local path of a `pipeline.json` entry plus `suffix`, here or in the repository that it names."""
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
                raise FormatError(f"{folder}: {relative} not found: is this a folder in TRELLIS.2's layout?")
            return folder / relative
        if root.count("/") != 1:
            raise FormatError(f"{root} is neither a folder nor a hub repository (owner/name)")
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(root, relative, revision=revision, local_files_only=self.offline))
        except (OSError, ValueError) as error:
            raise ConfigError(hub_failure(f"{root}: {relative}", error)) from error


@dataclass
class Pipeline:
    """The networks of a `pipeline.json` and the rest of its contents.

    Attributes:
        networks: networks by name, such as `sparse_structure_flow_model` or `shape_slat_decoder`.
        args: `args` of `pipeline.json` without `models`: samplers, normalizations, the conditioning model.
        name: TRELLIS.2's class name of the pipeline.
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
        """Load the networks called `names`, or all of them.

        Args:
            source: folder or hub repository in TRELLIS.2's layout.
            names: network names, such as `sparse_structure_decoder`.
            dtype: parameter type; by default the stored one.
            compute_dtype: activation type inside the blocks.
            vae_dtype: activation type of encoders and decoders; by default `compute_dtype`.
        """
        source = CheckpointSource(source) if isinstance(source, str) else source
        document = read_settings(source.file("pipeline.json"))
        args = dict(document["args"])
        models = model_references(args.pop("models", None), source.root)
        if missing := sorted(set(names or ()) - set(models)):
            raise ConfigError(f"{source.root}: pipeline.json does not list {missing}; it lists {sorted(models)}")
        chosen = models if names is None else {name: models[name] for name in names}
        networks = {name: load_network(source, reference, dtype, compute_dtype) for name, reference in chosen.items()}
        for network in networks.values():
            if vae_dtype is not None and not isinstance(network, FlowTransformer):
                network.__dict__["compute_dtype"] = vae_dtype
        return cls(networks, args, document.get("name", cls.name))

    def save_pretrained(self, folder: Path) -> None:
        """Write all networks to `folder/ckpts`, then the `pipeline.json` that lists them."""
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
    """Load one network, such as `ckpts/ss_flow_img_dit_1_3B_64_bf16`, in evaluation mode on the CPU.

    Args:
        source: folder or hub repository in TRELLIS.2's layout.
        reference: path without suffix, as in `pipeline.json`.
        dtype: parameter type; by default the stored one.
        compute_dtype: activation type inside the blocks.
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
    """Return the `models` of a `pipeline.json`, network names to paths, after checking them.

    Raises:
        FormatError: if `models` is not an object of strings.
    """
    if not isinstance(models, dict) or not all(isinstance(place, str) for place in models.values()):
        raise FormatError(f'{origin}: "models" in pipeline.json must map network names to paths')
    return models


def image_encoder_name(args: Mapping[str, Any], origin: str) -> str | None:
    """Return the name of the image encoder in the `args` of a `pipeline.json`, or None if they name none.

    Raises:
        FormatError: if `image_cond_model` is malformed.
    """
    if "image_cond_model" not in args:
        return None
    try:
        name = args["image_cond_model"]["args"]["model_name"]
    except (KeyError, TypeError) as error:
        name = error
    if not isinstance(name, str):
        raise FormatError(f"{origin}: image_cond_model in pipeline.json has no args.model_name")
    return name


def hub_failure(what: str, error: Exception) -> str:
    """Return the error message for a failed download from the hub."""
    return (
        f"{what} could not be loaded ({first_line(error)}): check that this is a local folder or an existing hub "
        "repository. A gated repository requires accepting its terms and `hf auth login`; offline, only files that "
        "are already in the local cache are available"
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
    """Build a network from the contents of its JSON file, without loading its weights."""
    name, args = document.get("name"), document["args"]
    if not isinstance(name, str) or name not in _FLOWS | _VAES:
        raise FormatError(f"unknown network {name!r}: must be one of {sorted([*_FLOWS, *_VAES])}")
    try:
        if name in _FLOWS:
            video = VideoConfig(**document[_VIDEO_KEY]) if _VIDEO_KEY in document else BASE
            network: nn.Module = _FLOWS[name](FlowConfig.from_args(args), video)
        else:
            build, config = _VAES[name]
            network = build(config.from_args(args))
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise FormatError(f"invalid settings for {name}: {error}") from error
    network.__dict__["official"] = {"name": name, "args": dict(args)}
    return network


def describe_network(network: nn.Module) -> dict[str, Any]:
    """Return the contents of a network's JSON file: as read, or else the arguments of TRELLIS.2's constructor."""
    document: dict[str, Any] = dict(network.__dict__.get("official") or _official(network))
    if isinstance(network, FlowTransformer) and network.video != BASE:
        document[_VIDEO_KEY] = asdict(network.video)
    return document


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Assign `tensors` to a network; all names and shapes must match."""
    expected = {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("rope_phases")}
    stored = {k: tuple(v.shape) for k, v in tensors.items()}
    if expected != stored:
        missing, extra = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
        mismatched = [
            f"{k} is {stored[k]}, expected {expected[k]}"
            for k in sorted(expected.keys() & stored.keys())
            if expected[k] != stored[k]
        ]
        raise FormatError(
            f"{origin} does not fit {type(network).__name__}: {len(missing)} missing tensors {missing[:3]}, "
            f"{len(extra)} unexpected {extra[:3]}, {len(mismatched)} with a wrong shape {mismatched[:3]}"
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
        raise ConfigError(f"{type(network).__name__} is not a TRELLIS.2 network: it cannot be saved in its layout")
    args["up_block_type"] = ["SparseResBlockC2S3d"] * (levels - 1)
    return {"name": "SparseUnetVaeDecoder", "args": args}


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON file of TRELLIS.2's layout: an object with `args`.

    Raises:
        FormatError: if the file is not such an object.
    """
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise FormatError(f"{path}: invalid JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("args"), dict):
        raise FormatError(f'{path}: no "args" object: this is not a configuration in TRELLIS.2\'s layout')
    return document


def _read_tensors(path: Path, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Read all tensors except the derived `rope_phases`."""
    try:
        with safe_open(path, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys() if not name.endswith("rope_phases")}  # noqa: SIM118
    except SafetensorError as error:
        raise FormatError(f"{path}: not a safetensors file, or truncated: {error}") from error
    return tensors if dtype is None else {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _refuse_escape(relative: str) -> None:
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or "\\" in relative or not relative:
        raise FormatError(f"path {relative!r} points outside its folder")
