"""Rewards of generated images: no input, no mask; what does not apply is missing, and nothing crashes."""

from dataclasses import replace

import numpy as np
import pytest

from burnish.rewards.batches import score_batches
from burnish.rewards.canary import canary_example, canary_images
from burnish.rewards.rubric import RewardSpec
from burnish.rewards.table import TABLE, make_reward

PLAIN = ("masked_pixel", "outside_preservation", "boundary_band", "ssim", "psnr", "colour_light", "copy_paste")
TOYS = tuple(name for name in TABLE if name.startswith("toy_"))
MISSING = {"outside_preservation", "boundary_band"}


@pytest.mark.parametrize("kind", [*PLAIN, *TOYS])
def test_a_reward_scores_a_generated_image_or_is_missing(kind):
    example = replace(canary_example(), image=None, mask=None)
    images = canary_images(canary_example())
    reward = make_reward(RewardSpec(name=kind, kind=kind))
    values = score_batches(reward, images, example=example, name=kind, batch=4)
    assert values.dtype == np.float32 and (np.isnan(values).all() if kind in MISSING else np.isfinite(values).any())


@pytest.mark.parametrize("kind", [*PLAIN, *TOYS])
def test_without_a_target_either_only_references_can_be_compared(kind):
    example = replace(canary_example(), image=None, mask=None, target=None)
    reward = make_reward(RewardSpec(name=kind, kind=kind))
    values = score_batches(reward, canary_images(canary_example()), example=example, name=kind, batch=4)
    assert np.isnan(values).all() or kind in ("toy_style", "colour_light")
