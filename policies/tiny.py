"""The tiny policy: a real FLUX transformer, small enough to learn on two cores, in pixel space.

It sees the input image (with the mask as a fourth channel) and the references beside the noise, as a dual-input editor
does, and differs from one only in what it lacks: no VAE (latents are patches of pixels in [-1,1]) and no text encoder
(one zero text token; the instruction is not read). Its weights are drawn by parameter name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from burnish.data import seeding
from burnish.data.errors import DataError
from burnish.data.masks import mask_bbox
from burnish.data.records import Box, Conditions, Example, Geometry
from burnish.policies.positions import patchify, position_ids, unpatchify


class TinyConfig(BaseModel):
    """Shape of the tiny transformer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    patch: int = Field(
        default=4, description="pixels on a side of a patch; image and box sizes are multiples of it", ge=1
    )
    num_layers: int = Field(default=1, description="double-stream blocks", ge=0)
    num_single_layers: int = Field(default=2, description="single-stream blocks", ge=0)
    num_attention_heads: int = Field(default=4, description="attention heads", ge=1)
    attention_head_dim: int = Field(default=16, description="channels a head; equals the sum of axes_dims_rope", ge=2)
    axes_dims_rope: tuple[int, int, int] = Field(
        default=(4, 6, 6), description="rotary channels of (index, row, column)"
    )
    aligned_references: bool = Field(
        default=True,
        description="reference ids start at the edit box instead of 0: the reference shows the box's content",
    )
    init_seed: int = Field(default=0, description="seed of the initial weights, drawn by parameter name", ge=0)

    @model_validator(mode="after")
    def _check(self) -> TinyConfig:
        if sum(self.axes_dims_rope) != self.attention_head_dim or any(a % 2 for a in self.axes_dims_rope):
            raise ValueError(
                f"axes_dims_rope: got {self.axes_dims_rope}, allowed even numbers that sum to attention_head_dim "
                f"({self.attention_head_dim})"
            )
        return self


def build_transformer(config: TinyConfig) -> torch.nn.Module:
    """diffusers' FLUX transformer of this shape, in eval mode, its weights drawn by parameter name."""
    from diffusers import FluxTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        module = FluxTransformer2DModel(**transformer_config(config))
    draw_parameters(module, config.init_seed)
    return module.eval()


def transformer_config(config: TinyConfig) -> dict[str, Any]:
    """Arguments of `FluxTransformer2DModel`: RGB patches plus mask channels in, RGB patches out."""
    area = config.patch * config.patch
    return {
        "patch_size": 1,
        "in_channels": 4 * area,
        "out_channels": 3 * area,
        "num_layers": config.num_layers,
        "num_single_layers": config.num_single_layers,
        "attention_head_dim": config.attention_head_dim,
        "num_attention_heads": config.num_attention_heads,
        "joint_attention_dim": 16,
        "pooled_projection_dim": 16,
        "guidance_embeds": False,
        "axes_dims_rope": config.axes_dims_rope,
    }


def draw_parameters(module: torch.nn.Module, seed: int) -> None:
    """Overwrite every parameter by keyed draws: matrices U(±1/sqrt(fan in)), biases 0, norm scales kept at 1."""
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            bound = 1.0 / math.sqrt(parameter[0].numel())
            values = seeding.generator(seed, "parameter", name).uniform(-bound, bound, size=tuple(parameter.shape))
            parameter.data.copy_(torch.from_numpy(values.astype(np.float32)))
        elif name.endswith("bias"):
            parameter.data.zero_()


class TinyPolicy:
    """`Policy` over the tiny transformer; see `policies/protocol.py` for the shapes."""

    family = "tiny"

    def __init__(self, module: torch.nn.Module, config: TinyConfig) -> None:
        self.module = module
        self.config = config

    def encode(self, example: Example) -> Conditions:
        """Input and reference tokens, position ids and the region, all numpy.

        Raises:
            DataError: the example has no image, or a size is not a multiple of the patch.
        """
        if example.image is None:
            raise DataError(f"the tiny policy refines an image; {example.id!r} has none")
        patch = self.config.patch
        mask = np.ones_like(example.image[:1]) if example.mask is None else example.mask
        geometry = self._geometry(example, mask)
        noise_ids, *ids = self._ids(geometry)
        tokens = [patchify(np.concatenate([example.image * 2.0 - 1.0, mask])[None], patch)[0]]
        for reference in example.references:
            blank = np.zeros_like(reference.image[:1])
            tokens.append(patchify(np.concatenate([reference.image * 2.0 - 1.0, blank])[None], patch)[0])
        arrays = {
            "context": np.concatenate(tokens).astype(np.float32),
            "ids": np.concatenate([noise_ids, *ids]),
            "region": patchify(np.repeat(mask, 3, axis=0)[None], patch)[0],
        }
        return Conditions(example.id, geometry, arrays)

    def _geometry(self, example: Example, mask: np.ndarray) -> Geometry:
        sizes = [mask.shape[1:], *(r.image.shape[1:] for r in example.references)]
        if any(side % self.config.patch for size in sizes for side in size):
            raise DataError(f"{example.id!r}: sizes {sizes} must be multiples of the patch, {self.config.patch}")
        box = mask_bbox(mask) if self.config.aligned_references and example.references else None
        references = tuple((r.image.shape[1], r.image.shape[2]) for r in example.references)
        return Geometry(mask.shape[1], mask.shape[2], references, box)

    def _ids(self, geometry: Geometry) -> list[np.ndarray]:
        patch = self.config.patch
        grid = (geometry.height // patch, geometry.width // patch)
        offset = _box_offset(geometry.box, patch)
        references = [
            position_ids(2 + k, height // patch, width // patch, offset=offset)
            for k, (height, width) in enumerate(geometry.references)
        ]
        return [position_ids(0, *grid), position_ids(1, *grid), *references]

    def latent_shape(self, conditions: Conditions) -> tuple[int, int]:
        """(tokens of the image, RGB values of a patch)."""
        return conditions.arrays["region"].shape

    def encode_image(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Latents [B,N,C] in [-1,1] of images [B,3,H,W] in [0,1]."""
        return torch.from_numpy(patchify(images.cpu().numpy() * 2.0 - 1.0, self.config.patch))

    def decode(self, latents: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Images [B,3,H,W] in [0,1]; values outside are clipped."""
        geometry = conditions.geometry
        tokens = latents.detach().cpu().float().numpy()
        images = unpatchify(tokens, self.config.patch, height=geometry.height, width=geometry.width)
        return torch.from_numpy(images / 2.0 + 0.5).clamp(0.0, 1.0)

    def velocity(self, latents: torch.Tensor, sigma: torch.Tensor, conditions: list[Conditions]) -> torch.Tensor:
        """Velocity [B,N,C] of latents [B,N,C] at sigma [B]."""
        batch, num_tokens, channels = latents.shape
        context = context_of(conditions).to(latents.device)
        padding = latents.new_zeros(batch, num_tokens, context.shape[2] - channels)
        hidden = torch.cat([torch.cat([latents, padding], dim=2), context], dim=1)
        output = self.module(
            hidden_states=hidden,
            timestep=sigma,
            encoder_hidden_states=latents.new_zeros(batch, 1, 16),
            pooled_projections=latents.new_zeros(batch, 16),
            img_ids=torch.from_numpy(np.array(conditions[0].arrays["ids"])).to(latents.device),
            txt_ids=latents.new_zeros(1, 3),
            return_dict=False,
        )[0]
        return output[:, :num_tokens]


def context_of(conditions: list[Conditions]) -> torch.Tensor:
    """Context tokens [B,M,4pp]; a group repeats one object, which is stacked without being read B times."""
    first = conditions[0]
    if all(c is first for c in conditions):
        return torch.from_numpy(np.array(first.arrays["context"])).expand(len(conditions), -1, -1)
    return torch.from_numpy(np.stack([c.arrays["context"] for c in conditions]))


def _box_offset(box: Box | None, patch: int) -> tuple[int, int]:
    """(row, column) in tokens of the box's top-left corner."""
    return (0, 0) if box is None else (box[1] // patch, box[0] // patch)
