"""Loading a stock diffusers pipeline: where it is, how it computes, and which of its parts stay frozen.

Called by the table of families; `pretrained.py` makes a policy of what is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from burnish.data.errors import ConfigError, Problem

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class PretrainedConfig(BaseModel):
    """Where a pretrained pipeline is and how it computes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: str = Field(
        description="directory of a diffusers pipeline, or a hub id; the base's digest stands for its content",
        min_length=1,
        json_schema_extra={"run_option": True},
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub id")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="weights of the frozen parts, and the autocast of the forward; adapters and log-probs stay float32",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: cuda where there is one", json_schema_extra={"run_option": True}
    )
    max_sequence_length: int = Field(default=512, description="tokens of the instruction", ge=8)
    mask_input: bool = Field(
        default=False, description="show the mask as one more image, after input and references (RefineAnything)"
    )
    gradient_checkpointing: bool = Field(default=False, description="compute activations twice instead of keeping them")
    vae_tiling: bool = Field(default=False, description="decode in tiles and slices: less memory")
    compile_blocks: bool = Field(default=False, description="torch.compile of the repeated transformer blocks")
    encoder_cache: str | None = Field(
        default=None,
        description="directory where what the frozen encoders made is kept by content, shared by runs; null = nowhere",
        json_schema_extra={"run_option": True},
    )


def load_pipeline(class_name: str, config: PretrainedConfig) -> Any:
    """A stock pipeline in eval mode, on its device.

    Raises:
        ConfigError: nothing there, or a pipeline of another class.
    """
    import diffusers

    expected: Any = getattr(diffusers, class_name)
    local = Path(config.path).is_dir()
    try:
        with without_progress_bars():
            pipeline = expected.from_pretrained(
                config.path,
                revision=config.revision,
                dtype=DTYPES[config.dtype],
                use_safetensors=True,
                local_files_only=local,
            )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        problem = Problem("policy.path", config.path, f"a directory or hub id of a {class_name}", str(error)[:200])
        raise ConfigError("the pretrained pipeline cannot be loaded", [problem]) from error
    pipeline.set_progress_bar_config(disable=True)
    device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    _tune(pipeline, config)
    return pipeline.to(device)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """No progress bars of other libraries: workers load side by side, and logs are read by people."""
    import diffusers.utils.logging as of_diffusers
    import transformers.utils.logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        of_diffusers.enable_progress_bar()
        of_transformers.enable_progress_bar()


def _tune(pipeline: Any, config: PretrainedConfig) -> None:
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval().requires_grad_(False)
    if config.vae_tiling:
        pipeline.vae.enable_tiling()
        pipeline.vae.enable_slicing()
    if config.gradient_checkpointing:
        pipeline.transformer.enable_gradient_checkpointing()
    if config.compile_blocks:
        pipeline.transformer.compile_repeated_blocks(dynamic=False)
