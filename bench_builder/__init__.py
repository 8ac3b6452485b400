"""Stills become Helix4DBench: what is done to stills and frames around the video model."""

from bench_builder.frames import choose_frames, crop_frames, pad_still, shared_square, smooth_masks

__all__ = ["choose_frames", "crop_frames", "pad_still", "shared_square", "smooth_masks"]
