"""Random Wan checkpoints of a few hundred kilobytes, saved in the layouts in which Wan2.2's are published."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace as MetaspaceDecoder
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import UnigramTrainer
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

_WORDS = 16  # channels of the text encoder
_LATENT = 4


def write_a14b(folder: Path, seed: int = 0) -> Path:
    """Two experts that take turns, the condition beside the noisy latents: the layout of Wan2.2-I2V-A14B-Diffusers."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        vae = _vae(is_residual=False)
        experts = [_transformer(_LATENT + 4 + _LATENT) for _ in range(2)]
        pipeline = WanImageToVideoPipeline(
            **_words(),
            vae=vae,
            scheduler=_scheduler(),
            transformer=experts[0],
            transformer_2=experts[1],
            boundary_ratio=0.9,
        )
    return _save(pipeline, folder)


def write_ti2v_5b(folder: Path, seed: int = 0) -> Path:
    """One network, timesteps per token, a VAE of stride 16: the layout of Wan2.2-TI2V-5B-Diffusers, which names the
    text-to-video pipeline."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        vae = _vae(is_residual=True, decoder_base_dim=4, in_channels=12, out_channels=12, patch_size=2)
        vae.register_to_config(scale_factor_spatial=16)
        pipeline = WanPipeline(
            **_words(),
            vae=vae,
            scheduler=_scheduler(),
            transformer=_transformer(_LATENT),
            expand_timesteps=True,
        )
    return _save(pipeline, folder)


def _save(pipeline: Any, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.save_pretrained(folder)
    return folder


def _vae(**settings: Any) -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=_LATENT,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * _LATENT,
        latents_std=[1.0] * _LATENT,
        **settings,
    )


def _transformer(channels: int) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels,
        out_channels=_LATENT,
        text_dim=_WORDS,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )


def _scheduler() -> UniPCMultistepScheduler:
    # The published schedulers have a flow_shift of their own, which is not the one that the model was made for.
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def _words() -> dict[str, Any]:
    tokenizer = _tokenizer()
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(tokenizer),
            d_model=_WORDS,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            is_encoder_decoder=False,
        )
    )
    return {"tokenizer": tokenizer, "text_encoder": encoder.eval()}


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(Unigram())
    words.pre_tokenizer, words.decoder = Metaspace(), MetaspaceDecoder()
    trainer = UnigramTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    words.train_from_iterator([_WORDS_SEEN], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


_WORDS_SEEN = (
    "The camera is locked off and never moves, the whole subject stays inside the frame with room around it, in front "
    "of a plain, empty, evenly lit gray background. A square turns into a circle and back again. Camera movement, "
    "zoom, pan, cut, scene change, subject leaving the frame, cluttered background, floor, horizon, cast shadow, "
    "text, subtitles, watermark, still picture, flicker, blurry, overexposed, low quality, compression artifacts"
)
