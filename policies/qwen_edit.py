"""Qwen-Image-Edit 2509 and 2511 (the release with `zero_cond_t`): several references, true classifier-free guidance
with the norm of the conditional prediction (DyRef's sampler), and the mask as an image (RefineAnything section 3.1).

The instruction is read by a vision-language model together with the images, so its embedding is the example's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from burnish.data.records import Conditions, Example
from burnish.policies.loading import PretrainedConfig
from burnish.policies.pretrained import PretrainedPolicy, Texts, numpy_texts, pil
from burnish.policies.schedule import dynamic_shift


class QwenEditConfig(PretrainedConfig):
    """Qwen-Image-Edit and its guidance."""

    guidance: float = Field(
        default=4.0, description="true classifier-free guidance of sampling; 1 = none", ge=1.0, allow_inf_nan=False
    )
    negative_prompt: str = Field(default=" ", description="instruction of the unconditional side")
    condition_area: int = Field(
        default=384 * 384, description="pixels of an image as the vision-language model sees it", ge=28 * 28
    )


class QwenEditPolicy(PretrainedPolicy):
    """See the module."""

    family = "qwen_edit"
    pipeline_class = "QwenImageEditPlusPipeline"

    def _latents(self, images: torch.Tensor) -> torch.Tensor:
        grid = self.pipeline._encode_vae_image(images.unsqueeze(2), generator=None)
        return self._pack(grid[:, :, 0])

    def _pack(self, grid: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = grid.shape
        return self.pipeline._pack_latents(grid.contiguous(), batch, channels, height, width)

    def _pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        vae = self.pipeline.vae
        grid = self.pipeline._unpack_latents(latents, height, width, self.pipeline.vae_scale_factor)
        mean, std = (
            torch.tensor(v).view(1, -1, 1, 1, 1).to(grid) for v in (vae.config.latents_mean, vae.config.latents_std)
        )
        return vae.decode(grid * std + mean, return_dict=False)[0][:, :, 0]

    def _texts(self, example: Example) -> Texts:
        seen = [self._condition(image) for image in self.images(example)]
        texts = {"text": self._encoded(example.instruction, seen)}
        if self.config.guidance > 1.0:
            texts["negative"] = self._encoded(self.config.negative_prompt, seen)
        return numpy_texts(texts)

    def _condition(self, image: np.ndarray) -> object:
        from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import calculate_dimensions

        width, height = calculate_dimensions(self.config.condition_area, image.shape[2] / image.shape[1])
        return self.pipeline.image_processor.resize(pil(image), height, width)

    def _encoded(self, prompt: str, images: list[object]) -> torch.Tensor:
        text, _ = self.pipeline.encode_prompt(
            prompt=prompt, image=images or None, max_sequence_length=self.config.max_sequence_length
        )
        return text[0]

    def _mu(self, num_tokens: int, num_steps: int) -> float:
        get = self.pipeline.scheduler.config.get
        low = (get("base_image_seq_len", 256), get("base_shift", 0.5))
        return dynamic_shift(num_tokens, low=low, high=(get("max_image_seq_len", 4096), get("max_shift", 1.15)))

    def shapes(self, conditions: Conditions) -> list[tuple[int, int, int]]:
        """(1, rows, columns) in tokens of the target and of each image that conditions."""
        geometry = conditions.geometry
        grids = [(geometry.height, geometry.width), *geometry.references]
        return [(1, height // self.token, width // self.token) for height, width in grids]

    def _forward(
        self, hidden: torch.Tensor, sigma: torch.Tensor, conditions: Sequence[Conditions], *, guided: bool
    ) -> torch.Tensor:
        positive = self._one(hidden, sigma, conditions, "text")
        if not guided or self.config.guidance <= 1.0:
            return positive
        return true_guidance(positive, self._one(hidden, sigma, conditions, "negative"), self.config.guidance)

    def _one(
        self, hidden: torch.Tensor, sigma: torch.Tensor, conditions: Sequence[Conditions], name: str
    ) -> torch.Tensor:
        return self.module(
            hidden_states=hidden,
            timestep=sigma,
            guidance=None,
            encoder_hidden_states_mask=None,
            encoder_hidden_states=self.stacked(conditions, name),
            img_shapes=[self.shapes(conditions[0])] * len(conditions),
            return_dict=False,
        )[0]


def true_guidance(positive: torch.Tensor, negative: torch.Tensor, scale: float) -> torch.Tensor:
    """negative + scale (positive - negative), each token rescaled to the norm of the conditional prediction.

    Args:
        positive, negative: [B,N,C].
        scale: guidance, 1 = none.
    """
    combined = negative + scale * (positive - negative)
    rescale = torch.norm(positive, dim=-1, keepdim=True) / torch.norm(combined, dim=-1, keepdim=True)
    return combined * rescale
