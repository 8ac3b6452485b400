"""Pack clips into the inputs of a network, and copy them to the device while the previous microbatch is in use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from helix4d.model.networks.sparse import SparseLayout
from helix4d.train.data.dataset import TrainingClip


@dataclass(frozen=True)
class Batch:
    """Clips packed into the inputs of the networks.

    Attributes:
        keys: key of each clip.
        frames: number of frames of each clip.
        clean, noise: [F, C, r, r, r] in stage 1, [L, C] in stages 2 and 3.
        voxels: tokens of the F frames; None in stage 1.
        side: [L, C'], side input of the material stage, or None.
        images: [F, 3, S, S].
        t: float32 [clips], time of each clip.
        dropped: bool [clips], whether the condition is zeroed.
    """

    keys: tuple[str, ...]
    frames: tuple[int, ...]
    clean: Tensor
    noise: Tensor
    voxels: SparseLayout | None
    side: Tensor | None
    images: Tensor
    t: Tensor
    dropped: Tensor

    def tensors(self) -> list[Tensor]:
        """Return all tensors, the coordinates of the voxels included."""
        coords = None if self.voxels is None else self.voxels.coords
        tensors = (self.clean, self.noise, coords, self.side, self.images, self.t, self.dropped)
        return [tensor for tensor in tensors if tensor is not None]

    def to(self, device: torch.device) -> Batch:
        """Copy to `device`; from pinned memory without waiting for it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Copy to page-locked memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, copy: Callable[[Tensor], Tensor]) -> Batch:
        voxels = None
        if self.voxels is not None:
            voxels = SparseLayout(copy(self.voxels.coords), self.voxels.batch_size, self.voxels.lengths)
        return replace(
            self,
            clean=copy(self.clean),
            noise=copy(self.noise),
            voxels=voxels,
            side=None if self.side is None else copy(self.side),
            images=copy(self.images),
            t=copy(self.t),
            dropped=copy(self.dropped),
        )


def pack(clips: Sequence[TrainingClip]) -> Batch:
    """Pack clips on the CPU, one after another, without padding."""
    latents = [clip.latent for clip in clips]
    voxels = None
    if all(latent.coords is not None for latent in latents):
        lengths = tuple(n for latent in latents for n in latent.lengths)
        frames = torch.repeat_interleave(torch.arange(len(lengths), dtype=torch.int32), torch.tensor(lengths))
        coords = torch.cat([latent.coords for latent in latents if latent.coords is not None])
        checked = SparseLayout.from_coords(torch.cat([frames[:, None], coords], dim=1), len(lengths))
        voxels = SparseLayout(checked.coords, len(lengths), lengths)
    sides = [latent.side for latent in latents if latent.side is not None]
    return Batch(
        keys=tuple(clip.key for clip in clips),
        frames=tuple(len(latent.lengths) for latent in latents),
        clean=torch.cat([latent.clean for latent in latents]),
        noise=torch.cat([clip.noise for clip in clips]),
        voxels=voxels,
        side=torch.cat(sides) if sides else None,
        images=torch.cat([clip.images for clip in clips]),
        t=torch.tensor([clip.t for clip in clips], dtype=torch.float32),
        dropped=torch.tensor([clip.dropped for clip in clips]),
    )


def collate(clips: Sequence[TrainingClip], device: torch.device) -> Batch:
    """Pack clips and copy them to `device`."""
    batch = pack(clips)
    return (batch.pinned() if device.type == "cuda" else batch).to(device)


class Copier:
    """Copies microbatches to the device. On CUDA the next one is copied while the current one is in use.

    Copies run on a separate stream, from pinned memory. The host never waits, and the network's stream only for a
    microbatch that has not arrived yet. On other devices `start` does nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._started: tuple[list[TrainingClip], Batch, torch.cuda.Event] | None = None

    def start(self, clips: Sequence[TrainingClip]) -> None:
        """Start copying the microbatch that `take` will be called with next; does nothing without clips."""
        if self._stream is None or not clips:
            return
        with torch.cuda.stream(self._stream):
            batch = collate(clips, self._device)
            self._started = list(clips), batch, self._stream.record_event()

    def take(self, clips: Sequence[TrainingClip]) -> Batch:
        """Return a microbatch on the device, ready for use on the current stream."""
        if self._stream is None:
            return collate(clips, self._device)
        if self._started is None or not _same(self._started[0], clips):
            self.start(clips)
        if self._started is None:
            raise ValueError("no clips to copy")
        _, batch, copied = self._started
        self._started = None
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)
        # The memory belongs to the stream of the copies, which must not reuse it before this stream has read it.
        for tensor in batch.tensors():
            tensor.record_stream(current)
        return batch


def _same(a: Sequence[TrainingClip], b: Sequence[TrainingClip]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
