"""Tiny pipelines on disk, examples for them, and what the stock pipelines make of these."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.data import seeding
from burnish.data.records import Example, Reference
from burnish.policies.families import FAMILIES

SIZE = 64
CASES = {
    "kontext": ("kontext", {"max_sequence_length": 16}),
    "flux2": ("flux2", {"max_sequence_length": 24, "text_layers": [1, 2, 3]}),
    "qwen2509": ("qwen_edit", {"condition_area": 56 * 56}),
    "qwen2511": ("qwen_edit", {"condition_area": 56 * 56}),
    "tiny": ("tiny", {}),
    "worded": ("worded", {}),
}


def policy_of(models: Path, name: str, **options: Any) -> Any:
    """The policy of a case: of a tiny pipeline, or with weights of its own."""
    family, own = CASES[name]
    entry = FAMILIES[family]
    place = {"path": str(models / name)} if entry.pretrained else {}
    config = entry.config.model_validate_json(json.dumps({**place, **own, **options}))
    return entry.build(config)


def picture(name: str, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """A smooth random picture on the 8-bit grid, float32 [3,h,w]."""
    small = seeding.generator(0, "picture", name).uniform(0.1, 0.9, size=(1, 3, 4, 4)).astype(np.float32)
    image = torch.nn.functional.interpolate(torch.from_numpy(small), (height, width), mode="bilinear")[0].numpy()
    return (np.floor(image * 255.0 + 0.5) / 255.0).astype(np.float32)


def example_of(
    num_references: int, *, image: bool = True, id: str = "one", reference_size: tuple[int, int] = (SIZE, SIZE)
) -> Example:
    """An example whose middle is to be edited."""
    mask = np.zeros((1, SIZE, SIZE), np.float32)
    mask[:, 16:48, 16:48] = 1.0
    references = tuple(Reference("detail", picture(f"r{k}", *reference_size)) for k in range(num_references))
    shown = picture(f"input-{id}") if image else None
    return Example(id, "Restore the logo.", shown, mask, references, picture(f"target-{id}"))


def noise_of(policy: Any, conditions: Any, *, seed: int = 0) -> torch.Tensor:
    """Start noise [1,N,C]."""
    return torch.from_numpy(seeding.normal(policy.latent_shape(conditions), seed, "start"))[None]


def stock_steps(policy: Any, example: Example, *, num_steps: int, start: torch.Tensor) -> list[torch.Tensor]:
    """Latents [1,N,C] after each step of the stock pipeline, called as its users do, with PIL images."""
    from burnish.policies.pretrained import pil

    kept: list[torch.Tensor] = []

    def keep(pipeline: Any, step: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
        kept.append(values["latents"].clone())
        return values

    images = [pil(image) for image in policy.images(example)]
    call = STOCK[policy.family](policy, images, start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        policy.pipeline(
            prompt=example.instruction,
            height=SIZE,
            width=SIZE,
            num_inference_steps=num_steps,
            callback_on_step_end=keep,
            output_type="latent",
            max_sequence_length=policy.config.max_sequence_length,
            **call,
        )
    return kept


def _kontext(policy: Any, images: list[Any], start: torch.Tensor) -> dict[str, Any]:
    image = images[0] if images else None
    return {
        "image": image,
        "latents": start,
        "guidance_scale": policy.config.guidance,
        "_auto_resize": False,
        "max_area": SIZE * SIZE,
    }


def _flux2(policy: Any, images: list[Any], start: torch.Tensor) -> dict[str, Any]:
    rows = SIZE // policy.token
    grid = start.transpose(1, 2).reshape(1, -1, rows, rows)
    layers = {"text_encoder_out_layers": policy.config.text_layers}
    return {"image": images or None, "latents": grid, "guidance_scale": policy.config.guidance, **layers}


def _qwen(policy: Any, images: list[Any], start: torch.Tensor) -> dict[str, Any]:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as module

    module.VAE_IMAGE_SIZE, module.CONDITION_IMAGE_SIZE = SIZE * SIZE, policy.config.condition_area
    guidance = {"true_cfg_scale": policy.config.guidance, "negative_prompt": policy.config.negative_prompt}
    return {"image": images or None, "latents": start, **guidance}


STOCK = {"kontext": _kontext, "flux2": _flux2, "qwen_edit": _qwen}
