"""Numbers that say how good a refined image is, and how informative a group's rewards are. Pure arrays.

Called by the evaluation, the agents and the training loop; never by a reward. Every image argument is float
[...,3,H,W] in [0,1] with any number of leading dimensions, every mask [...,1,H,W] with 1 = edit here; the result is
float64 with the leading dimensions' shape. A value that cannot be had (an empty region) is NaN.
"""

from __future__ import annotations

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114])


def _weighted_mse(images: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    error = np.square(images.astype(np.float64) - targets.astype(np.float64))
    weights = weights.astype(np.float64)
    total = weights.sum(axis=(-3, -2, -1)) * error.shape[-3]
    summed = (error * weights).sum(axis=(-3, -2, -1))
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)


def masked_mse(images: np.ndarray, targets: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """[...] mean squared error over the pixels and channels inside the mask, in [0,1] (OmniRefiner eq. 6, negated)."""
    return _weighted_mse(images, targets, masks)


def outside_mse(images: np.ndarray, inputs: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """[...] mean squared error against the input outside the mask (RefineEval's MSE_bg); 0 = nothing moved."""
    return _weighted_mse(images, inputs, 1.0 - masks.astype(np.float64))


def luminance(images: np.ndarray) -> np.ndarray:
    """[...,3,H,W] in [0,1] to Rec. 601 luminance [...,H,W], float64."""
    return np.einsum("...chw,c->...hw", images.astype(np.float64), _LUMA)


def edge_energy(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """[...] sum of squared luminance differences between neighbours that both lie inside the mask, >= 0."""
    grey, inside = luminance(images), masks[..., 0, :, :] > 0.5
    across = np.square(np.diff(grey, axis=-1)) * (inside[..., 1:] & inside[..., :-1])
    down = np.square(np.diff(grey, axis=-2)) * (inside[..., 1:, :] & inside[..., :-1, :])
    return across.sum(axis=(-2, -1)) + down.sum(axis=(-2, -1))


def edge_energy_ratio(images: np.ndarray, targets: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """[...] gradient energy inside the mask over the target's: 1 is perfect, below 1 blurrier, above 1 noisier.

    A squared-error reward favours blur, and this does not; no reward trains on it. NaN where the target is flat: its
    root mean squared difference between neighbours is below two grey levels, and the ratio would measure noise alone.
    """
    have, want = edge_energy(images, masks), edge_energy(targets, masks)
    pairs = 2 * (masks > 0.5).sum(axis=(-3, -2, -1))
    textured = want > pairs * (2 / 255) ** 2
    return np.where(textured, have / np.where(textured, want, 1.0), np.nan)


def psnr(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[...] peak signal-to-noise ratio in dB over the whole frame, data range 1; infinite for equal images."""
    error = np.square(images.astype(np.float64) - targets.astype(np.float64)).mean(axis=(-3, -2, -1))
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(error)


def ssim(images: np.ndarray, targets: np.ndarray, *, window: int = 7) -> np.ndarray:
    """[...] structural similarity, at most 1 (Wang et al. 2004 eq. 13), mean over channels; scikit-image's default.

    Raises:
        ValueError: the image is smaller than the window.
    """
    from skimage.metrics import structural_similarity

    flat = [a.astype(np.float64).reshape(-1, *a.shape[-3:]) for a in (images, targets)]
    pairs = zip(*flat, strict=True)
    values = [structural_similarity(x, y, win_size=window, data_range=1.0, channel_axis=0) for x, y in pairs]
    return np.array(values).reshape(images.shape[:-3])


def reward_statistics(values: np.ndarray, valid: np.ndarray, *, tolerance: float = 1e-6) -> dict[str, float]:
    """What one iteration's rewards can teach.

    Args:
        values: [N,G] rewards of N groups.
        valid: bool [N,G], False = missing; those values are not read.
        tolerance: a group whose population std is at most this has no spread, so it teaches nothing.

    Returns:
        `mean` over valid samples, `std` = mean of the groups' population std, `zero_spread` = share of groups without
        spread among those with a valid sample, `missing` = share of missing samples. NaN where nothing is valid.
    """
    counts = valid.sum(axis=1)
    scored = counts > 0
    missing = 1.0 - float(valid.mean()) if valid.size else float("nan")
    if not scored.any():
        return {"mean": float("nan"), "std": float("nan"), "zero_spread": float("nan"), "missing": missing}
    kept = np.where(valid, values.astype(np.float64), 0.0)
    safe = np.maximum(counts, 1)
    means = kept.sum(axis=1) / safe
    squares = np.where(valid, np.square(kept - means[:, None]), 0.0).sum(axis=1) / safe
    stds = np.sqrt(squares)[scored]
    return {
        "mean": float(kept.sum() / counts.sum()),
        "std": float(stds.mean()),
        "zero_spread": float((stds <= tolerance).mean()),
        "missing": missing,
    }
