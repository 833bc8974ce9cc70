"""An uploaded adapter: checked, and laid down in the server's directory as a version that can be loaded.

Called by the promoter. It parses safetensors headers and JSON only; nothing is loaded before it is checked.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from burnish.data.errors import CheckpointError, Problem
from burnish.data.strict_json import parse
from burnish.policies.refiner import SnapshotRecord, read_snapshot
from burnish.policies.snapshot import ADAPTER_FILE
from burnish.serve.refusal import invalid
from burnish.serve.versions import ServedVersion

MAX_RANK = 1024
MAX_SNAPSHOT = 1 << 20
"""Bytes of `snapshot.json`."""


def lay_down(
    *, adapter: Path, snapshot: bytes, beside: ServedVersion, number: int, root: Path, lineage: Mapping[str, Any]
) -> ServedVersion:
    """Make a directory of an upload; it is complete or it is not there.

    Args:
        adapter: the uploaded file; it is moved.
        snapshot: bytes of `snapshot.json`.
        beside: the version whose base it sits on.
        number: of the new version.
        root: directory of all promoted versions.
        lineage: where it came from.

    Raises:
        Refusal: 422, no safetensors, no snapshot, or another base, family, rank or sampler than can be served.
    """
    place = root / f"{beside.policy}-{number:06d}-{secrets.token_hex(4)}"  # a number that was refused comes again
    aside = root / f".tmp-{place.name}"
    (aside / "adapter").mkdir(parents=True)
    try:
        if len(snapshot) > MAX_SNAPSHOT:
            raise invalid(Problem("snapshot", f"{len(snapshot)} bytes", f"at most {MAX_SNAPSHOT}"))
        (aside / "snapshot.json").write_text(json.dumps(parse(snapshot, field="snapshot")))
        adapter.rename(aside / "adapter" / ADAPTER_FILE)
        record = _checked(aside, beside)
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    own = {"base_digest": record.base_digest, **lineage}
    return ServedVersion(beside.policy, number, record.policy_digest, str(place), beside.base, True, own)


def _checked(aside: Path, beside: ServedVersion) -> SnapshotRecord:
    try:
        record, present = read_snapshot(aside), read_snapshot(Path(beside.snapshot))
    except CheckpointError as error:
        raise invalid(*error.problems) from None
    problems = []
    for name in ("family", "base_digest"):
        got, wanted = getattr(record, name), getattr(present, name)
        if got != wanted:
            problems.append(Problem(f"snapshot.{name}", got[:80], wanted, "promote onto a server of the same base"))
    rank = (record.adapter or {}).get("rank")
    if not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
        problems.append(Problem("snapshot.adapter.rank", repr(rank)[:80], f"1 to {MAX_RANK}"))
    if not 1 <= record.sampler.num_steps <= 100:
        problems.append(Problem("snapshot.sampler.num_steps", str(record.sampler.num_steps), "1 to 100"))
    problems += _tensors(aside / "adapter" / ADAPTER_FILE)
    if problems:
        raise invalid(*problems)
    return record


def _tensors(file: Path) -> list[Problem]:
    try:
        with safe_open(file, framework="numpy") as opened:
            names = list(opened.keys())
    except (SafetensorError, OSError) as error:
        return [Problem("adapter", str(error)[:120], "a safetensors file")]
    strange = [name for name in names if ".lora_" not in name and not name.endswith(".alpha")]
    if strange or not names:
        return [Problem("adapter", ", ".join(strange[:3]) or "no tensors", "LoRA tensors only")]
    return []
