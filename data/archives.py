"""WebDataset: tar shards in which consecutive members with one key make an example. Reads members where they lie.

Called by `readers.py`. The key is a member's name up to the first dot of its last part; what follows names the field:

    KEY.image.png KEY.mask.png KEY.target.png     pictures; a plain KEY.png (jpg, webp) is the image
    KEY.reference.png, KEY.reference.0.png, …     references, in this order
    KEY.instruction.txt, a plain KEY.txt          the instruction
    KEY.json                                      any other field of a row; `reference_kinds` is a list

Nothing is unpacked: an index of the members' places is read once, pixels when an example is asked for.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data.entries import Entry, parse_object
from burnish.data.errors import DataError, Problem
from burnish.data.images import Picture
from burnish.data.splits import splits_of_files

PICTURES = ("png", "jpg", "jpeg", "webp")
_FIELDS = ("id", "box", "instruction", "split", "meta", "reference_kinds")
MAX_TEXT = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file inside a tar file, by its place.

    Args:
        shard: the tar file.
        member: its name there.
        offset, size: bytes.
    """

    shard: Path
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """Shard and member."""
        return f"{self.shard}/{self.member}"

    def read(self) -> bytes:
        """Its bytes; OSError where the shard is gone or shorter than its index says."""
        with self.shard.open("rb") as stream:
            stream.seek(self.offset)
            payload = stream.read(self.size)
        if len(payload) < self.size:
            raise OSError(f"{self.name} is cut off")
        return payload


def archive_entries(path: Path, fields: Mapping[str, str]) -> Iterator[Entry]:
    """The examples of all shards, shards by name, labelled SHARD/KEY.

    Args:
        path: a tar file, or a folder of them.
        fields: burnish's field -> the data set's name for it, for example image -> input, references -> ref.

    Raises:
        DataError: no tar file there, or a shard is none.
    """
    shards = [path] if path.is_file() else sorted(path.glob("*.tar"))
    if not shards:
        raise DataError(f"{path}: no tar file there")
    names = {theirs: "reference" if ours == "references" else ours for ours, theirs in fields.items()}
    for shard, split in splits_of_files(shards).items():
        for key, members in _samples(shard):
            given = {"id": f"{shard.stem}/{key}", "split": split}
            yield _entry(f"{shard.name}/{key}", given, members, names)


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, Member | None]]]:
    """Key, and extension -> member (None = no regular file), for each run of members with one key."""
    key, members = "", dict[str, Member | None]()
    try:
        with tarfile.open(shard, mode="r:") as archive:
            for info in archive:
                if info.isdir():
                    continue
                folder, _, last = info.name.rpartition("/")
                stem, _, extension = last.partition(".")
                found = f"{folder}/{stem}" if folder else stem
                if members and found != key:
                    yield key, members
                    members = {}
                key = found
                place = Member(shard, info.name, info.offset_data, info.size)
                members[extension.lower()] = place if info.isreg() and extension not in members else None
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard}: cannot be read as a tar file ({error})") from error
    if members:
        yield key, members


def _entry(label: str, raw: dict[str, Any], members: dict[str, Member | None], names: Mapping[str, str]) -> Entry:
    pictures: dict[str, Picture] = {}
    unused: list[str] = []
    for extension, member in sorted(members.items()):
        part, _, kind = extension.rpartition(".")
        if member is None:
            return Entry(label, Problem(label, extension, "one regular file of each name"), _missing)
        try:
            if kind in PICTURES:
                head, dot, number = (part or "image").partition(".")
                pictures[names.get(head, head) + dot + number] = member
            elif kind == "txt" and names.get(part or "instruction", part or "instruction") == "instruction":
                raw["instruction"] = _text(member).strip()
            elif extension == "json":
                raw |= _record(member, label, names, unused)
            else:
                unused.append(extension)
        except (OSError, ValueError) as error:
            return Entry(label, Problem(f"{label}: {extension}", member.name, f"a readable member ({error})"), _missing)
    return Entry(label, _with_pictures(raw, pictures, unused), _finder(pictures), tuple(unused))


def _record(member: Member, label: str, names: Mapping[str, str], unused: list[str]) -> dict[str, Any]:
    """The known fields of KEY.json."""
    found = parse_object(_text(member), label)
    if isinstance(found, Problem):
        raise ValueError(found.hint or "no JSON object")
    known = {names.get(name, name): value for name, value in found.items()}
    unused += sorted(f"json: {name}" for name in set(known) - set(_FIELDS))
    return {name: value for name, value in known.items() if name in _FIELDS}


def _text(member: Member) -> str:
    if member.size > MAX_TEXT:
        raise ValueError(f"{member.size} bytes of text, allowed {MAX_TEXT}")
    return member.read().decode("utf-8")


def _with_pictures(raw: dict[str, Any], pictures: Mapping[str, Picture], unused: list[str]) -> dict[str, Any]:
    """The row with the names of its pictures; references in the order of their numbers."""
    numbered = {n: n.partition(".")[2] for n in pictures if n == "reference" or n.startswith("reference.")}
    ordered = sorted(numbered, key=lambda name: (not numbered[name].isdigit(), len(numbered[name]), numbered[name]))
    kinds = raw.pop("reference_kinds", None)
    if kinds is None:
        kinds = ["detail"] * len(ordered)
    if isinstance(kinds, list) and len(kinds) == len(ordered):
        raw["references"] = [{"kind": kind, "path": name} for kind, name in zip(kinds, ordered, strict=True)]
    else:
        raw["references"] = f"{kinds} for {len(ordered)} references"
    known = [name for name in ("image", "mask", "target") if name in pictures]
    unused += sorted(set(pictures) - set(known) - set(ordered))
    return raw | {name: name for name in known}


def _finder(pictures: Mapping[str, Picture]) -> Any:
    def find(name: str) -> Picture:
        if name not in pictures:
            raise DataError(f"one of {', '.join(sorted(pictures))}")
        return pictures[name]

    return find


def _missing(name: str) -> Picture:
    raise DataError("nothing: the row was not read")
