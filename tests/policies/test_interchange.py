"""Adapters under other programs' names: written, read back, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from burnish.data.errors import ConfigError
from burnish.policies.folding import merge_adapter
from burnish.policies.interchange import adapter_of, linear_sizes, save_lora
from burnish.policies.lora import AdapterConfig, add_adapter, trainable
from burnish.policies.lora_files import read_lora, starting_adapter
from burnish.policies.lora_names import TABLES, layers_of
from burnish.policies.snapshot import load_adapter, save_adapter

NAMES = ("kontext", "flux2", "qwen2509", "qwen2511")
STYLES = ("comfyui", "diffsynth")
EXTRA = {
    "kontext": ("proj_mlp", "norm_out.linear", "norm1.linear", "ff.net.2", "x_embedder"),
    "flux2": ("to_qkv_mlp_proj", "norm_out.linear", "linear_in", "double_stream_modulation_img.linear"),
    "qwen2509": ("img_mod.1", "img_mlp.net.0.proj", "proj_out"),
    "qwen2511": ("img_mod.1", "txt_mlp.net.2"),
}


def config_of(name: str, **changes: Any) -> AdapterConfig:
    """Rank 4 and alpha 6 on q, v and others: k is left out, so that a fused layer has a gap."""
    targets = ("to_q", "to_v", "add_k_proj", "to_out.0", *EXTRA[name])
    return AdapterConfig(rank=4, alpha=6.0, target_modules=targets).model_copy(update=changes)


def moved(policy: Any, config: AdapterConfig) -> Any:
    """The policy with an adapter that changes something in every layer."""
    add_adapter(policy.module, config)
    for key, parameter in trainable(policy.module).items():
        if ".lora_B." in key:
            parameter.data = torch.linspace(-0.2, 0.3, parameter.numel()).reshape(parameter.shape)
    return policy


def velocity_of(policy: Any, pipelines: Any) -> torch.Tensor:
    conditions = policy.encode(pipelines.example_of(1))
    return policy.velocity(pipelines.noise_of(policy, conditions), torch.tensor([0.5]), [conditions]).detach()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", STYLES)
def test_a_written_adapter_starts_another_policy_with_the_same_velocity(
    tiny_models: Path, pipelines: Any, tmp_path: Path, name: str, style: str
) -> None:
    policy, bare = (
        moved(pipelines.policy_of(tiny_models, name), config_of(name)),
        pipelines.policy_of(tiny_models, name),
    )
    before = velocity_of(bare, pipelines)
    save_lora(tmp_path / "a.safetensors", adapter_of(policy.module, scale=1.5), style=style, module=policy.module)
    starting_adapter(bare.module, config_of(name, start_from=str(tmp_path / "a.safetensors")))
    wanted = velocity_of(policy, pipelines)
    torch.testing.assert_close(velocity_of(bare, pipelines), wanted, atol=1e-5, rtol=0)
    assert float((wanted - before).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["qwen2509", "qwen2511"])
def test_the_stock_pipeline_reads_what_comfyui_reads(
    tiny_models: Path, pipelines: Any, tmp_path: Path, name: str
) -> None:
    policy, stock = (
        moved(pipelines.policy_of(tiny_models, name), config_of(name)),
        pipelines.policy_of(tiny_models, name),
    )
    save_lora(tmp_path / "a.safetensors", adapter_of(policy.module, scale=1.5), style="comfyui", module=policy.module)
    stock.pipeline.load_lora_weights(tmp_path, weight_name="a.safetensors", use_safetensors=True)
    wanted = velocity_of(policy, pipelines)
    torch.testing.assert_close(velocity_of(stock, pipelines), wanted, atol=1e-5, rtol=0)


def test_the_names_of_flux_are_those_of_the_published_checkpoint_fused(
    tiny_models: Path, pipelines: Any, tmp_path: Path
) -> None:
    policy = moved(pipelines.policy_of(tiny_models, "kontext"), config_of("kontext"))
    save_lora(tmp_path / "a.safetensors", adapter_of(policy.module, scale=1.5), style="comfyui", module=policy.module)
    held = load_file(tmp_path / "a.safetensors")
    qkv = "diffusion_model.double_blocks.0.img_attn.qkv"
    assert held[f"{qkv}.lora_down.weight"].shape == (8, 64) and held[f"{qkv}.lora_up.weight"].shape == (192, 8)
    assert float(held[f"{qkv}.alpha"]) == 12.0
    up = held[f"{qkv}.lora_up.weight"]
    assert not up[64:128].any() and not up[:64, 4:].any() and up[128:, 4:].any()
    q = dict(policy.module.named_parameters())["transformer_blocks.0.attn.to_q.lora_B.default.weight"]
    assert torch.equal(up[:64, :4], q.detach())


def test_the_last_norm_of_flux_has_its_halves_swapped(tiny_models: Path, pipelines: Any, tmp_path: Path) -> None:
    policy = moved(pipelines.policy_of(tiny_models, "kontext"), config_of("kontext"))
    save_lora(tmp_path / "a.safetensors", adapter_of(policy.module, scale=1.5), style="comfyui", module=policy.module)
    up = load_file(tmp_path / "a.safetensors")["diffusion_model.final_layer.adaLN_modulation.1.lora_up.weight"]
    own = dict(policy.module.named_parameters())["norm_out.linear.lora_B.default.weight"].detach()
    assert torch.equal(torch.cat([up[64:], up[:64]]), own)


@pytest.mark.parametrize("name", NAMES)
def test_every_linear_layer_has_one_place_elsewhere(tiny_models: Path, pipelines: Any, name: str) -> None:
    module = pipelines.policy_of(tiny_models, name).module
    here = set(linear_sizes(module))
    for style in STYLES:
        layers = layers_of(style, type(module).__name__, here)
        parts = [part for layer in layers for part in layer.parts]
        assert sorted(parts) == sorted(here)
        assert len({layer.name for layer in layers}) == len(layers)
    assert {kind for _, kind in TABLES} >= {type(module).__name__}


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_adapter_starts_training_bit_for_bit(
    tiny_models: Path, pipelines: Any, tmp_path: Path, name: str
) -> None:
    policy, other = (
        moved(pipelines.policy_of(tiny_models, name), config_of(name)),
        pipelines.policy_of(tiny_models, name),
    )
    save_adapter(policy.module, tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    starting_adapter(other.module, config_of(name, start_from=str(file)))
    held = dict(other.module.named_parameters())
    assert all(torch.equal(held[key], value) for key, value in trainable(policy.module).items())


def test_a_lower_rank_fits_and_leaves_room_that_changes_nothing(
    tiny_models: Path, pipelines: Any, tmp_path: Path
) -> None:
    policy = moved(pipelines.policy_of(tiny_models, "kontext"), config_of("kontext"))
    other = pipelines.policy_of(tiny_models, "kontext")
    save_adapter(policy.module, tmp_path)
    file = str(tmp_path / "pytorch_lora_weights.safetensors")
    starting_adapter(other.module, config_of("kontext", rank=8, alpha=8.0, start_from=file))
    torch.testing.assert_close(velocity_of(other, pipelines), velocity_of(policy, pipelines), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"rank": 2}, "adapter.rank"), ({"target_modules": ("to_q",)}, "adapter.target_modules")],
)
def test_an_adapter_that_does_not_fit_the_recipe_is_refused(
    tiny_models: Path, pipelines: Any, tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    policy = moved(pipelines.policy_of(tiny_models, "flux2"), config_of("flux2"))
    save_adapter(policy.module, tmp_path)
    file = str(tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(ConfigError, match=word):
        starting_adapter(
            pipelines.policy_of(tiny_models, "flux2").module, config_of("flux2", start_from=file, **changes)
        )


def test_files_that_hold_no_adapter_of_this_policy_are_refused(
    tiny_models: Path, pipelines: Any, tmp_path: Path
) -> None:
    module = pipelines.policy_of(tiny_models, "kontext").module
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    save_file({"transformer.other.lora_A.weight": torch.ones(2, 3)}, tmp_path / "half.safetensors")
    pair = {"transformer.other.lora_A.weight": torch.ones(2, 3), "transformer.other.lora_B.weight": torch.ones(4, 2)}
    save_file(pair, tmp_path / "other.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "none.safetensors")
    for file, word in [
        ("junk", "be read"),
        ("half", "half a LoRA"),
        ("other", "of the policy"),
        ("none", "no adapter"),
    ]:
        with pytest.raises(ConfigError, match=word):
            read_lora(tmp_path / f"{file}.safetensors", module)


@pytest.mark.parametrize("name", NAMES)
def test_merged_weights_are_a_plain_model_with_the_same_velocity(
    tiny_models: Path, pipelines: Any, tmp_path: Path, name: str
) -> None:
    policy, plain = (
        moved(pipelines.policy_of(tiny_models, name), config_of(name)),
        pipelines.policy_of(tiny_models, name),
    )
    names = {key for key, _ in plain.module.named_parameters()}
    save_adapter(policy.module, tmp_path)
    load_adapter(plain.module, tmp_path)
    merge_adapter(plain.module)
    assert {key for key, _ in plain.module.named_parameters()} == names
    torch.testing.assert_close(velocity_of(plain, pipelines), velocity_of(policy, pipelines), atol=1e-5, rtol=0)
