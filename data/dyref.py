"""DyRef's public layout: a list of records, each a target that is generated from references and a prompt.

Called by `readers.py`. Of `train_data.json` (a JSON list) and of the JSONL files of its reinforcement learning:

    {"image": "2_subjects/0/0.jpeg", "prompt": "… in reference image 1 …", "index": 0, "category": "subject_style",
     "edit_image": ["2_subjects/0/transfer_subjects/a cup.png", "2_subjects/0/style/reference.png"]}

`image` is the target; the order of `edit_image` is that of the pointers, and the folder in a path says the kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.data.entries import Entry, FolderFiles, parse_json, parse_object, read_text
from burnish.data.errors import DataError, Problem

NAME = "train_data.json"
KINDS = {
    "transfer_subjects": "subject",
    "raw_subjects": "subject",
    "cropped_subjects": "subject",
    "background": "background",
    "style": "style",
    "lighting": "lighting",
    "pose": "pose",
}
"""Folder in a reference's path -> its kind."""

_USED = ("image", "prompt", "edit_image", "index", "category", "split")


def dyref_entries(path: Path, fields: Mapping[str, str]) -> Iterator[Entry]:
    """The records, labelled by their number from 1; paths are relative to the file's folder.

    Args:
        path: a .json list, a .jsonl file, or a folder with `train_data.json`.
        fields: nothing; the layout has names of its own.

    Raises:
        DataError: no such file, or no list of records.
    """
    file = path / NAME if path.is_dir() else path
    find = FolderFiles(file.parent)
    for number, record in enumerate(_records(file), start=1):
        label = f"row {number}"
        if isinstance(record, Problem):
            yield Entry(label, record, find)
        elif not isinstance(record, dict):
            yield Entry(label, Problem(label, repr(record)[:80], "a JSON object"), find)
        else:
            yield Entry(label, _row(record), find, tuple(sorted(set(record) - set(_USED))))


def _records(file: Path) -> list[Any]:
    text = read_text(file)
    if file.suffix == ".jsonl":
        lines = [line for line in text.split("\n") if line.strip()]
        return [parse_object(line, f"row {number}") for number, line in enumerate(lines, start=1)]
    try:
        records = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: no JSON ({error})") from error
    if not isinstance(records, list):
        raise DataError(f"{file}: got a JSON {type(records).__name__}, allowed a list of records")
    return records


def _row(record: dict[str, Any]) -> dict[str, Any]:
    images = record.get("edit_image")
    given = [images] if isinstance(images, str) else images
    target = record.get("image")
    if isinstance(target, list) and len(target) == 1:
        target = target[0]
    references: object = given
    if isinstance(given, list):
        references = [{"kind": _kind(path), "path": path} for path in given]
    return {
        "id": str(record.get("index", target)),
        "instruction": record.get("prompt"),
        "target": target,
        "references": references,
        "split": record.get("split"),
        "meta": {"category": record["category"]} if "category" in record else {},
    }


def _kind(path: object) -> str | None:
    """The kind that the last known folder of a path names; a path without one is a subject's."""
    if not isinstance(path, str):
        return None
    known = [KINDS[part] for part in Path(path).parts[:-1] if part in KINDS]
    return known[-1] if known else "subject"
