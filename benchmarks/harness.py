"""What the benchmarks share: where and how a figure was measured, interleaved timing, verdicts, Markdown.

The scripts are run as `python benchmarks/NAME.py`. They import the installed `burnish` and, beside it, this file.
Times are process seconds of one thread; the machine may be shared, so bars are ratios taken inside one run.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def single_thread() -> None:
    """One torch thread; OpenMP's setting must stand before the first import of torch, so it is only checked."""
    import torch

    torch.set_num_threads(1)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--markdown", type=Path, metavar="PATH", help="also write the tables there")
    return made


def commit() -> str:
    """Short hash of the checked-out commit, with + where files differ from it; "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return ran.stdout.strip() if ran.returncode == 0 else ""

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.yaml")
    return (git("rev-parse", "--short=12", "HEAD") + ("+" if dirty else "")) or "unknown"


def cpu_model() -> str:
    """What the kernel calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def where() -> dict[str, str]:
    """Command, commit and machine, as every published figure states them."""
    import torch

    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": commit(),
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "software": f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), "
        f"Python {platform.python_version()}, {torch.get_num_threads()} thread",
    }


@dataclass
class Page:
    """Lines printed as they come, and kept for the Markdown file."""

    title: str
    lines: list[str] = field(default_factory=list)
    failed: int = 0

    def __post_init__(self) -> None:
        self.say(f"# {self.title}", "", *(f"- {name}: `{text}`" for name, text in where().items()), "")

    def say(self, *lines: str) -> None:
        """Print lines and keep them."""
        for line in lines:
            print(line, flush=True)
            self.lines.append(line)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A Markdown table, aligned so that it reads on a terminal too."""
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        marks = ["-" * width for width in widths]
        for row in (header, marks, *rows):
            self.say("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        self.say("")

    def verdict(self, claim: str, passed: bool | None, detail: str) -> None:
        """One line against a bar; None = these data cannot say."""
        word = {True: "PASS", False: "FAIL", None: "NOT SHOWN"}[passed]
        self.failed += passed is False
        self.say(f"- {word}: {claim}: {detail}")

    def close(self, markdown: Path | None) -> int:
        """Write the Markdown file; returns the exit code, 1 where a bar was missed."""
        if markdown is not None:
            markdown.write_text("\n".join(self.lines).rstrip() + "\n")
        return 1 if self.failed else 0


@dataclass(frozen=True)
class Timing:
    """Process seconds of several repetitions."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The least of them: what the work takes when nobody disturbs it."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """(largest - least) / median."""
        return (max(self.seconds) - min(self.seconds)) / statistics.median(self.seconds)

    def text(self) -> str:
        """Milliseconds and spread."""
        return f"{self.best * 1e3:.2f} ms (spread {self.spread:.0%})"


def interleaved(cases: Mapping[str, Callable[[], Any]], *, repeats: int = 3) -> dict[str, Timing]:
    """Run every case once to warm up, then all of them in turn `repeats` times; process seconds of each."""
    for case in cases.values():
        case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            started = time.process_time()
            case()
            seconds[name].append(time.process_time() - started)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


@dataclass
class Meter:
    """Calls of a function, their process seconds and the rows they took."""

    calls: int = 0
    rows: int = 0
    seconds: float = 0.0

    def reset(self) -> None:
        """Start counting again."""
        self.calls, self.rows, self.seconds = 0, 0, 0.0


def metered(owner: Any, name: str, *, rows: Callable[..., int] = lambda *a, **k: 0) -> Meter:
    """Count and time `owner.name` from now on."""
    meter, original = Meter(), getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        result = original(*args, **kwargs)
        meter.seconds += time.process_time() - started
        meter.calls += 1
        meter.rows += rows(*args, **kwargs)
        return result

    setattr(owner, name, wrapped)
    return meter
