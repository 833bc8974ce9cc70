"""Folders of cases, as benchmarks of region refinement are handed round (RefineEval): no index file, only names.

Called by `readers.py`. Either a folder a case, or a folder a field with one file a case:

    CASE/image.png CASE/mask.png CASE/target.png CASE/reference.png CASE/reference_1.png … CASE/instruction.txt
    image/CASE.png mask/CASE.png target/CASE.png reference/CASE.png reference/CASE_1.png … instruction/CASE.txt

Pictures may be PNG, JPEG or WebP. All references are of kind detail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.data.entries import Entry, FolderFiles, read_text
from burnish.data.errors import DataError, Problem

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_PICTURES = ("image", "mask", "target")
_NUMBERED = re.compile(r"(.+?)[_-](\d+)")


def case_entries(path: Path, fields: Mapping[str, str]) -> Iterator[Entry]:
    """The cases in the order of their names, labelled by them.

    Args:
        path: the folder.
        fields: burnish's field -> the name of its files or its folder, for example target -> gt, references -> ref.

    Raises:
        DataError: no such folder, or no case in it.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    names = {field: fields.get(field, field) for field in (*_PICTURES, "instruction")}
    names["reference"] = fields.get("references", "reference")
    cases = _by_field(path, names) if (path / names["image"]).is_dir() else _by_case(path, names)
    if not cases:
        raise DataError(f"{path}: no case there: neither CASE/{names['image']}.png nor {names['image']}/CASE.png")
    find = FolderFiles(path)
    for case, (files, unused) in sorted(cases.items()):
        yield _entry(path, case, files, unused, find)


Files = dict[str, list[Path]]
"""Field -> its files in order; one file but for references."""


def _by_case(path: Path, names: Mapping[str, str]) -> dict[str, tuple[Files, list[str]]]:
    ours = {theirs: field for field, theirs in names.items()}
    cases: dict[str, tuple[Files, list[str]]] = {}
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        files: Files = {}
        unused = []
        for file in _sorted(folder):
            numbered = _NUMBERED.fullmatch(file.stem)
            field = ours.get(file.stem) or ("reference" if numbered and numbered[1] == names["reference"] else None)
            if field is None:
                unused.append(file.name)
            else:
                files.setdefault(field, []).append(file)
        if files:
            cases[folder.name] = files, unused
    return cases


def _by_field(path: Path, names: Mapping[str, str]) -> dict[str, tuple[Files, list[str]]]:
    cases: dict[str, tuple[Files, list[str]]] = {file.stem: ({}, []) for file in _sorted(path / names["image"])}
    for field, theirs in names.items():
        for file in _sorted(path / theirs) if (path / theirs).is_dir() else []:
            numbered = _NUMBERED.fullmatch(file.stem)
            case = numbered[1] if field == "reference" and file.stem not in cases and numbered else file.stem
            cases.setdefault(case, ({}, []))[0].setdefault(field, []).append(file)
    return cases


def _sorted(folder: Path) -> list[Path]:
    """Pictures and texts of a folder by stem, numbers by value: reference, reference_2, reference_10."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in (*SUFFIXES, ".txt") and file.is_file()]

    def place(file: Path) -> tuple[str, int, str]:
        numbered = _NUMBERED.fullmatch(file.stem)
        return (numbered[1], int(numbered[2]), file.name) if numbered else (file.stem, -1, file.name)

    return sorted(files, key=place)


def _entry(path: Path, case: str, files: Files, unused: list[str], find: FolderFiles) -> Entry:
    twice = [field for field, found in files.items() if field != "reference" and len(found) > 1]
    if twice:
        got = ", ".join(file.name for file in files[twice[0]])
        return Entry(case, Problem(f"{case}: {twice[0]}", got, "one file"), find)
    raw: dict[str, Any] = {"id": case, "meta": {}}
    for field in (field for field in _PICTURES if field in files):
        raw[field] = files[field][0].relative_to(path).as_posix()
    raw["references"] = [
        {"kind": "detail", "path": file.relative_to(path).as_posix()} for file in files.get("reference", [])
    ]
    if "instruction" in files:
        try:
            raw["instruction"] = read_text(files["instruction"][0]).strip()
        except DataError as error:
            return Entry(case, Problem(f"{case}: instruction", error.message, "UTF-8 text"), find)
    return Entry(case, raw, find, tuple(unused))
