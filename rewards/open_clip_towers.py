"""Vision towers that open_clip loads: from a directory in its own layout, or from a single weight file.

Called by the rewards siglip and clip_i when they are built. What open_clip leaves to its caller is settled here: a
single file does not say how images are normalised and resized, nor which GELU the model was trained with.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from burnish.data.errors import ConfigError, Problem
from burnish.rewards.against import AgainstOptions
from burnish.rewards.towers import Tower, read_json, unreadable
from burnish.rewards.weights import UNREADABLE, Name, files_digest, require_files, weights_dir

OPEN_CLIP_CONFIG = "open_clip_config.json"
CHECKPOINTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip itself looks for first in a directory, in its order."""
OPEN_CLIP_FILES: tuple[Name, ...] = (OPEN_CLIP_CONFIG, CHECKPOINTS)
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
LOOK = ("mean", "std", "interpolation", "resize_mode")
CLIP_LOOK: Mapping[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
SIGLIP_LOOK: Mapping[str, Any] = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


class OpenClipOptions(AgainstOptions):
    """A vision tower that open_clip can load."""

    model: str = Field(
        default="", description="open_clip: name of the model, as ViT-L-14; only where `weights` is a single file"
    )
    tag: str = Field(
        default="",
        description="open_clip: tag under which the single file is published, as openai; decides pre-processing and "
        "GELU; may be left out where all tags of the model agree",
    )


@dataclass(frozen=True)
class _Source:
    """What open_clip is asked for."""

    name: str
    pretrained: str | None
    look: Mapping[str, Any]
    quick_gelu: bool
    files: tuple[Path, ...]


def open_clip_tower(options: OpenClipOptions, *, kind: str, look: Mapping[str, Any]) -> Tower:
    """Load a vision tower through open_clip; the text tower is dropped.

    Args:
        options: where the files are.
        kind: the reward's name in the table, for errors.
        look: the pre-processing of models that do not say theirs.

    Raises:
        ConfigError: files are missing or cannot be read, or it is not known which model they are.
    """
    import open_clip

    path = Path(options.weights).expanduser()
    source = (_from_file if path.is_file() else _from_directory)(options, kind=kind, look=look)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'torch.load' received a zip file that looks like a TorchScript")
            loaded: Any = open_clip.create_model_from_pretrained(
                source.name,
                source.pretrained,
                force_quick_gelu=source.quick_gelu,
                image_mean=tuple(source.look["mean"]),
                image_std=tuple(source.look["std"]),
                image_interpolation=source.look["interpolation"],
                image_resize_mode=source.look["resize_mode"],
                weights_only=True,  # refuses a TorchScript archive, which is code; the warning comes first
            )
    except UNREADABLE as error:
        allowed = "weights of that model as open_clip saves them: safetensors, or a torch file of tensors only"
        raise unreadable(source.files[-1], error, kind=kind, allowed=allowed) from error
    model, preprocess = loaded
    return Tower(model.visual, preprocess, files_digest(source.files))


def _from_directory(options: OpenClipOptions, *, kind: str, look: Mapping[str, Any]) -> _Source:
    for field in ("model", "tag"):
        if value := getattr(options, field):
            problem = Problem(f"options.{field}", repr(value), f"'' beside a directory: its {OPEN_CLIP_CONFIG} decides")
            raise ConfigError(f"reward kind {kind!r}: options contradict each other", [problem])
    directory = weights_dir(options.weights, OPEN_CLIP_FILES, kind=kind)
    files = require_files(directory, OPEN_CLIP_FILES, kind=kind)
    said = read_json(files[0], kind=kind).get("preprocess_cfg") or {}
    known = {key: said[key] for key in LOOK if said.get(key) is not None}
    return _Source(f"local-dir:{directory}", None, {**look, **known}, False, tuple(files))


def _from_file(options: OpenClipOptions, *, kind: str, look: Mapping[str, Any]) -> _Source:
    path = Path(options.weights).expanduser()
    if path.suffix not in SUFFIXES:
        problem = Problem("options.weights", str(path), f"a file that ends in {' or '.join(SUFFIXES)}")
        raise ConfigError(f"reward kind {kind!r}: its weights cannot be loaded", [problem])
    _check_model(options.model, kind=kind)
    published = _published(options, kind=kind)
    known = {key: published[key] for key in LOOK if key in published}
    quick_gelu = bool(published.get("quick_gelu"))
    return _Source(options.model, str(path), {**look, **known}, quick_gelu, (path,))


def _check_model(name: str, *, kind: str) -> None:
    """Refuse what open_clip has no architecture for."""
    import open_clip

    models = open_clip.list_models()
    if name not in models:
        close = difflib.get_close_matches(name, models, n=1, cutoff=0.0)[0] if name else ""
        hint = f"nearest is {close!r}" if close else ""
        problem = Problem("options.model", repr(name), "a name of open_clip.list_models()", hint)
        raise ConfigError(f"reward kind {kind!r}: a single weight file needs the name of its model", [problem])


def _published(options: OpenClipOptions, *, kind: str) -> Mapping[str, Any]:
    """What open_clip knows of weights published for the model; empty where none are.

    Raises:
        ConfigError: no such tag, or none is named and the model's tags differ.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(options.model)
    chosen = [options.tag] if options.tag else tags
    if options.tag in tags or not options.tag:
        found = [open_clip.get_pretrained_cfg(options.model, tag) for tag in chosen]
        if len({_fingerprint(entry) for entry in found}) <= 1:
            return found[0] if found else {}
    allowed = f"one of {tags}" if tags else "'', none are published"
    hint = "" if options.tag else "their pre-processing or GELU differ"
    problem = Problem("options.tag", repr(options.tag), allowed, hint)
    raise ConfigError(f"reward kind {kind!r}: a single weight file needs its tag", [problem])


def _fingerprint(entry: Mapping[str, Any]) -> str:
    return repr([entry.get(key) for key in (*LOOK, "quick_gelu")])
