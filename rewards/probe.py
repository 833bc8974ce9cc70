"""May rows of several groups share a model call? Asked of every reward once, before it is used.

A row's bytes must not depend on its neighbours or its place in the batch; on some hardware and in some rewards they do.
Called where a reward is loaded.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from burnish.data.records import Example
from burnish.rewards.batches import RewardError, call_reward, score_batches
from burnish.rewards.canary import canary_example, canary_images
from burnish.rewards.protocol import Reward, is_remote


def crosses_groups(reward: Reward, canary: np.ndarray, *, name: str, batch: int) -> bool:
    """True where rows of several examples in one call have the bytes that they have in calls of their own.

    Tried with three examples, one of which has neither target nor references, in another order and with other
    neighbours. A remote reward is not asked: its answers may differ anyway.

    Args:
        reward: what is tried.
        canary: float32 [4] what `score_canary` gave for it; not asked for again.
        name: the reward's name in the rubric, for errors.
        batch: B, rows a call.
    """
    if is_remote(reward):
        return False
    if batch == 1:
        return True
    first, *others = _examples()
    rows = [(image, example) for example in (first, *others) for image in _outputs(example)]
    order = _order(len(rows), batch)
    try:
        alone = [score_batches(reward, _outputs(e), example=e, name=name, batch=batch) for e in others]
        mixed = [_call(reward, [rows[i] for i in part], name=name) for part in order.reshape(-1, batch)]
    except RewardError:
        return False  # it takes one example a call: a reward of its own kind, not a broken one
    return np.concatenate(mixed).tobytes() == np.concatenate([canary, *alone])[order].tobytes()


def _call(reward: Reward, rows: list[tuple[np.ndarray, Example]], *, name: str) -> np.ndarray:
    images = np.stack([image for image, _ in rows])
    return call_reward(reward, images, [example for _, example in rows], name=name)


def _order(count: int, batch: int) -> np.ndarray:
    """Rows of whole batches, each row at least once, neighbours from different examples.

    Small batches hold few neighbours: there, every row comes a second time, from the back.
    """
    once = np.arange(count) * 5 % count  # 5 and the 9 rows have no common factor
    wanted = once if batch >= count else np.concatenate([once, once[::-1]])
    return np.resize(wanted, -(-len(wanted) // batch) * batch)


def _examples() -> tuple[Example, Example, Example]:
    first = canary_example()
    assert first.image is not None and first.target is not None and first.mask is not None
    other = replace(
        first,
        id="canary-other",
        image=first.image[:, ::-1].copy(),
        target=first.target[:, :, ::-1].copy(),
        mask=np.roll(first.mask, 3, axis=1),
        references=tuple(replace(r, image=r.image[:, ::-1].copy()) for r in first.references),
    )
    return first, other, replace(first, id="canary-bare", target=None, references=())


def _outputs(example: Example) -> np.ndarray:
    """Float32 [4,3,H,W] in [0,1]; one row of the example without a target."""
    if example.target is not None:
        return canary_images(example)
    assert example.image is not None
    return example.image[None]
