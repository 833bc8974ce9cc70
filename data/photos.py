"""Examples cut from photographs: the scenes that scikit-image and scikit-learn bundle, and the user's own folder.

Called through `sources.make_source`. Reads files that are there already and never downloads: bundled scenes are opened
by their path inside the installed packages. Scenes, not crops, are dealt to the splits.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from burnish.data.crops import cut
from burnish.data.degrade import degrade
from burnish.data.errors import DataError, Problem
from burnish.data.filters import contrast, perspective, snap
from burnish.data.images import from_uint8, image_size, load_image, resize, sha256_file, to_uint8
from burnish.data.layout import SPLITS, TEXT_CHANGE, DataConfig, block_geometry, check_split
from burnish.data.records import Box, Example
from burnish.data.references import Views, make_references, relight
from burnish.data.scribbles import region_mask
from burnish.data.seeding import generator

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FACTORS = (2, 3, 4, 6, 8)
CANDIDATES = 4


@dataclass(frozen=True)
class Scene:
    """A photograph: name, file, and the cluster it counts as (two views of one motorcycle are one)."""

    name: str
    path: Path
    cluster: str


_BUNDLED = {
    "train": (("skimage", "astronaut.png"), ("skimage", "chelsea.png"), ("sklearn", "china.jpg")),
    "dev": (("skimage", "motorcycle_left.png"), ("skimage", "motorcycle_right.png")),
    "heldout": (
        ("skimage", "coffee.png"),
        ("skimage", "rocket.jpg"),
        ("sklearn", "flower.jpg"),
        ("skimage", "page.png"),
    ),
}
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@functools.cache
def _package_folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise DataError(f"photographs: the package {package} is not installed")
    return Path(found.origin).parent / _FOLDERS[package]


def bundled_scenes(split: str) -> tuple[Scene, ...]:
    """The bundled photographs of a split."""
    check_split(split)
    scenes = ((Path(file).stem, _package_folder(package) / file) for package, file in _BUNDLED[split])
    return tuple(Scene(name, path, name.split("_")[0]) for name, path in scenes)


@functools.lru_cache(maxsize=64)
def scaled(path: Path, factor: float, least: int) -> np.ndarray:
    """A photograph shrunk by `factor` (area), grown where a side would be below `least`; uint8 [3,H,W], read only."""
    full = load_image(path)
    height, width = full.shape[-2:]
    scale = max(1 / factor, least / min(height, width))
    size = max(least, round(height * scale)), max(least, round(width * scale))
    small = to_uint8(resize(full, height=size[0], width=size[1], method="area" if scale < 1 else "bicubic"))
    small.flags.writeable = False
    return small


def best_crop(scene: np.ndarray, size: int, box: Box, rng: np.random.Generator) -> np.ndarray:
    """The one of CANDIDATES random crops whose box holds most detail; uint8 [3,H,W] -> float32 [3,size,size]."""
    height, width = scene.shape[-2:]
    tops = rng.integers(0, (height - size + 1, width - size + 1), size=(CANDIDATES, 2))
    crops = [from_uint8(scene[:, y : y + size, x : x + size]) for y, x in tops]
    return max(crops, key=lambda crop: contrast(cut(crop, box)))


def crop_example(
    scene: Scene, *, name: str, split: str, index: int, config: DataConfig, rng: np.random.Generator
) -> Example:
    """One example from a photograph: target crop, damaged box, references from the same place and its surroundings."""
    geometry = block_geometry(config, name=name, split=split, index=index)
    size, box = config.image_size, geometry.box
    pixels = scaled(scene.path, FACTORS[int(rng.integers(len(FACTORS)))], size)
    target = snap(best_crop(pixels, size, box, rng))
    clean = cut(target, box)
    around = best_crop(pixels, config.box_size, (0, 0, config.box_size, config.box_size), rng)
    defects = [defect for defect in config.degradations if defect != TEXT_CHANGE]
    defect = defects[int(rng.integers(len(defects)))]
    strokes = generator(config.seed, "data-scribble", name, split, index)
    mask = region_mask(config.masks, box, clean, strokes, side=size)
    image = degrade(
        target, box, defect, rng, floor=config.min_defect, mask=mask if config.masks == "scribble" else None
    )
    views = Views(clean, around, lambda other: relight(perspective(clean, other), other))
    where = ",".join(map(str, box))
    return Example(
        id=f"{name}-{scene.name[:12]}-{split}-{index}",
        instruction="Restore the marked region so that it matches the reference.",
        image=image,
        mask=mask,
        references=make_references(geometry.kinds, views, rng, mode=config.reference_mode),
        target=target,
        meta={
            "source": name,
            "cluster": f"{name}:{scene.cluster}",
            "split": split,
            "box": where,
            "degradation": defect,
        },
    )


class PhotoSource:
    """Unbounded source of crops of the bundled photographs."""

    name = "photo"

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def count(self, split: str) -> int | None:
        """None: unbounded."""
        check_split(split)
        return None

    def repeats(self, split: str) -> frozenset[int]:
        """No index repeats another one."""
        return frozenset()

    def example(self, split: str, index: int) -> Example:
        """Example number `index` of a split; a pure function of (data seed, split, index)."""
        scenes = bundled_scenes(split)
        rng = generator(self._config.seed, "data-photo", split, index)
        scene = scenes[int(rng.integers(len(scenes)))]
        return crop_example(scene, name=self.name, split=split, index=index, config=self._config, rng=rng)


def deal(keys: list[str]) -> dict[str, list[str]]:
    """Deal hash-sorted keys to the splits: the first fifth held out, the next tenth dev, at least one each.

    Raises:
        DataError: fewer than three keys.
    """
    if len(keys) < 3:
        raise DataError(f"at least 3 different images are needed, one a split, got {len(keys)}")
    ordered = sorted(keys)
    held, dev = max(1, round(0.2 * len(keys))), max(1, round(0.1 * len(keys)))
    return {"train": ordered[held + dev :], "dev": ordered[held : held + dev], "heldout": ordered[:held]}


def scan_folder(folder: Path, *, thorough: bool = True) -> tuple[list[Path], list[Problem]]:
    """The usable images below a folder, sorted, and one problem for each that cannot be used.

    Args:
        folder: searched recursively.
        thorough: decode every file; False looks at headers.

    Raises:
        DataError: no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    good, problems = [], []
    for path in paths:
        try:
            (load_image if thorough else image_size)(path)
            good.append(path)
        except DataError as error:
            problems.append(Problem(str(path), "an unusable file", "a whole PNG, JPEG or WebP", error.message))
    return good, problems


class FolderSource:
    """Unbounded source of crops of the user's own images, found recursively.

    Args:
        folder: holds PNG, JPEG or WebP files; equal files count once; files are dealt to the splits by their sha256.
        config: sizes, defects, references and the data seed.
        thorough: decode every file, not only its header; workers that start after the driver's check need not. Where
            bad files are skipped all are decoded, so that all processes skip the same.

    Raises:
        DataError: no such folder, fewer than three different images, or (unless `on_bad_row` is skip) files that
            cannot be read, all at once.
    """

    name = "folder"

    def __init__(self, folder: Path, config: DataConfig, *, thorough: bool = True) -> None:
        self._config = config
        skip = config.on_bad_row == "skip"
        paths, problems = scan_folder(folder, thorough=thorough or skip)
        if problems and not skip:
            raise DataError(f"{len(problems)} of {len(paths) + len(problems)} images cannot be used", problems)
        files = {sha256_file(path): path for path in reversed(paths)}
        dealt = deal(list(files))
        self.scenes = {split: tuple(Scene(sha, files[sha], sha[:16]) for sha in dealt[split]) for split in SPLITS}

    def count(self, split: str) -> int | None:
        """None: unbounded, crops are drawn again and again."""
        check_split(split)
        return None

    def repeats(self, split: str) -> frozenset[int]:
        """No index repeats another one."""
        return frozenset()

    def example(self, split: str, index: int) -> Example:
        """Example number `index` of a split; a pure function of (files, data seed, split, index)."""
        check_split(split)
        scenes = self.scenes[split]
        rng = generator(self._config.seed, "data-folder", split, index)
        scene = scenes[int(rng.integers(len(scenes)))]
        return crop_example(scene, name=self.name, split=split, index=index, config=self._config, rng=rng)
