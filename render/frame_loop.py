"""The loop over frames and views that all engines share: exact alpha, views that show nothing, one scene per clip."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

import numpy as np

from helix4d.render.alpha.coverage import Coverage
from helix4d.render.scene.boxes import Box, silhouette_box, whole_image
from helix4d.render.scene.images import Layers, RenderedImage, to_rgba
from helix4d.render.scene.settings import RenderSettings
from helix4d.render.scene.views import Views


class EngineScene(Protocol):
    """A clip in an engine's own terms, at one of its frames."""

    def set_frame(self, frame: int) -> None:
        """Pose the clip at a frame."""

    def render(self, view: int, box: Box) -> Layers:
        """Render one view of the current frame, as a whole image.

        Args:
            view: index of the camera.
            box: holds all visible pixels; the others may be left 0.
        """


def render_frames(
    views: Views, open_scene: Callable[[Views], AbstractContextManager[EngineScene]]
) -> Generator[RenderedImage, None, None]:
    """Render all views of a frame before the next frame.

    Args:
        views: what to render.
        open_scene: opens the clip in an engine; called once, and not for a clip that is never visible.

    Yields:
        The images. Those that show nothing, by the frame's triangles or by exact alpha, come out fully transparent,
        without the engine.
    """
    settings = views.settings
    coverage = Coverage(views.clip, settings.cull_back_faces) if settings.exact_alpha else None
    scene: EngineScene | None = None
    with ExitStack() as stack:
        for frame in views.frames:
            posed = False
            for view, camera in enumerate(views.cameras):
                drawn = bool(len(views.clip.frames[frame].faces))
                alpha = coverage.alpha(frame, camera) if drawn and coverage is not None else None
                box = whole_image(settings.image_size) if alpha is None else silhouette_box(alpha)
                if not drawn or box is None:
                    yield _empty_image(view, frame, settings)
                    continue
                if scene is None:
                    scene = stack.enter_context(open_scene(views))
                if not posed:
                    scene.set_frame(frame)
                    posed = True
                colors, depth, normal = scene.render(view, box)
                rgba, clipped = to_rgba(colors, alpha, settings.view_transform)
                yield RenderedImage(view, frame, rgba, clipped, depth, normal)


def _empty_image(view: int, frame: int, settings: RenderSettings) -> RenderedImage:
    shape = (settings.image_size, settings.image_size)
    rgba = np.zeros((*shape, 4), np.uint8)
    if not settings.passes:
        return RenderedImage(view, frame, rgba)
    return RenderedImage(view, frame, rgba, 0.0, np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32))
