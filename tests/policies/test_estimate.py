"""What is counted without weights is what the loaded model then does and holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.data.errors import ConfigError
from burnish.data.records import Geometry
from burnish.policies.estimate import LiveBytes, frozen_bytes, hollow_policy, placeholder, sampling, training
from burnish.policies.lora import AdapterConfig, add_adapter

ADAPTER = AdapterConfig(rank=4, alpha=6.0, target_modules=("to_q", "to_v", "to_out.0"))
ROWS = 2


@pytest.mark.parametrize(("name", "dtype"), [("kontext", "float32"), ("flux2", "bfloat16"), ("qwen2511", "float32")])
def test_operations_and_bytes_equal_those_of_the_loaded_model(
    tiny_models: Path, pipelines: Any, name: str, dtype: str
) -> None:
    loaded = pipelines.policy_of(tiny_models, name, dtype=dtype)
    add_adapter(loaded.module, ADAPTER)
    geometry = loaded.encode(pipelines.example_of(2)).geometry
    conditions = placeholder(loaded, geometry)
    with hollow_policy(type(loaded), loaded.config, ADAPTER) as hollow:
        foretold = sampling(hollow, placeholder(hollow, geometry), rows=ROWS), train(hollow, geometry)
        numbers = {n: tuple(p.shape) for n, p in hollow.module.named_parameters()}
    for usage, wanted in zip(foretold, (sampling(loaded, conditions, rows=ROWS), train(loaded, geometry)), strict=True):
        assert usage.flops == wanted.flops and usage.bytes == pytest.approx(wanted.bytes, rel=0.1)
    assert numbers == {n: tuple(p.shape) for n, p in loaded.module.named_parameters()}


def train(policy: Any, geometry: Geometry) -> Any:
    """An update's micro-batch, with guidance."""
    return training(policy, placeholder(policy, geometry), rows=ROWS, guided=True, checkpointing=False)


def test_checkpointing_is_foretold_within_a_fifth(tiny_models: Path, pipelines: Any) -> None:
    policy = pipelines.policy_of(tiny_models, "kontext")
    add_adapter(policy.module, ADAPTER)
    conditions = policy.encode(pipelines.example_of(2))
    plain, thin = (training(policy, conditions, rows=ROWS, guided=False, checkpointing=c) for c in (False, True))
    policy.module.enable_gradient_checkpointing()
    latents = pipelines.noise_of(policy, conditions).expand(ROWS, -1, -1)
    live = LiveBytes(policy.module)
    with live:
        policy.plain_velocity(latents, latents[:, 0, 0], [conditions] * ROWS).square().mean().backward()
    assert live.most == pytest.approx(thin.bytes, rel=0.2) and thin.bytes < 0.8 * plain.bytes
    assert plain.flops < thin.flops < 1.5 * plain.flops


def test_the_other_parts_are_counted_from_the_files_headers(tiny_models: Path, pipelines: Any) -> None:
    policy = pipelines.policy_of(tiny_models, "kontext", dtype="bfloat16")
    parts = ("vae", "text_encoder", "text_encoder_2")
    held = sum(p.numel() for part in parts for p in getattr(policy.pipeline, part).parameters())
    assert frozen_bytes(tiny_models / "kontext", "bfloat16") == pytest.approx(2 * held, rel=0.01)


def test_a_folder_that_is_no_pipeline_is_named(tmp_path: Path, tiny_models: Path, pipelines: Any) -> None:
    policy = pipelines.policy_of(tiny_models, "kontext")
    config = policy.config.model_copy(update={"path": str(tmp_path)})
    with pytest.raises(ConfigError, match="nothing to estimate from"), hollow_policy(type(policy), config, ADAPTER):
        pass


KLEIN_9B = {
    "num_layers": 8,
    "num_single_layers": 24,
    "num_attention_heads": 32,
    "joint_attention_dim": 12288,
    "guidance_embeds": False,
}


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        ("omnirefiner-kontext", {"_class_name": "FluxTransformer2DModel", "guidance_embeds": True}),
        ("refineanything-qwen2509", {"_class_name": "QwenImageTransformer2DModel"}),
        ("dyref-qwen2511", {"_class_name": "QwenImageTransformer2DModel", "zero_cond_t": True}),
        ("dyref-klein", {"_class_name": "Flux2Transformer2DModel", **KLEIN_9B}),
    ],
)
def test_the_papers_adapters_bind_the_layers_that_the_recipes_expect(
    tmp_path: Path, recipe: str, shape: dict[str, Any]
) -> None:
    from burnish.platform.config import load_recipe
    from burnish.policies.families import family_of

    for part, content in (("transformer", shape), ("vae", {"block_out_channels": [1, 1, 1, 1]})):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(content))
    chosen = load_recipe(str(Path(__file__).parents[2] / "recipes" / f"{recipe}.yaml"))
    config = chosen.policy.config.model_copy(update={"path": str(tmp_path)})
    assert chosen.grpo.adapter.num_modules is not None
    with hollow_policy(family_of(config).pretrained, config, chosen.grpo.adapter) as policy:
        found = sum(p.numel() for p in policy.module.parameters() if not p.requires_grad)
    assert found > 8e9
