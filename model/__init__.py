"""TRELLIS.2's networks under our own code, and what Helix4D adds to make them 4D."""

from model.attention import AttentionBackend
from model.checkpoint import CheckpointSource, Pipeline, load_network, save_network
from model.conditioning import FeatureCache, ImageEncoder, prepare_frames
from model.config import (
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
from model.dense_vae import DenseDecoder, DenseEncoder
from model.flow import AnchorCache, Checkpointing, DenseFlow, FlowTransformer, SparseFlow
from model.frames import FrameLayout, frame_timesteps
from model.initialize import initialize_flow, initialize_vae
from model.sampler import SHAPE_SAMPLER, STRUCTURE_SAMPLER, TEXTURE_SAMPLER, SamplerConfig, sample
from model.sc_vae import SparseDecoder, SparseEncoder
from model.sparse import SparseLayout, SparseTensor, concatenate

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
