"""The refiner: the one path from an example to a refined image with every other pixel untouched.

Focus-and-Refine (RefineAnything section 3.2): crop round the region, resize to the model, sample, resize back, blend,
paste. Evaluation, agents, serving and `burnish refine` call it; it never trains.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.errors import CheckpointError, DataError, Problem
from burnish.data.records import Conditions, Example, SamplerSpec
from burnish.data.regions import Region
from burnish.policies.digests import base_digest, policy_digest
from burnish.policies.lora import export_state
from burnish.policies.pieces import Focus, RefinerConfig
from burnish.policies.protocol import HasPrompt, Policy
from burnish.policies.sampling import OnStep, keyed_noise, render
from burnish.policies.snapshot import FORMAT_VERSION, adapted_digest, load_base, load_trained


class Refiner:
    """Refines regions of an image: `focus.cut_out`, `generate` and `focus.paste` are the three parts of `refine`.

    Args:
        policy: makes the pixels.
        sampler: the deployment sampler, recorded in `snapshot.json`.
        config: crop, sizes and blending.
    """

    def __init__(self, policy: Policy, sampler: SamplerSpec, config: RefinerConfig | None = None) -> None:
        self.policy = policy
        self.sampler = sampler
        self.focus = Focus(config or RefinerConfig())

    @property
    def config(self) -> RefinerConfig:
        """Crop, sizes and blending."""
        return self.focus.config

    def refine(self, example: Example, *, seed: int = 0, regions: Sequence[Region] = ()) -> np.ndarray:
        """The refined image, float32 [3,H,W]; bit for bit the input where the 8-bit blend mask is 0.

        Args:
            example: image of any size, mask (None = whole frame), references of any size.
            seed: keys the start noise together with the example's id.
            regions: several regions in place of the mask; those that could touch the same pixel are refined as one, and
                all of them see the input, so their order changes little more than their noise.

        Raises:
            DataError: no image, an empty mask, or a size or an instruction that the policy does not take.
        """
        pieces = self.focus.cut_out(example, regions)
        made = [self.generate([self.encode(piece.view)], seeds=[seed])[0] for piece in pieces]
        assert example.image is not None
        return self.focus.paste(example.image, pieces, made)

    def encode(self, view: Example) -> Conditions:
        """Conditions of a piece. No part of its instruction is cut off, as stock pipelines and training do.

        Raises:
            DataError: the instruction has more tokens than the policy reads, or the policy does not take the view.
        """
        if isinstance(self.policy, HasPrompt):
            found, most = self.policy.prompt_tokens(view.instruction)
            if found > most:
                problem = Problem("instruction", f"{found} tokens", f"at most {most}", "shorten it")
                raise DataError("the instruction is too long", [problem])
        return self.policy.encode(view)

    def generate(
        self, conditions: Sequence[Conditions], *, seeds: Sequence[int], on_step: OnStep | None = None
    ) -> np.ndarray:
        """Images float32 [B,3,h,w] of B encoded views of one geometry, each from its own seed."""
        noise = keyed_noise(self.policy, conditions, seed=seeds, purpose="refine-noise")
        return render(self.policy, conditions, sampler=self.sampler, noise=noise, on_step=on_step)


@dataclass(frozen=True)
class SnapshotRecord:
    """What `snapshot.json` says: family, digests, rank of the adapter, sampler and crop."""

    family: str
    base_digest: str
    policy_digest: str
    adapter: dict[str, Any] | None
    sampler: SamplerSpec
    refiner: RefinerConfig


def read_snapshot(snapshot: Path) -> SnapshotRecord:
    """The record of a snapshot's directory.

    Raises:
        CheckpointError: not readable, or written by a newer burnish.
    """
    file = snapshot / "snapshot.json"
    try:
        record = json.loads(file.read_text())
        version = int(record["format_version"])
        if version > FORMAT_VERSION:
            raise CheckpointError("snapshot too new", [Problem(str(file), str(version), f"at most {FORMAT_VERSION}")])
        return SnapshotRecord(
            family=str(record["family"]),
            base_digest=str(record["base_digest"]),
            policy_digest=str(record["policy_digest"]),
            adapter=None if record["adapter"] is None else dict(record["adapter"]),
            sampler=SamplerSpec(**record["sampler"]),
            refiner=RefinerConfig(**record["refiner"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError("snapshot not readable", [Problem(str(file), str(error), "a snapshot")]) from error


def loaded_digest(snapshot: Path, refiner: Refiner) -> str:
    """`policy_digest` of what `load_refiner` made of a snapshot."""
    record = read_snapshot(snapshot)
    if record.adapter is not None:
        return adapted_digest(refiner.policy.module)
    return policy_digest(record.base_digest, export_state(refiner.policy.module))


def load_refiner(snapshot: Path, *, base: Path, adapted: bool = True) -> Refiner:
    """The refiner of a snapshot: base and adapter by diffusers' own loader, sampler and crop as snapshot.json says.

    Where all weights were trained, those of `policy.safetensors` take the place of the adapter.

    Args:
        snapshot: directory with `snapshot.json` and what was trained, already verified.
        base: directory of the base, already verified.
        adapted: False leaves the adapter out: the base alone, sampled as the snapshot says.

    Raises:
        CheckpointError: no snapshot, one written by a newer burnish, or one of another base.
    """
    record = read_snapshot(snapshot)
    sampler, config = record.sampler, record.refiner
    policy = load_base(base)
    found = base_digest(policy.module)
    if found != record.base_digest:
        raise CheckpointError("snapshot of another base", [Problem(str(base), found[:12], record.base_digest[:12])])
    if adapted:
        load_trained(policy.module, snapshot, whole=record.adapter is None)
    return Refiner(policy, sampler, config)
