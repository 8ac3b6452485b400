"""An implementation of TRELLIS.2's networks, compatible with its checkpoints, and Helix4D's extension of them to 4D."""

from helix4d.model.checkpoint.checkpoint import CheckpointSource, Pipeline, load_network, save_network
from helix4d.model.conditioning.images import FeatureCache, ImageEncoder, prepare_frames
from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.config import (
    BASE,
    AnchorQueries,
    AttentionPattern,
    DenseDecoderConfig,
    DenseEncoderConfig,
    FlowConfig,
    SparseDecoderConfig,
    SparseEncoderConfig,
    TemporalRotary,
    VideoConfig,
)
from helix4d.model.networks.flow import AnchorCache, Checkpointing, DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.frames import FrameLayout, frame_timesteps
from helix4d.model.networks.initialize import initialize_flow, initialize_vae
from helix4d.model.networks.sparse import SparseLayout, SparseTensor, concatenate
from helix4d.model.sampling.sampler import SHAPE_SAMPLER, STRUCTURE_SAMPLER, TEXTURE_SAMPLER, SamplerConfig, sample
from helix4d.model.vae.dense_vae import DenseDecoder, DenseEncoder
from helix4d.model.vae.sc_vae import SparseDecoder, SparseEncoder

__all__ = [
    "BASE",
    "SHAPE_SAMPLER",
    "STRUCTURE_SAMPLER",
    "TEXTURE_SAMPLER",
    "AnchorCache",
    "AnchorQueries",
    "AttentionBackend",
    "AttentionPattern",
    "CheckpointSource",
    "Checkpointing",
    "DenseDecoder",
    "DenseDecoderConfig",
    "DenseEncoder",
    "DenseEncoderConfig",
    "DenseFlow",
    "FeatureCache",
    "FlowConfig",
    "FlowTransformer",
    "FrameLayout",
    "ImageEncoder",
    "Pipeline",
    "SamplerConfig",
    "SparseDecoder",
    "SparseDecoderConfig",
    "SparseEncoder",
    "SparseEncoderConfig",
    "SparseFlow",
    "SparseLayout",
    "SparseTensor",
    "TemporalRotary",
    "VideoConfig",
    "concatenate",
    "frame_timesteps",
    "initialize_flow",
    "initialize_vae",
    "load_network",
    "prepare_frames",
    "sample",
    "save_network",
]
