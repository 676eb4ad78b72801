"""Images as the stores and the loop see them: bytes, a size and a digest."""

from __future__ import annotations

from services.imaging.codec import CheckedImage, ImageInfo


def checked(data: bytes = b"x", width: int = 4, height: int = 3) -> CheckedImage:
    """Those bytes, taken for a PNG of that size."""
    return CheckedImage.hashed(data, ImageInfo("image/png", width, height))
