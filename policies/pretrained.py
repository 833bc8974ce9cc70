"""What the real families share: a diffusers pipeline, of which the transformer is trained and all else stays frozen.

Encoding, packing and schedules are the pipeline's own methods, so that a sample without noise equals what the stock
pipeline makes. A family adds its text, its position ids and its forward. Legend: B batch, N latent tokens, M tokens of
the images that condition, C packed latent channels, H W pixels.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from burnish.data.errors import DataError
from burnish.data.records import Conditions, Example, Geometry
from burnish.policies.encoder_cache import EncoderCache
from burnish.policies.loading import DTYPES

Texts = dict[str, np.ndarray]
_NOT_ENCODING = ("path", "revision", "device", "encoder_cache", "gradient_checkpointing", "compile_blocks")
"""Settings that change nothing of what encoders make."""


class PretrainedPolicy(ABC):
    """`Policy` over a diffusers pipeline; see `policies/protocol.py` for the shapes.

    Args:
        pipeline: stock, in eval mode.
        config: the family's.
    """

    family: str
    pipeline_class: str

    def __init__(self, pipeline: Any, config: Any) -> None:
        self.pipeline = pipeline
        self.config = config
        self.module: torch.nn.Module = pipeline.transformer
        self._cache = self._encoder_cache()

    # -- what a family adds -----------------------------------------------------------------------------------------

    @abstractmethod
    def _latents(self, images: torch.Tensor) -> torch.Tensor:
        """Packed latents [B,n,C] of images [B,3,H,W] in [-1,1]."""

    @abstractmethod
    def _pack(self, grid: torch.Tensor) -> torch.Tensor:
        """Packed [1,n,C] of a latent grid [1,c,h,w]."""

    @abstractmethod
    def _pixels(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Images [B,3,H,W] in [-1,1] of packed latents."""

    @abstractmethod
    def _texts(self, example: Example) -> Texts:
        """Arrays of the instruction, each without a batch dimension; `text` [L,D] among them."""

    @abstractmethod
    def text_shapes(self, geometry: Geometry) -> dict[str, tuple[int, ...]]:
        """Shapes of what `_texts` gives for the longest instruction; no encoder is needed to tell."""

    @abstractmethod
    def _mu(self, num_tokens: int, num_steps: int) -> float:
        """The schedule's dynamic shift."""

    @abstractmethod
    def _forward(
        self, hidden: torch.Tensor, sigma: torch.Tensor, conditions: Sequence[Conditions], *, guided: bool
    ) -> torch.Tensor:
        """Velocity of all tokens, [B,N+M,C]."""

    # -- Policy -----------------------------------------------------------------------------------------------------

    def _encoder_cache(self) -> EncoderCache | None:
        if self.config.encoder_cache is None:
            return None
        parts = {n: c for n, c in self.pipeline.components.items() if isinstance(c, torch.nn.Module)}
        del parts["transformer"]
        settings = {"family": self.family, "config": self.config.model_dump_json(exclude=set(_NOT_ENCODING))}
        return EncoderCache(Path(self.config.encoder_cache), parts, {**settings, "device": self.device.type})

    @property
    def device(self) -> torch.device:
        """Where the transformer is."""
        return next(self.module.parameters()).device

    @property
    def token(self) -> int:
        """Pixels on a side of a latent token: VAE factor times the 2x2 packing."""
        return int(self.pipeline.vae_scale_factor) * 2

    @torch.no_grad()
    def encode(self, example: Example) -> Conditions:
        """Latents of the input, the references and the mask where the recipe shows it; text; region.

        Raises:
            DataError: neither an image, a mask nor a target says the size, or a side is no multiple of the token.
        """
        height, width = self._frame(example)
        images = self.images(example)
        sizes = tuple((image.shape[1], image.shape[2]) for image in images)
        for side in (height, width, *(side for size in sizes for side in size)):
            if side % self.token:
                raise DataError(f"{example.id!r}: sides of {sizes} must be multiples of {self.token} px")
        mask = np.ones((1, height, width), np.float32) if example.mask is None else example.mask
        region = _numpy(self._region(torch.from_numpy(np.array(mask))))

        def encoded() -> Texts:
            packed = [self._latents(self._signed(image[None]))[0] for image in images]
            context = torch.cat(packed) if packed else torch.zeros(0, region.shape[1])
            return {"context": _numpy(context), **self._texts(example)}

        numbered = {f"{place}": image for place, image in enumerate(images)}
        found = self._cached("conditions", example.instruction, numbered, encoded)
        tokens = sum(array.shape[0] for name, array in found.items() if name != "context")
        geometry = Geometry(height, width, sizes, text_tokens=tokens)
        return Conditions(example.id, geometry, {"region": region, **found})

    def prompt_tokens(self, text: str) -> tuple[int, int]:
        """Tokens of an instruction, without those that a template adds, and how many are read."""
        tokenizer = getattr(self.pipeline, "tokenizer_2", None) or self.pipeline.tokenizer
        return len(tokenizer(text, verbose=False).input_ids), self.config.max_sequence_length

    def _cached(self, kind: str, text: str, images: dict[str, np.ndarray], make: Callable[[], Texts]) -> Texts:
        return make() if self._cache is None else self._cache.get(kind, text, images, make)

    def images(self, example: Example) -> list[np.ndarray]:
        """Images that condition, in order: input, references, mask (where `mask_input`); float32 [3,h,w] in [0,1]."""
        images = [] if example.image is None else [example.image]
        images += [reference.image for reference in example.references]
        if self.config.mask_input and example.mask is not None:
            images.append(np.repeat(example.mask, 3, axis=0))
        return images

    def _frame(self, example: Example) -> tuple[int, int]:
        known = [a.shape[1:] for a in (example.image, example.mask, example.target) if a is not None]
        if not known:
            raise DataError(f"{example.id!r} has no image, mask or target, so its size is not known")
        return known[0][0], known[0][1]

    def _signed(self, images: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(np.array(images)).to(self.device) * 2.0 - 1.0).to(self.pipeline.vae.dtype)

    def on_grid(self, mask: np.ndarray) -> np.ndarray:
        """Share of each latent's pixels that a mask [1,H,W] marks, float32 [N,C]."""
        values = torch.from_numpy(np.array(mask, np.float32))
        return _numpy(self._spread(torch.nn.functional.avg_pool2d(values[None], int(self.pipeline.vae_scale_factor))))

    def _region(self, mask: torch.Tensor) -> torch.Tensor:
        """[N,C], 1 where any pixel under a latent is to be edited."""
        return self._spread(torch.nn.functional.max_pool2d(mask[None], int(self.pipeline.vae_scale_factor)))

    def _spread(self, grid: torch.Tensor) -> torch.Tensor:
        """[N,C] of one value [1,1,h,w] a place."""
        channels = int(self.pipeline.transformer.config.in_channels) // 4
        return self._pack(grid.expand(-1, channels, -1, -1))[0]

    def latent_shape(self, conditions: Conditions) -> tuple[int, int]:
        """(N, C) of the noise that a sample starts from."""
        return conditions.arrays["region"].shape

    def sigmas(self, num_steps: int, conditions: Conditions) -> np.ndarray:
        """The stock pipeline's schedule for this size, float32 [S+1]."""
        scheduler = copy.deepcopy(self.pipeline.scheduler)
        base = np.linspace(1.0, 1.0 / num_steps, num_steps)
        scheduler.set_timesteps(sigmas=base, mu=self._mu(self.latent_shape(conditions)[0], num_steps))
        return scheduler.sigmas.float().cpu().numpy().astype(np.float32)

    @torch.no_grad()
    def encode_image(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Latents [B,N,C] float32 of images [B,3,H,W] in [0,1], encoded one by one: no row knows of another."""
        rows = []
        for image in images.cpu().numpy():
            made = lambda image=image: {"latents": _numpy(self._latents(self._signed(image[None]))[0])}  # noqa: E731
            rows.append(self._cached("latents", "", {"image": image}, made)["latents"])
        return torch.from_numpy(np.stack(rows)).to(self.device)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Images [B,3,H,W] float32 in [0,1]; values outside are clipped."""
        geometry = conditions.geometry
        pixels = self._pixels(latents.detach().to(self.pipeline.vae.dtype), geometry.height, geometry.width)
        return (pixels.float() / 2.0 + 0.5).clamp(0.0, 1.0)

    def velocity(self, latents: torch.Tensor, sigma: torch.Tensor, conditions: list[Conditions]) -> torch.Tensor:
        """Velocity [B,N,C] float32 as sampling uses it: with the family's guidance."""
        return self._velocity(latents, sigma, conditions, guided=True)

    def plain_velocity(self, latents: torch.Tensor, sigma: torch.Tensor, conditions: list[Conditions]) -> torch.Tensor:
        """Velocity [B,N,C] float32 without guidance: what supervised fine-tuning fits."""
        return self._velocity(latents, sigma, conditions, guided=False)

    def _velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, conditions: list[Conditions], *, guided: bool
    ) -> torch.Tensor:
        dtype = DTYPES[self.config.dtype]
        hidden = torch.cat([latents, self.stacked(conditions, "context", torch.float32)], dim=1).to(dtype)
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            output = self._forward(hidden, sigma.to(dtype), conditions, guided=guided)
        return output[:, : latents.shape[1]].float()

    def stacked(self, conditions: Sequence[Conditions], name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """[B,...] of one array of the conditions; a group repeats one object, which is read once."""
        first = conditions[0]
        if all(c is first for c in conditions):
            one = torch.from_numpy(np.array(first.arrays[name]))
            stacked = one.expand(len(conditions), *one.shape)
        else:
            stacked = torch.from_numpy(np.stack([c.arrays[name] for c in conditions]))
        return stacked.to(self.device, dtype or DTYPES[self.config.dtype])


def pil(image: np.ndarray) -> Image.Image:
    """8-bit picture of float32 [3,h,w] in [0,1], as pipelines take them."""
    return Image.fromarray((image.transpose(1, 2, 0) * 255.0 + 0.5).clip(0, 255).astype(np.uint8))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def numpy_texts(tensors: Mapping[str, torch.Tensor]) -> Texts:
    """The text tensors as float32 arrays; bfloat16 values are kept exactly."""
    return {name: _numpy(tensor) for name, tensor in tensors.items()}
