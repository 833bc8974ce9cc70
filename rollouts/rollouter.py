"""The rollouter: from one example to one group of trajectories.

A plain class; the platform places it in an actor. Everything it returns is a pure function of (weights, seed,
iteration, example index), so the platform may run a call again, elsewhere, and get the same bytes.
Legend: G group, B rows of one forward pass, K trained steps, N latent tokens, C channels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from burnish.data import seeding
from burnish.data.errors import InfrastructureError, RefusedError
from burnish.data.records import (
    Conditions,
    Example,
    Group,
    GroupSummary,
    PolicyVersion,
    SamplerSpec,
    Trajectory,
)
from burnish.data.sources import Source
from burnish.policies.digests import policy_digest
from burnish.policies.folding import Folding
from burnish.policies.lora import export_state, import_state
from burnish.policies.protocol import Policy
from burnish.policies.sampling import Path, SamplerConfig, by_geometry, draw_window, integrate, keyed_noise, render

_UNKNOWN = PolicyVersion(-1, "")
EVALUATION_SEED = 0
"""Evaluation noise is keyed without the run's seed, so that before and after, and two runs, are paired."""


class RolloutConfig(BaseModel):
    """How groups are sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    workers: int = Field(default=1, description="rollout actors", ge=1, json_schema_extra={"run_option": True})
    deadline: float = Field(
        default=600.0,
        description="seconds after which sampling a group, or evaluating a few examples, counts as hung",
        gt=0.0,
        json_schema_extra={"run_option": True},
    )
    num_cpus: float = Field(
        default=1.0, description="CPUs each of them takes", ge=0, json_schema_extra={"run_option": True}
    )
    num_gpus: float = Field(
        default=0.0, description="share of a GPU each of them takes", ge=0, json_schema_extra={"run_option": True}
    )
    resources: dict[str, float] = Field(
        default={}, description="Ray's custom resources each of them takes", json_schema_extra={"run_option": True}
    )
    sample_batch: int = Field(default=16, description="rows of every sampling forward; divides the group size", ge=1)
    fold_adapter: bool = Field(
        default=False,
        description="sample with the adapter folded into the weights: fewer products a layer, and a first ratio that "
        "is 1 within 1e-5 instead of exactly; float32 only",
    )
    lag: int = Field(default=0, description="iteration i is sampled with version max(0, i - lag)", ge=0)
    opportunistic: bool = Field(
        default=False,
        description="sample with the newest version there is, at most lag behind: faster, and no longer reproducible",
    )


@dataclass(frozen=True)
class _Rows:
    path: Path
    images: np.ndarray


class Rollouter:
    """Samples groups with the newest weights it was given.

    Args:
        policy: its trainable parameters are replaced by `load`.
        base: digest of what the adapter sits on.
        source: where examples come from, by split and index.
        config, sampler: shapes and dynamics.
        group_size: G.
        seed: the run's seed.
        keep_means: keep each step's mean (GRPO-Guard reads it).
    """

    def __init__(
        self,
        policy: Policy,
        *,
        base: str,
        source: Source,
        config: RolloutConfig,
        sampler: SamplerConfig,
        group_size: int,
        seed: int,
        keep_means: bool = False,
    ) -> None:
        self.policy = policy
        self.base = base
        self.source = source
        self.config = config
        self.sampler = sampler
        self.group_size = group_size
        self.seed = seed
        self.keep_means = keep_means
        self.version = _UNKNOWN
        self._held: dict[PolicyVersion, Mapping[str, np.ndarray]] = {}
        self._folding = Folding(policy.module) if config.fold_adapter else None

    @property
    def device(self) -> torch.device:
        """Where the policy's weights are."""
        return next(self.policy.module.parameters()).device

    def load(self, version: PolicyVersion, state: Mapping[str, np.ndarray]) -> tuple[int, str]:
        """Take a published state; returns (bound parameters, digest of what is held now).

        Raises:
            RefusedError: the state binds nothing, or is not what its digest says.
        """
        self.version = _UNKNOWN  # until the digest is right: a refused state is never sampled with
        bound = self._take(state)
        digest = policy_digest(self.base, export_state(self.policy.module))
        if bound == 0 or digest != version.digest:
            raise RefusedError(f"weights {version.number} arrived wrong: {bound} bound, digest {digest[:12]}")
        self.version = version
        self._held[version] = state
        for old in list(self._held)[: -(self.config.lag + 1)]:
            del self._held[old]
        return bound, digest

    def use(self, version: PolicyVersion) -> None:
        """Switch to one of the newest lag + 1 versions.

        Raises:
            InfrastructureError: it is not held (this rollouter was restarted): load, then ask again.
        """
        if version not in self._held:
            raise InfrastructureError(f"asked for policy {version.number}, holds {[v.number for v in self._held]}")
        if version != self.version:
            self._take(self._held[version])
            self.version = version

    def _take(self, state: Mapping[str, np.ndarray]) -> int:
        bound = import_state(self.policy.module, state)
        if self._folding is not None:
            self._folding.fold()
        return bound

    def sample(self, iteration: int, index: int, version: PolicyVersion) -> tuple[GroupSummary, Group]:
        """Sample the group of training example `index` for an iteration.

        Raises:
            InfrastructureError: `version` is not held, see `use`.
        """
        self.use(version)
        marks = [time.process_time()]
        example = self.source.example("train", index)
        conditions = self.policy.encode(example)
        marks.append(time.process_time())
        steps = draw_window(self.sampler, seed=self.seed, iteration=iteration, example_id=example.id)
        batch = self.config.sample_batch
        rows = [
            self._sample_rows(example, conditions, iteration, steps, range(first, first + batch))
            for first in range(0, self.group_size, batch)
        ]
        trajectories = tuple(
            self._trajectory(example, iteration, steps, rows[i // batch], i, i % batch) for i in range(self.group_size)
        )
        marks.append(time.process_time())
        summary = GroupSummary(
            example_id=example.id,
            iteration=iteration,
            policy=version,
            samples_digest=_samples_digest(trajectories),
            num_forwards=sum(r.path.num_forwards for r in rows),
            seconds={"encode": marks[1] - marks[0], "sample": marks[2] - marks[1]},
        )
        return summary, Group(example, conditions, trajectories, iteration, version)

    def _sample_rows(
        self, example: Example, conditions: Conditions, iteration: int, steps: tuple[int, ...], samples: Sequence[int]
    ) -> _Rows:
        shape = self.policy.latent_shape(conditions)

        def drawn(purpose: str, *parts: int) -> torch.Tensor:
            noise = [seeding.normal(shape, self.seed, purpose, iteration, example.id, i, *parts) for i in samples]
            return torch.from_numpy(np.stack(noise)).to(self.device)

        start = self._start_noise(example, shape, iteration, samples)
        integrated = self._integrate(conditions, start, steps, lambda step: drawn("step-noise", step))
        images = self.policy.decode(integrated.final, conditions).cpu().numpy()
        return _Rows(integrated, images)

    def _start_noise(
        self, example: Example, shape: tuple[int, int], iteration: int, samples: Sequence[int]
    ) -> torch.Tensor:
        picked = [0] * len(samples) if self.sampler.shared_initial_noise else list(samples)
        noise = [seeding.normal(shape, self.seed, "start-noise", iteration, example.id, i) for i in picked]
        return torch.from_numpy(np.stack(noise)).to(self.device)

    def _integrate(
        self,
        conditions: Conditions,
        start: torch.Tensor,
        steps: tuple[int, ...],
        step_noise: Callable[[int], torch.Tensor],
    ) -> Path:
        spec, batch = self.sampler.spec, start.shape[0]
        shared = steps[0] if self.sampler.shared_prefix else 0
        prefix = 0
        if shared:
            trunk = integrate(self.policy, [conditions], sampler=spec, start=start[:1], span=(0, shared))
            start, prefix = trunk.final.expand(batch, -1, -1).contiguous(), trunk.num_forwards
        path = integrate(
            self.policy,
            [conditions] * batch,
            sampler=spec,
            start=start,
            sde_steps=steps,
            step_noise=step_noise,
            span=(shared, spec.num_steps),
        )
        return Path(**{**path.__dict__, "num_forwards": path.num_forwards + prefix})

    def _trajectory(
        self, example: Example, iteration: int, steps: tuple[int, ...], rows: _Rows, sample: int, row: int
    ) -> Trajectory:
        path = rows.path

        def stacked(tensors: Sequence[torch.Tensor], dtype: str = "float32") -> np.ndarray:
            return np.stack([t[row].cpu().numpy().astype(dtype, copy=False) for t in tensors])

        stored = self.sampler.latent_dtype

        noise_sample = 0 if self.sampler.shared_initial_noise else sample
        return Trajectory(
            example_id=example.id,
            sample_index=sample,
            latents=stacked(path.latents, stored),
            next_latents=stacked(path.next_latents, stored),
            sigmas=path.sigmas,
            steps=steps,
            stds=np.array(path.stds, dtype=np.float32),
            log_probs=stacked(path.log_probs),
            sampler=self.sampler.spec,
            policy=self.version,
            noise_key=seeding.key_bytes((self.seed, "start-noise", iteration, example.id, noise_sample)).hex(),
            image=rows.images[row],
            means=stacked(path.means) if self.keep_means else None,
        )


def sample_examples(policy: Policy, examples: Sequence[Example], sampler: SamplerSpec) -> np.ndarray:
    """One image for each of a batch of examples of one size, float32 [B,3,H,W]: what evaluation measures.

    Noise is keyed by example and step, without the run's seed. `sampler.kind` "ode" is the deployment sampler; an SDE
    kind draws every step but the last. Where instructions differ in length there is one forward pass a length, each of
    all B rows: a row's bytes do not depend on who shares the batch.
    """
    conditions = [policy.encode(example) for example in examples]
    images: dict[int, np.ndarray] = {}
    for rows in by_geometry(conditions):
        padded = [conditions[i] for i in (*rows, *rows[-1:] * (len(examples) - len(rows)))]
        noise = keyed_noise(policy, padded, seed=EVALUATION_SEED, purpose="evaluation-noise")
        images |= zip(rows, render(policy, padded, sampler=sampler, noise=noise), strict=False)
    return np.stack([images[i] for i in range(len(examples))])


def _samples_digest(trajectories: Sequence[Trajectory]) -> str:
    digest = hashlib.sha256()
    for trajectory in trajectories:
        for array in (trajectory.latents, trajectory.next_latents, trajectory.log_probs, trajectory.image):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
