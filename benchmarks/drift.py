"""How far sampler and learner drift apart, a denoising step: as burnish runs them, and as it does not.

    OMP_NUM_THREADS=1 python benchmarks/drift.py [--markdown benchmarks/drift.md]

A group of four is sampled with an adapter that changes something, then a policy of its own computes the learner's
log-probability of the same steps, with gradients on. The figure is the largest |importance ratio - 1|, exactly 0 where
sampler and learner agree. The other columns change one thing: the learner's batch, or an adapter folded for sampling.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from harness import Page, parser, single_thread

from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.records import Conditions, SamplerSpec
from burnish.data.seeding import normal
from burnish.data.sources import make_source
from burnish.policies.families import FAMILIES
from burnish.policies.folding import merge_adapter
from burnish.policies.lora import AdapterConfig, add_adapter, trainable
from burnish.policies.protocol import HasSchedule
from burnish.policies.sampling import Path as Trajectory
from burnish.policies.sampling import integrate
from burnish.policies.steps import transition
from burnish.policies.tiny_models import make_tiny_models

MODELS = {
    "kontext": ("kontext", {"max_sequence_length": 16}),
    "flux2": ("flux2", {"max_sequence_length": 24, "text_layers": [1, 2, 3]}),
    "qwen2509": ("qwen_edit", {"condition_area": 3136}),
    "qwen2511": ("qwen_edit", {"condition_area": 3136}),
    "tiny": ("tiny", {}),
}
DTYPES = ("float32", "bfloat16")
ADAPTER = AdapterConfig(rank=4, alpha=6.0, target_modules=("to_q", "to_v", "to_out.0"))
GROUP, SDE_STEPS = 4, (0, 1, 2)


def adapted(models: Path, name: str, dtype: str) -> Any:
    """A policy with an adapter whose B is not zero."""
    family, own = MODELS[name]
    entry = FAMILIES[family]
    place = {"path": str(models / name), "dtype": dtype} if entry.pretrained else {}
    policy: Any = entry.build(entry.config.model_validate_json(json.dumps({**place, **own})))
    add_adapter(policy.module, ADAPTER)
    for key, parameter in trainable(policy.module).items():
        if ".lora_B." in key:
            parameter.data = torch.linspace(-0.3, 0.3, parameter.numel()).reshape(parameter.shape)
    return policy


def spec_of(policy: Any) -> SamplerSpec:
    """Four steps, three of them with noise."""
    return SamplerSpec("flow_sde", 4, eta=0.7, schedule="model" if isinstance(policy, HasSchedule) else "static")


def sampled(policy: Any, conditions: Conditions) -> Trajectory:
    """A group's trajectories."""
    shape = (GROUP, *policy.latent_shape(conditions))

    def noise(step: int) -> torch.Tensor:
        """Standard normal [GROUP,N,C] of a step; -1 = the start."""
        return torch.from_numpy(normal(shape, 0, "drift", step))

    return integrate(
        policy, [conditions] * GROUP, sampler=spec_of(policy), start=noise(-1), sde_steps=SDE_STEPS, step_noise=noise
    )


def replayed(policy: Any, conditions: Conditions, path: Trajectory, step: int, *, batch: int) -> torch.Tensor:
    """The learner's log-probabilities [GROUP] of a trained step, `batch` rows at a time."""
    levels, parts = [float(s) for s in path.sigmas], []
    before, after = path.latents[step].split(batch), path.next_latents[step].split(batch)
    for latents, given in zip(before, after, strict=True):
        sigma = torch.full((len(latents),), levels[step], dtype=torch.float32)
        velocity = policy.velocity(latents.clone(), sigma, [conditions] * len(latents))
        moved = transition(
            velocity,
            latents.clone(),
            sigma=levels[step],
            sigma_next=levels[step + 1],
            sigma_guard=levels[1],
            sampler=spec_of(policy),
            given=given.clone(),
        )
        parts.append(moved.log_prob.detach())
    return torch.cat(parts)


def drift(policy: Any, conditions: Conditions, path: Trajectory, *, batch: int) -> list[float]:
    """Largest |ratio - 1| of each trained step."""
    pairs = [(replayed(policy, conditions, path, k, batch=batch), path.log_probs[k]) for k in range(len(SDE_STEPS))]
    return [float(((new.double() - old.double()).exp() - 1).abs().max()) for new, old in pairs]


def measured(models: Path, name: str, dtype: str, example: Any) -> dict[str, Sequence[float]]:
    """Drift a step: as run, with another batch, with the adapter folded for sampling."""
    learner, sampler, folded = (adapted(models, name, dtype) for _ in range(3))
    conditions = learner.encode(example)
    path = sampled(sampler, conditions)
    merge_adapter(folded.module)
    other = sampled(folded, conditions)
    return {
        "as run": drift(learner, conditions, path, batch=GROUP),
        "rows one by one": drift(learner, conditions, path, batch=1),
        "folded sampler": drift(learner, conditions, other, batch=GROUP),
    }


def shown(values: Sequence[float]) -> str:
    """Steps beside each other."""
    return "0" if not any(values) else " ".join(f"{value:.0e}" for value in values)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, judge."""
    arguments = parser(__doc__).parse_args(argv)
    single_thread()
    page, rows, as_run = Page("Drift between sampler and learner"), [], []
    data = DataConfig(sources=(SourceConfig(kind="logo"),), image_size=64, box_size=32, patch=8)
    example = make_source(data, thorough=False).example("train", 0)
    with tempfile.TemporaryDirectory() as folder:
        make_tiny_models(Path(folder))
        for name in MODELS:
            for dtype in DTYPES if name != "tiny" else DTYPES[:1]:
                found = measured(Path(folder), name, dtype, example)
                rows.append([name, dtype, *(shown(values) for values in found.values())])
                as_run.extend(found["as run"])
                titles = list(found)
    page.table(["model", "dtype", *titles], rows)
    exact = all(value == 0.0 for value in as_run)
    page.verdict("as run, every ratio is exactly 1", exact, f"largest difference {max(as_run):.1e}")
    page.say("", f"|ratio - 1| at denoising steps {', '.join(map(str, SDE_STEPS))} of 4, the largest of {GROUP} rows.")
    return page.close(arguments.markdown)


if __name__ == "__main__":
    sys.exit(main())
