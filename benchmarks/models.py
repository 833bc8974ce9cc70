"""The two workloads of the speed benchmarks: a 7.2 M model on 193 tokens, and the tiny model of the recipes.

The large one has the size of the FLUX.1-Kontext stand-in that the speed bars were set on: 2 double and 2 single blocks
of width 256, 64 noise and 64 input tokens, ten steps. It differs in what burnish's tiny policy lacks: no VAE and no
text encoder, so no time for either on any side of a ratio; where the stand-in has 64 text tokens it has one, and a
reference of 64 tokens instead.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

from burnish.data.images import resize
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.records import Example, Reference
from burnish.data.sources import Source, make_source
from burnish.platform.config import load_recipe
from burnish.policies.digests import base_digest, policy_digest
from burnish.policies.lora import AdapterConfig, add_adapter, trainable
from burnish.policies.snapshot import new_policy
from burnish.policies.tiny import TinyConfig, TinyPolicy

LARGE = TinyConfig(
    num_layers=2, num_single_layers=2, num_attention_heads=4, attention_head_dim=64, axes_dims_rope=(16, 24, 24)
)


class WideReferences:
    """A source whose references are as large as the image, so that they count as many tokens."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source

    def count(self, split: str) -> int | None:
        """As the source says."""
        return self._source.count(split)

    def repeats(self, split: str) -> Container[int]:
        """As the source says."""
        return self._source.repeats(split)

    def example(self, split: str, index: int) -> Example:
        """The source's example, its references enlarged."""
        example = self._source.example(split, index)
        assert example.image is not None
        height, width = example.image.shape[1:]
        wide = [Reference(r.kind, resize(r.image, height=height, width=width)) for r in example.references]
        return replace(example, references=tuple(wide))


@dataclass(frozen=True, eq=False)
class Workload:
    """A model, its examples and shapes.

    Args:
        name: what the tables call it.
        config: the model.
        adapter: LoRA on it.
        source: examples.
        num_steps: T.
        group_size: G, also the rows of every forward.
        barred: the speed bars are about this one; the other's figures stand beside.
    """

    name: str
    config: TinyConfig
    adapter: AdapterConfig
    source: Source
    num_steps: int
    group_size: int
    barred: bool

    def policy(self) -> tuple[TinyPolicy, str]:
        """A fresh policy with a non-zero adapter, and its base digest; the same bytes every time."""
        policy = new_policy(self.config)
        digest = base_digest(policy.module)
        add_adapter(policy.module, self.adapter)
        for number, parameter in enumerate(trainable(policy.module).values()):
            parameter.data.add_(1e-4 * (number % 7 + 1))
        return policy, digest

    def describe(self, policy: TinyPolicy) -> str:
        """One line: parameters, tokens, steps, group."""
        named = list(policy.module.named_parameters())
        base = sum(p.numel() for n, p in named if "lora_" not in n)
        trained = sum(p.numel() for p in trainable(policy.module).values())
        conditions = policy.encode(self.source.example("train", 0))
        tokens = policy.latent_shape(conditions)[0] + len(conditions.arrays["context"]) + 1
        return (
            f"{self.name}: {base / 1e6:.2f} M parameters, {trained / 1e3:.0f} k trained, {tokens} tokens, "
            f"{self.num_steps} steps, group {self.group_size} in one forward"
        )


def large() -> Workload:
    """The 7.2 M model."""
    data = DataConfig(
        sources=(SourceConfig(kind="texture"),), image_size=32, box_size=16, box="free", reference_weights=(0.0, 1.0)
    )
    return Workload("large", LARGE, AdapterConfig(rank=16, alpha=32.0), WideReferences(make_source(data)), 10, 8, True)


def tiny() -> Workload:
    """The tiny model as the default recipe has it."""
    recipe = load_recipe("tiny")
    return Workload(
        "tiny",
        recipe.policy.tiny,
        recipe.grpo.adapter,
        make_source(recipe.data),
        recipe.grpo.sampler.num_steps,
        recipe.grpo.group_size,
        False,
    )


WORKLOADS = {"large": large, "tiny": tiny}


def digest_of(base: str, policy: TinyPolicy) -> str:
    """Digest of a policy's weights as they are."""
    from burnish.policies.lora import export_state

    return policy_digest(base, export_state(policy.module))
