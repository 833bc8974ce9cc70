"""FLUX.1-Kontext with references (OmniRefiner section 3.2).

Tokens of the noisy target, the input and the references stand in one sequence with ids (0,y,x), (1,y,x), (2+k,y,x);
without a reference this is the stock pipeline, token for token. References may have any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from burnish.data.records import Conditions, Example
from burnish.policies.loading import PretrainedConfig
from burnish.policies.positions import position_ids
from burnish.policies.pretrained import PretrainedPolicy, Texts, numpy_texts
from burnish.policies.schedule import dynamic_shift


class KontextConfig(PretrainedConfig):
    """FLUX.1-Kontext and its guidance."""

    guidance: float = Field(default=2.5, description="distilled guidance of sampling", ge=0.0, allow_inf_nan=False)
    train_guidance: float = Field(
        default=1.0, description="distilled guidance in supervised fine-tuning", ge=0.0, allow_inf_nan=False
    )


class KontextPolicy(PretrainedPolicy):
    """See the module."""

    family = "kontext"
    pipeline_class = "FluxKontextPipeline"

    def _latents(self, images: torch.Tensor) -> torch.Tensor:
        return self._pack(self.pipeline._encode_vae_image(images, generator=None))

    def _pack(self, grid: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = grid.shape
        return self.pipeline._pack_latents(grid.contiguous(), batch, channels, height, width)

    def _pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        vae = self.pipeline.vae
        grid = self.pipeline._unpack_latents(latents, height, width, self.pipeline.vae_scale_factor)
        return vae.decode(grid / vae.config.scaling_factor + vae.config.shift_factor, return_dict=False)[0]

    def _texts(self, example: Example) -> Texts:
        text, pooled, _ = self.pipeline.encode_prompt(
            prompt=example.instruction, prompt_2=None, max_sequence_length=self.config.max_sequence_length
        )
        return numpy_texts({"text": text[0], "pooled": pooled[0]})

    def _mu(self, num_tokens: int, num_steps: int) -> float:
        get = self.pipeline.scheduler.config.get
        low = (get("base_image_seq_len", 256), get("base_shift", 0.5))
        return dynamic_shift(num_tokens, low=low, high=(get("max_image_seq_len", 4096), get("max_shift", 1.15)))

    def ids(self, conditions: Conditions) -> torch.Tensor:
        """Position ids [N+M,3] of target, input and references; a generated image has no index 1."""
        geometry = conditions.geometry
        grids = [(geometry.height, geometry.width), *geometry.references]
        parts = [
            torch.from_numpy(position_ids(index, height // self.token, width // self.token))
            for index, (height, width) in enumerate(grids)
        ]
        return torch.cat(parts)

    def _forward(
        self, hidden: torch.Tensor, sigma: torch.Tensor, conditions: Sequence[Conditions], *, guided: bool
    ) -> torch.Tensor:
        text = self.stacked(conditions, "text")
        scale = self.config.guidance if guided else self.config.train_guidance
        has_guidance = self.pipeline.transformer.config.guidance_embeds
        guidance = torch.full((len(conditions),), scale, device=hidden.device) if has_guidance else None
        return self.module(
            hidden_states=hidden,
            timestep=sigma,
            guidance=guidance,
            encoder_hidden_states=text,
            pooled_projections=self.stacked(conditions, "pooled"),
            img_ids=self.ids(conditions[0]).to(hidden.device),
            txt_ids=torch.zeros(text.shape[1], 3, device=hidden.device),
            return_dict=False,
        )[0]
