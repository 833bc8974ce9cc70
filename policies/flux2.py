"""FLUX.2-klein (base) with several references: stock ids (t, row, column, 0) with t = 0 for the target and 10, 20, …
for the images that condition, in order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from burnish.data.records import Conditions, Example
from burnish.policies.loading import PretrainedConfig
from burnish.policies.positions import position_ids
from burnish.policies.pretrained import PretrainedPolicy, Texts, numpy_texts

REFERENCE_STEP = 10


class Flux2Config(PretrainedConfig):
    """FLUX.2-klein and its guidance."""

    guidance: float = Field(
        default=4.0, description="classifier-free guidance of sampling; 1 = none", ge=1.0, allow_inf_nan=False
    )
    text_layers: tuple[int, ...] = Field(
        default=(9, 18, 27), description="hidden states of the text encoder that are concatenated", min_length=1
    )


class Flux2Policy(PretrainedPolicy):
    """See the module."""

    family = "flux2"
    pipeline_class = "Flux2KleinPipeline"

    def _latents(self, images: torch.Tensor) -> torch.Tensor:
        return self.pipeline._pack_latents(self.pipeline._encode_vae_image(images, generator=None))

    def _pack(self, grid: torch.Tensor) -> torch.Tensor:
        return self.pipeline._pack_latents(self.pipeline._patchify_latents(grid.contiguous()))

    def _pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        vae = self.pipeline.vae
        rows, columns = height // self.token, width // self.token
        grid = latents.transpose(1, 2).reshape(latents.shape[0], -1, rows, columns)
        std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).to(grid)
        grid = grid * std + vae.bn.running_mean.view(1, -1, 1, 1).to(grid)
        return vae.decode(self.pipeline._unpatchify_latents(grid), return_dict=False)[0]

    def _texts(self, example: Example) -> Texts:
        texts = {"text": self._encoded(example.instruction)}
        if self.config.guidance > 1.0:
            texts["negative"] = self._encoded("")
        return numpy_texts(texts)

    def _encoded(self, prompt: str) -> torch.Tensor:
        text, _ = self.pipeline.encode_prompt(
            prompt=prompt,
            max_sequence_length=self.config.max_sequence_length,
            text_encoder_out_layers=self.config.text_layers,
        )
        return text[0]

    def _mu(self, num_tokens: int, num_steps: int) -> float:
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return compute_empirical_mu(image_seq_len=num_tokens, num_steps=num_steps)

    def ids(self, conditions: Conditions) -> torch.Tensor:
        """Position ids [N+M,4]: (t, row, column, 0)."""
        geometry = conditions.geometry
        grids = [(geometry.height, geometry.width), *geometry.references]
        parts = [
            torch.from_numpy(position_ids(REFERENCE_STEP * index, height // self.token, width // self.token))
            for index, (height, width) in enumerate(grids)
        ]
        return torch.nn.functional.pad(torch.cat(parts), (0, 1))

    def _forward(
        self, hidden: torch.Tensor, sigma: torch.Tensor, conditions: Sequence[Conditions], *, guided: bool
    ) -> torch.Tensor:
        positive = self._one(hidden, sigma, conditions, "text")
        if not guided or self.config.guidance <= 1.0:
            return positive
        negative = self._one(hidden, sigma, conditions, "negative")
        return negative + self.config.guidance * (positive - negative)

    def _one(
        self, hidden: torch.Tensor, sigma: torch.Tensor, conditions: Sequence[Conditions], name: str
    ) -> torch.Tensor:
        text, batch = self.stacked(conditions, name), len(conditions)
        places = torch.arange(text.shape[1], dtype=torch.float32)
        text_ids = torch.nn.functional.pad(places[:, None], (3, 0))
        return self.module(
            hidden_states=hidden,
            timestep=sigma,
            guidance=None,
            encoder_hidden_states=text,
            txt_ids=text_ids.to(hidden.device).expand(batch, -1, -1),
            img_ids=self.ids(conditions[0]).to(hidden.device).expand(batch, -1, -1),
            return_dict=False,
        )[0]
