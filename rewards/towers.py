"""Vision towers from the two public layouts, transformers' and open_clip's, with the packages' own pre-processing.

Called by the rewards siglip, clip_i and dino when they are built. A text tower is dropped or never read. Nothing is
loaded in part: a file that leaves one weight at its random start is refused. Legend: B batch, S side of the input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from burnish.data.errors import ConfigError, Problem
from burnish.rewards.weights import UNREADABLE, Name, files_digest, require_files, weights_dir

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
INDEX = "model.safetensors.index.json"
SHARDS = "model-*-of-*.safetensors"
TRANSFORMERS_FILES: tuple[Name, ...] = (CONFIG, PREPROCESSOR, ("model.safetensors", INDEX))
PROCESSORS = ("SiglipImageProcessor", "BitImageProcessor", "DINOv3ViTImageProcessor")
"""Classes of transformers that `preprocessor_config.json` may name, with or without an ending `Fast`."""


@dataclass(frozen=True, eq=False)
class Tower:
    """A vision model with all its weights.

    Args:
        model: the vision modules alone, float32 on the CPU.
        preprocess: PIL image -> float32 [3,S,S], the public package's own.
        digest: of all files that were read.
    """

    model: torch.nn.Module
    preprocess: Callable[[Image], torch.Tensor]
    digest: str


def transformers_tower(weights: str, *, models: Mapping[str, str], kind: str, hint: str = "") -> Tower:
    """Load a vision model of transformers from a directory that `save_pretrained` wrote, or from the hub.

    Args:
        weights: the option, see `weights.WEIGHTS`.
        models: `model_type` of the config -> class of transformers.
        kind: the reward's name in the table, for errors.
        hint: what to say where the model is of another type.

    Raises:
        ConfigError: files are missing or cannot be read, or hold another model.
    """
    import transformers

    hub_names = (*TRANSFORMERS_FILES[:2], ("model.safetensors", INDEX, SHARDS))
    directory = weights_dir(weights, hub_names, kind=kind)
    files = _transformers_files(directory, kind=kind)
    model_type = str(read_json(files[0], kind=kind).get("model_type"))
    if model_type not in models:
        problem = Problem("options.weights", f"model_type {model_type!r} in {files[0]}", f"one of {list(models)}", hint)
        raise ConfigError(f"reward kind {kind!r}: the weights are of another model", [problem])
    preprocess = _processor(files[1], kind=kind)
    model = _pretrained(getattr(transformers, models[model_type]), directory, kind=kind)
    return Tower(model, preprocess, files_digest(files))


def read_json(path: Path, *, kind: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ConfigError: it cannot be read or holds something else.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, error, kind=kind) from None
    if not isinstance(tree, dict):
        raise unreadable(path, TypeError(f"holds a {type(tree).__name__}, not an object"), kind=kind)
    return tree


def unreadable(path: Path, error: Exception, *, kind: str, allowed: str = "the public layout") -> ConfigError:
    """The error to raise where a file or directory of weights cannot be loaded."""
    reason = "; ".join(line.strip()[:300] for line in str(error).splitlines()[:3])
    problem = Problem("options.weights", f"{path} ({type(error).__name__}: {reason})", allowed)
    return ConfigError(f"reward kind {kind!r}: its weights cannot be loaded", [problem])


def _transformers_files(directory: Path, *, kind: str) -> list[Path]:
    """Config, pre-processor, then the weights: one file, or the index with all its shards."""
    files = require_files(directory, TRANSFORMERS_FILES, kind=kind)
    if files[-1].name != INDEX:
        return files
    shards = read_json(files[-1], kind=kind).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise unreadable(files[-1], ValueError("no weight_map"), kind=kind)
    return [*files, *require_files(directory, sorted({Path(str(name)).name for name in shards.values()}), kind=kind)]


def _processor(path: Path, *, kind: str) -> Callable[[Image], torch.Tensor]:
    import transformers

    tree = read_json(path, kind=kind)
    name = str(tree.get("image_processor_type")).removesuffix("Fast")
    if name not in PROCESSORS:
        problem = Problem("options.weights", f"image_processor_type {name} in {path}", f"one of {list(PROCESSORS)}")
        raise ConfigError(f"reward kind {kind!r}: its pre-processing is not known", [problem])
    processor = getattr(transformers, name).from_dict(tree)
    return lambda image: processor(images=image, return_tensors="pt")["pixel_values"][0]


def _pretrained(model_class: Any, directory: Path, *, kind: str) -> torch.nn.Module:
    try:
        with _quiet():
            model, found = model_class.from_pretrained(
                directory, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except UNREADABLE as error:
        raise unreadable(directory, error, kind=kind) from error
    if missing := sorted(found["missing_keys"]):
        raise _incomplete(directory, missing, kind=kind)
    return model


def _incomplete(directory: Path, missing: Sequence[str], *, kind: str) -> ConfigError:
    problem = Problem("options.weights", f"{len(missing)} weights missing in {directory}", "none", f"as {missing[0]}")
    return ConfigError(f"reward kind {kind!r}: its weights are incomplete", [problem])


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar, and no report about the text tower that is left out on purpose."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
