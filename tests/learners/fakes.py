"""A small policy with a switchable adapter, and groups sampled from it; read by the tests and by `rank_worker.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from burnish.data import seeding
from burnish.data.records import (
    Conditions,
    Example,
    Geometry,
    Group,
    GroupPlan,
    PolicyVersion,
    SamplerSpec,
    Trajectory,
    UpdatePlan,
)
from burnish.policies.protocol import Policy
from burnish.policies.sampling import integrate

SIDE, PATCH = 4, 2
TOKENS, CHANNELS = (SIDE // PATCH) ** 2, 3 * PATCH * PATCH
SAMPLER = SamplerSpec("flow_sde", 4, eta=0.7, logprob_region="mask")


class FakeNet(torch.nn.Module):
    """Frozen two-layer network plus a low-rank adapter (scale 2, so that alpha differs from the rank)."""

    def __init__(self, *, seed: int = 0, full: bool = False) -> None:
        super().__init__()
        width = 2 * CHANNELS + 1
        self.first = torch.nn.Linear(width, 19)
        self.second = torch.nn.Linear(19, CHANNELS)
        self.down = torch.nn.Linear(19, 3, bias=False)
        self.up = torch.nn.Linear(3, CHANNELS, bias=False)
        self.adapter_on = True
        for name, parameter in self.named_parameters():
            values = 0.3 * seeding.normal(parameter.shape, seed, "fake", name)
            parameter.data.copy_(torch.from_numpy(values))
            parameter.requires_grad_(full or name.startswith(("down", "up")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.gelu(self.first(x))
        base = self.second(hidden)
        return base + 2.0 * self.up(self.down(hidden)) if self.adapter_on else base


@contextmanager
def adapter_off(module: FakeNet) -> Iterator[None]:
    module.adapter_on = False
    try:
        yield
    finally:
        module.adapter_on = True


def _tokens(images: np.ndarray) -> np.ndarray:
    batch = images.shape[0]
    cut = images.reshape(batch, 3, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
    return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3, 5).reshape(batch, TOKENS, CHANNELS))


class FakePolicy:
    """`Policy` on 4x4 pixels: latents are 2x2 patches."""

    family = "fake"

    def __init__(self, *, seed: int = 0, full: bool = False) -> None:
        self.module = FakeNet(seed=seed, full=full)

    def encode(self, example: Example) -> Conditions:
        mask = np.repeat(example.mask, 3, axis=0)[None]
        arrays = {"context": _tokens(example.image[None])[0], "region": _tokens(mask)[0]}
        return Conditions(example.id, Geometry(SIDE, SIDE), arrays)

    def latent_shape(self, conditions: Conditions) -> tuple[int, int]:
        return TOKENS, CHANNELS

    def encode_image(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        return torch.from_numpy(_tokens(images.numpy()))

    def velocity(self, latents: torch.Tensor, sigma: torch.Tensor, conditions: list[Conditions]) -> torch.Tensor:
        context = torch.from_numpy(np.stack([c.arrays["context"] for c in conditions]))
        level = sigma.reshape(-1, 1, 1).expand(-1, TOKENS, 1)
        return self.module(torch.cat([latents, context, level], dim=2))

    def decode(self, latents: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        return torch.zeros(latents.shape[0], 3, SIDE, SIDE)


def example(index: int) -> Example:
    image = seeding.generator(0, "image", index).random((3, SIDE, SIDE), dtype=np.float32)
    mask = np.zeros((1, SIDE, SIDE), np.float32)
    mask[:, :2, :3] = 1.0
    return Example(f"e{index}", "", image, mask, target=np.clip(image + 0.2 * mask, 0.0, 1.0).astype(np.float32))


def group(
    policy: Policy,
    index: int,
    *,
    size: int = 4,
    iteration: int = 0,
    batch: int = 4,
    item: Example | None = None,
    sampler: SamplerSpec = SAMPLER,
) -> Group:
    """Sample a group with the kernel and the shapes of the rollouter."""
    item = item or example(index)
    conditions = policy.encode(item)
    version = PolicyVersion(iteration, "")
    found: list[Trajectory] = []
    for first in range(0, size, batch):
        keys = [(iteration, item.id, first + row) for row in range(batch)]

        def noise(purpose: str, *parts: int, keys: list[tuple[int, str, int]] = keys) -> torch.Tensor:
            draws = [seeding.normal(policy.latent_shape(conditions), 7, purpose, *key, *parts) for key in keys]
            return torch.from_numpy(np.stack(draws))

        path = integrate(
            policy,
            [conditions] * batch,
            sampler=sampler,
            start=noise("start"),
            sde_steps=(0, 2),
            step_noise=lambda step, noise=noise: noise("step", step),
        )
        for row in range(batch):
            found.append(_trajectory(path, row, first + row, item.id, version, sampler))
    return Group(item, conditions, tuple(found), iteration, version)


def _trajectory(
    path: object, row: int, sample: int, example_id: str, version: PolicyVersion, sampler: SamplerSpec
) -> Trajectory:
    def stacked(name: str, dtype: str = "float32") -> np.ndarray:
        return np.stack([t[row].numpy() for t in getattr(path, name)]).astype(dtype)

    return Trajectory(
        example_id=example_id,
        sample_index=sample,
        latents=stacked("latents", sampler.latent_dtype),
        next_latents=stacked("next_latents", sampler.latent_dtype),
        sigmas=path.sigmas,
        steps=(0, 2),
        stds=np.array(path.stds, np.float32),
        log_probs=stacked("log_probs"),
        sampler=sampler,
        policy=version,
        noise_key="",
        image=np.zeros((3, SIDE, SIDE), np.float32),
        means=stacked("means"),
    )


def plan(groups: list[Group], *, iteration: int = 0, scale: float = 1.0, on_policy: bool = True) -> UpdatePlan:
    """Keyed advantages that sum to 0 in each group."""
    plans = []
    for number, item in enumerate(groups):
        size = len(item.trajectories)
        values = seeding.normal((size,), 3, "advantage", iteration, number)
        values = (scale * (values - values.mean())).astype(np.float32)
        plans.append(GroupPlan(item.example.id, values, np.ones(size, bool), 1.0 + 0.25 * number))
    return UpdatePlan(iteration, tuple(plans), on_policy)
