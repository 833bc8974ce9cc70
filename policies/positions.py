"""Patches and position ids of a sequence of images.

Position ids are (image index, row, column): 0 = the noisy target, 1 = the input, 2 + k = the k-th reference
(OmniRefiner section 3.2). They stay float32: bfloat16 cannot hold coordinates above 256.
"""

from __future__ import annotations

import numpy as np


def position_ids(index: int, height: int, width: int, *, offset: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Ids of one token grid in row-major order.

    Args:
        index: which image of the sequence.
        height, width: grid size in tokens.
        offset: (row, column) of the grid's first token; a reference aligned to the edit box starts there.

    Returns:
        float32 [height*width, 3].
    """
    rows, columns = np.meshgrid(np.arange(height) + offset[0], np.arange(width) + offset[1], indexing="ij")
    index_column = np.full(height * width, index)
    return np.stack([index_column, rows.ravel(), columns.ravel()], axis=1).astype(np.float32)


def patchify(images: np.ndarray, patch: int) -> np.ndarray:
    """Tokens [B, (H/p)(W/p), Cpp] of images [B,C,H,W]; H and W are multiples of `patch`."""
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.transpose(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch * patch)


def unpatchify(tokens: np.ndarray, patch: int, *, height: int, width: int) -> np.ndarray:
    """Images [B,C,H,W] of tokens [B,N,Cpp]; the inverse of `patchify`."""
    channels = tokens.shape[2] // (patch * patch)
    grid = tokens.reshape(tokens.shape[0], height // patch, width // patch, channels, patch, patch)
    return grid.transpose(0, 3, 1, 4, 2, 5).reshape(tokens.shape[0], channels, height, width)
