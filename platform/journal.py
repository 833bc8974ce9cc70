"""Append-only JSON lines with byte offsets: the iteration journal and metrics.jsonl.

The training loop appends; a checkpoint stores the offset it is consistent with; a resume reads what came after it
(`tail`) and then cuts it off (`truncate`). A line is on disk when `append` returns. A kill can tear only the last line,
which then does not count.
"""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from burnish.data.errors import CheckpointError, InfrastructureError, Problem
from burnish.platform.runs import write_text


class Journal:
    """One file of JSON objects, one a line.

    Args:
        path: the file; made, with its directory, at the first append.
        durable: fsync after each append; False for what can be written again.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        self._handle: int | None = None
        self._finalizer: weakref.finalize | None = None

    @property
    def offset(self) -> int:
        """Bytes of whole lines: where the next entry will start."""
        return whole_bytes(self.path)

    def append(self, entry: Mapping[str, Any]) -> int:
        """Write one entry; a torn line left by a kill is cut off first.

        Args:
            entry: JSON values with text keys; no NaN or infinity.

        Returns:
            The offset after the entry.

        Raises:
            ValueError: NaN or infinity in the entry.
            InfrastructureError: the disk refused; nothing of the entry counts.
        """
        line = encode(entry)
        try:
            if self._handle is None:
                self._open()
            return self._write(line)
        except OSError as error:
            self.close()
            raise InfrastructureError(f"could not write {self.path}: {error}") from error

    def tail(self, offset: int = 0) -> list[dict[str, Any]]:
        """Entries after a committed offset, oldest first; a torn last line is left out. What is before it is not read.

        Raises:
            CheckpointError: the offset is not at the start of a line, or a whole line is not JSON, naming it.
        """
        entries = []
        for number, line in enumerate(self._read(offset, self._checked(offset)).splitlines()):
            try:
                entries.append(json.loads(line))
            except ValueError as error:
                where = f"{self.path}, line {number + 1} after byte {offset}"
                raise CheckpointError("journal is damaged", [Problem(where, repr(line[:40]), "JSON")]) from error
        return entries

    def truncate(self, offset: int, keep: Sequence[Mapping[str, Any]] = ()) -> None:
        """Forget everything after a committed offset but the entries to keep, in one step.

        Raises:
            CheckpointError: the file is shorter than the offset, or the offset is inside a line.
            InfrastructureError: the disk refused; nothing is forgotten.
        """
        self._checked(offset)
        self.close()
        if keep:
            try:
                write_text(self.path, (self._read(0, offset) + b"".join(map(encode, keep))).decode())
            except OSError as error:
                raise InfrastructureError(f"could not write {self.path}: {error}") from error
        elif self.path.exists():
            with self.path.open("r+b") as stream:
                stream.truncate(offset)
                os.fsync(stream.fileno())

    def close(self) -> None:
        """Close the file; a later append opens it again."""
        if self._finalizer is not None:
            self._finalizer()
        self._handle = self._finalizer = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = whole_bytes(self.path)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        # A stage that begins anew drops its ledger: its files must not stay open for the rest of the run.
        self._finalizer = weakref.finalize(self, os.close, self._handle)
        os.ftruncate(self._handle, whole)

    def _write(self, line: bytes) -> int:
        assert self._handle is not None
        start = os.fstat(self._handle).st_size
        written = os.write(self._handle, line)
        if written != len(line):
            os.ftruncate(self._handle, start)
            raise OSError(f"only {written} of {len(line)} bytes fitted")
        if self._durable:
            os.fsync(self._handle)
        return start + len(line)

    def _checked(self, offset: int) -> int:
        """Bytes of whole lines, where `offset` is the start of one."""
        whole = whole_bytes(self.path)
        if not 0 <= offset <= whole or (offset and self._read(offset - 1, offset) != b"\n"):
            allowed = f"the start of a line, at most {whole}"
            raise CheckpointError("journal does not fit", [Problem(str(self.path), f"offset {offset}", allowed)])
        return whole

    def _read(self, start: int, end: int) -> bytes:
        if start == end:  # perhaps there is no file yet
            return b""
        with self.path.open("rb") as stream:
            stream.seek(start)
            return stream.read(end - start)


class MetricsLog(Journal):
    """metrics.jsonl: one object a step with `stage`, `step` and flat numbers."""

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> int:
        """Append one step's metrics; what is not finite is written as null.

        Args:
            stage: "sft" or "grpo".
            step: finished steps or iterations of the stage, counted from 1.
            values: metric name -> number.

        Returns:
            The offset after the entry.
        """
        clean = {name: float(v) if math.isfinite(v) else None for name, v in values.items()}
        return self.append({"stage": stage, "step": step, **clean})


def encode(entry: Mapping[str, Any]) -> bytes:
    """The line of an entry: canonical JSON (sorted keys, no blanks) and a newline.

    Raises:
        ValueError: NaN or infinity in the entry.
    """
    return (json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode()


def whole_bytes(path: Path) -> int:
    """Length of a file up to and with its last newline; 0 where there is no file."""
    if not path.exists():
        return 0
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            stream.seek(start)
            found = stream.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
