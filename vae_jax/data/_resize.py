"""Images scaled to a square."""

import numpy as np


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a uint8 image (height, width, channels), scaled to size x size (Lanczos)."""
    from PIL import Image

    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    pixels = Image.fromarray(square[..., 0] if channels == 1 else square).resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(pixels).reshape(size, size, channels)
