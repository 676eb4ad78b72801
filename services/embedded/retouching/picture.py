"""The picture while it is edited: CIELAB in float32, and the masks that confine operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from services.embedded.cielab import F32, U8, lab_to_linear, lab_to_rgb, rgb_to_lab
from services.embedded.strips import each_strip

Retouch = Callable[[F32, slice], F32]


def lab_of(source: U8) -> F32:
    """CIELAB (H, W, 3) of a picture of any size, without temporaries of that size."""
    lab = np.empty(source.shape, dtype=np.float32)

    def convert(rows: slice) -> None:
        lab[rows] = rgb_to_lab(source[rows])

    each_strip(source.shape[0], source.shape[1], convert)
    return lab


class Picture:
    """The picture while it is edited.

    ``lab`` (H, W, 3) is what operations change; ``source`` (H, W, 3, uint8) is the input after the geometry, on which
    regions are found. ``limit`` (H, W), 0 to 1, confines every operation (a mask, protected regions).
    """

    def __init__(self, source: U8, limit: F32 | None = None) -> None:
        self.source = source
        self.limit = limit
        self.touched = False
        self.height, self.width = source.shape[:2]

    @classmethod
    def of_lab(cls, lab: F32) -> Picture:
        """A picture of CIELAB values (H, W, 3), which are copied."""
        picture = cls(np.empty(lab.shape, dtype=np.uint8))
        picture.lab = lab.copy()
        return picture

    @cached_property
    def lab(self) -> F32:
        """The working values, converted on first use."""
        return lab_of(self.source)

    def linear(self) -> F32:
        """Linear light (H, W, 3) of the working values, a new array."""
        light = np.empty_like(self.lab)

        def convert(rows: slice) -> None:
            light[rows] = lab_to_linear(self.lab[rows])

        each_strip(self.height, self.width, convert)
        return light

    def sample(self) -> F32:
        """A subsample of the working values for statistics."""
        step = max(1, int(self.scale // 256))
        return self.lab[::step, ::step].copy()

    @property
    def lightness(self) -> F32:
        """L* of the working values, (H, W); a view."""
        return self.lab[..., 0]

    @property
    def scale(self) -> float:
        """The geometric mean of the sides in pixels; radii of filters are multiples of it."""
        return float(np.sqrt(self.height * self.width))

    def point(self, mask: F32 | None, retouch: Retouch) -> None:
        """Replace every pixel by ``retouch(lab strip, rows)``, weighted by ``mask`` and the limit."""
        self.touched = True
        lab = self.lab

        def change(rows: slice) -> None:
            after, weight = retouch(lab[rows], rows), self.weight(mask, rows)
            if weight is None:
                lab[rows] = after
            else:
                lab[rows] += (after - lab[rows]) * weight[..., None]

        each_strip(self.height, self.width, change)

    def weight(self, mask: F32 | None, rows: slice) -> F32 | None:
        """The weight of a change on these rows, 0 to 1; None without a mask or limit."""
        if mask is None:
            return None if self.limit is None else self.limit[rows]
        return mask[rows] if self.limit is None else mask[rows] * self.limit[rows]

    def render(self) -> U8:
        """SRGB code values (H, W, 3); exactly the source where nothing was changed."""
        if not self.touched:
            return self.source
        rgb = np.empty_like(self.source)

        def convert(rows: slice) -> None:
            rgb[rows] = lab_to_rgb(self.lab[rows], rows.start)

        each_strip(self.height, self.width, convert)
        return rgb
