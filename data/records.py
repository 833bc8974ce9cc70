"""Records that cross processes. Every room reads them; none of them computes anything.

Frozen dataclasses that survive a pickle round trip. Arrays are numpy (Ray maps them without a copy); use
`torch.from_numpy` where they are consumed. Legend: G group, K trained steps, S denoising steps, N tokens, C channels,
H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.data.errors import DataError

REFERENCE_KINDS = ("detail", "subject", "background", "style", "lighting", "pose")
MAX_REFERENCES = 8

Box = tuple[int, int, int, int]
"""Half-open pixel box (x1, y1, x2, y2)."""


def _check_image(name: str, image: np.ndarray, channels: int) -> None:
    if image.ndim != 3 or image.shape[0] != channels or image.dtype != np.float32:
        raise DataError(f"{name} must be float32 [{channels},H,W], got {image.dtype} {list(image.shape)}")


@dataclass(frozen=True, eq=False)
class Reference:
    """One reference image.

    Args:
        kind: one of REFERENCE_KINDS.
        image: float32 [3,h,w] in [0,1], any size.
    """

    kind: str
    image: np.ndarray

    def __post_init__(self) -> None:
        if self.kind not in REFERENCE_KINDS:
            raise DataError(f"reference kind must be one of {REFERENCE_KINDS}, got {self.kind!r}")
        _check_image("reference image", self.image, 3)


@dataclass(frozen=True, eq=False)
class Example:
    """One thing to refine.

    Args:
        id: unique within its data set.
        instruction: what to do, in words.
        image: float32 [3,H,W] in [0,1], or None where the whole image is generated.
        mask: float32 [1,H,W], 1 = edit here, 0 = leave alone; None = whole frame.
        references: 0 to 8, in pointer order.
        target: float32 [3,H,W] in [0,1], what the image should become; never part of the conditioning.
        meta: source, split, and what a metric needs to know (plain str, int, float).
    """

    id: str
    instruction: str
    image: np.ndarray | None
    mask: np.ndarray | None
    references: tuple[Reference, ...] = ()
    target: np.ndarray | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array, channels in (("image", self.image, 3), ("mask", self.mask, 1), ("target", self.target, 3)):
            if array is not None:
                _check_image(name, array, channels)
        sizes = {a.shape[1:] for a in (self.image, self.mask, self.target) if a is not None}
        if len(sizes) > 1:
            raise DataError(f"image, mask and target of {self.id!r} differ in size: {sorted(sizes)}")
        if len(self.references) > MAX_REFERENCES:
            raise DataError(f"{self.id!r} has {len(self.references)} references, at most {MAX_REFERENCES}")

    @property
    def num_references(self) -> int:
        """Number of reference images."""
        return len(self.references)


@dataclass(frozen=True)
class Geometry:
    """All that decides the shapes and position ids of a forward pass; a batch holds one geometry.

    Args:
        height, width: size of the image in pixels.
        references: (height, width) of each reference in pixels.
        box: where the references sit in the image's coordinates, or None where ids start at 0.
        text_tokens: length of the encoded instruction, 0 where the policy reads none.
    """

    height: int
    width: int
    references: tuple[tuple[int, int], ...] = ()
    box: Box | None = None
    text_tokens: int = 0


@dataclass(frozen=True, eq=False)
class Conditions:
    """What the policy is conditioned on, encoded once a group; only the policy that made it reads `arrays`.

    `arrays["region"]` is the exception: float32 [N,C], 1 where a latent belongs to the edit region.
    """

    example_id: str
    geometry: Geometry
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PolicyVersion:
    """Number of finished iterations and the sha256 of the weights (see `policies/snapshot.py`)."""

    number: int
    digest: str


@dataclass(frozen=True)
class RewardVersion:
    """Name, version counter, and sha256 of (spec, weight files, preprocessing version) of one reward."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class RubricVersion:
    """Version counter and digest of (reward versions, weights, DRS, aggregation)."""

    version: int
    digest: str


@dataclass(frozen=True)
class SamplerSpec:
    """How a trajectory is integrated.

    Args:
        kind: "flow_sde", "dance_sde", "cps" or "ode".
        num_steps: S, denoising steps.
        eta: noise level of the SDE steps, 0 = ODE.
        shift: static sigma shift, 1 = none.
        logprob_region: "all" or "mask": the elements the log-probability averages over.
        schedule: "static" or "model": linear sigmas with `shift`, or the policy's own for the image's size.
        latent_dtype: "float32" or "float16": what latents are rounded to after every step, and travel as.
    """

    kind: str
    num_steps: int
    eta: float = 0.0
    shift: float = 1.0
    logprob_region: str = "all"
    schedule: str = "static"
    latent_dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One sample with all that the learner needs to replay its trained steps.

    Args:
        example_id, sample_index: which sample of which group.
        latents: [K,N,C] before each trained step; next_latents: [K,N,C] after it; both of `sampler.latent_dtype`.
        sigmas: float32 [S+1], the whole schedule, ending in 0.
        steps: the K trained step indices, ascending.
        stds: float32 [K], standard deviation of each step.
        log_probs: float32 [K].
        sampler: how it was integrated.
        policy: which weights made it.
        noise_key: hex key of the start noise, so that any process can draw it again.
        image: float32 [3,H,W] in [0,1], the policy's output before paste-back.
        means: float32 [K,N,C], only where GRPO-Guard needs them.
    """

    example_id: str
    sample_index: int
    latents: np.ndarray
    next_latents: np.ndarray
    sigmas: np.ndarray
    steps: tuple[int, ...]
    stds: np.ndarray
    log_probs: np.ndarray
    sampler: SamplerSpec
    policy: PolicyVersion
    noise_key: str
    image: np.ndarray
    means: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """One example, its G trajectories and its conditions; sampled by one policy version."""

    example: Example
    conditions: Conditions
    trajectories: tuple[Trajectory, ...]
    iteration: int
    policy: PolicyVersion


@dataclass(frozen=True)
class GroupSummary:
    """What the driver learns of a group: scalars only, the tensors stay where they are.

    Args:
        example_id, iteration, policy: which group.
        samples_digest: sha256 of every image and latent, so that equal runs can be told apart from similar ones.
        num_forwards: transformer calls times rows.
        seconds: process seconds by phase (encode, sample, decode).
    """

    example_id: str
    iteration: int
    policy: PolicyVersion
    samples_digest: str
    num_forwards: int
    seconds: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Scores:
    """Rewards of one group under one rubric version.

    Args:
        example_id, iteration: which group.
        rubric: which rubric scored it.
        raw: reward name -> float32 [G] as the reward model said.
        scaled: reward name -> float32 [G] after DRS (equal to raw where DRS is off for that reward).
        valid: reward name -> bool [G]; False = missing (not applicable, non-finite, refused); its values are 0 and
            must not be read.
        seconds: process seconds spent.
        costs: reward name -> what scoring took: calls, rows, padded rows, wall seconds, the reward's own counters.
    """

    example_id: str
    iteration: int
    rubric: RubricVersion
    raw: Mapping[str, np.ndarray]
    scaled: Mapping[str, np.ndarray]
    valid: Mapping[str, np.ndarray]
    seconds: float = 0.0
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GroupPlan:
    """What the learner does with one group.

    Args:
        example_id: which group.
        advantages: float32 [G], already clipped.
        valid: bool [G]; False = the sample has no reward at all and carries no gradient.
        weight: the group's DAR weight.
    """

    example_id: str
    advantages: np.ndarray
    valid: np.ndarray
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class UpdatePlan:
    """One iteration's update: plans in example order, shared by every learner rank.

    Args:
        iteration: which iteration.
        groups: one plan a group.
        on_policy: the groups were sampled with exactly the weights the learner holds now.
        kl_scale: what the recipe's KL weight is multiplied by; the guard may have raised it.
    """

    iteration: int
    groups: tuple[GroupPlan, ...]
    on_policy: bool = True
    kl_scale: float = 1.0
