"""Is this machine fit to run burnish? `burnish doctor` prints what `report` finds.

It imports neither torch nor Ray, starts nothing and writes one small file that it deletes. A failed check makes the
command exit with 4; a warning does not.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

GIB = 1 << 30
ROLE_BYTES = 900 << 20
"""Resident memory of one process that has imported torch, diffusers and peft and holds the tiny model."""
RAY_BYTES = 2 * GIB
"""Resident memory of a local Ray's own processes."""
NEEDED_DISK = 2 * GIB
NEEDED_FILES = 1024

_FLOORS: Mapping[str, tuple[int, ...]] = {
    "torch": (2, 10),
    "ray": (2, 54),
    "diffusers": (0, 38),
    "peft": (0, 21),
    "deepspeed": (0, 19),
    "mlflow": (3, 17, 2),
    "safetensors": (0, 6),
    "pydantic": (2, 12),
    "dreamsim": (0, 2),
    "open_clip_torch": (3, 3),
}


@dataclass(frozen=True)
class Check:
    """One finding.

    Args:
        name: what was looked at.
        status: "ok", "warn" or "fail".
        detail: what was found.
        hint: what to do, empty if nothing.
    """

    name: str
    status: str
    detail: str
    hint: str = ""


def report(*, runs_dir: Path, roles: int = 1, executor: str = "local", weights: tuple[Path, ...] = ()) -> list[Check]:
    """All checks, in the order in which they are shown.

    Args:
        runs_dir: where runs will be written; need not exist.
        roles: processes that hold a model (driver, learners, rollouters, reward servers).
        executor: "local" or "ray"; Ray's own processes count for memory.
        weights: further directories to look for weights in, beside the Hugging Face cache.
    """
    checks = [_python(), *(_package(name, floor) for name, floor in _FLOORS.items())]
    checks += [_cores(), _devices(), _memory(roles, executor), _disk(runs_dir), _open_files()]
    return [*checks, _ray(os.environ), _tracking(runs_dir), *_weights(weights)]


def exit_code(checks: list[Check]) -> int:
    """0 if nothing failed, else 4."""
    return 4 if any(check.status == "fail" for check in checks) else 0


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info[:2] >= (3, 11)
    return Check("python", "ok" if good else "fail", version, "" if good else "use Python 3.11 or newer")


def _package(name: str, floor: tuple[int, ...], version_of: Callable[[str], str] = metadata.version) -> Check:
    wanted = ".".join(map(str, floor))
    try:
        version = version_of(name)
    except metadata.PackageNotFoundError:
        return Check(name, "fail", "not installed", f"install {name}>={wanted}")
    parts = tuple(int(part) for part in version.split("+")[0].split(".")[: len(floor)] if part.isdigit())
    if parts < floor:
        return Check(name, "fail", version, f"needs >= {wanted}")
    return Check(name, "ok", version)


def _cores() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", "ok" if count > 1 else "warn", str(count), "" if count > 1 else "runs, but slowly")


def _devices() -> Check:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check("devices", "ok", "cpu only (tiny recipes need no GPU)")
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("devices", "warn", f"nvidia-smi failed: {type(error).__name__}", "check the driver")
    lines = [line.strip() for line in found.stdout.splitlines() if line.strip()]
    return Check("devices", "ok", f"{len(lines)} GPU: {'; '.join(sorted(set(lines)))}" if lines else "cpu only")


def _memory(roles: int, executor: str) -> Check:
    available = available_memory()
    needed = roles * ROLE_BYTES + (RAY_BYTES if executor == "ray" else 0)
    if available is None:
        return Check("memory", "warn", "could not be read", f"{gib(needed)} are needed for {roles} roles")
    detail = f"{gib(available)} available, about {gib(needed)} needed for {roles} roles ({executor})"
    if available < needed:
        return Check("memory", "fail", detail, "fewer workers, or --executor local")
    return Check("memory", "ok", detail)


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that may still be taken: the machine's, or the control group's where that is less; None = unknown."""
    found = []
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        pass
    try:
        group = root / "sys/fs/cgroup"
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit != "max":
            found.append(max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        pass
    return min(found) if found else None


def _disk(runs_dir: Path) -> Check:
    place = runs_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        return Check("disk", "fail", f"{place} is not writable", "choose another --runs-dir")
    hint = "" if free >= NEEDED_DISK else f"a run may need {gib(NEEDED_DISK)}"
    return Check("disk", "warn" if hint else "ok", f"{gib(free)} free for {runs_dir}", hint)


def _open_files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hint = "" if soft >= NEEDED_FILES else f"ulimit -n {min(hard, 65536)}"
    return Check("open files", "warn" if hint else "ok", str(soft), hint)


def _ray(environment: Mapping[str, str]) -> Check:
    """Ray's ports are not on loopback, so its token authentication has to be on."""
    mode = environment.get("RAY_AUTH_MODE", "unset")
    address = environment.get("RAY_ADDRESS")
    detail = f"auth {mode}" + (f", cluster {address}" if address else ", no cluster named")
    if mode == "disabled":
        return Check("ray state", "warn", detail, "RAY_AUTH_MODE=token, else anyone on the network can run commands")
    if address and mode == "unset":
        return Check("ray state", "warn", detail, "set RAY_AUTH_MODE=token on every node and here")
    return Check("ray state", "ok", detail)


def _tracking(runs_dir: Path) -> Check:
    """MLflow's default store is a SQLite file beside the runs: can one be written there?"""
    place = runs_dir.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as folder:
            connection = sqlite3.connect(Path(folder) / "probe.db")
            connection.execute("create table probe (x)")
            connection.commit()
            connection.close()
    except (OSError, sqlite3.Error) as error:
        return Check(
            "mlflow state", "warn", f"sqlite not writable: {error}", "--tracking.enabled false, or --tracking.uri"
        )
    return Check(
        "mlflow state", "ok", "sqlite writable" + (", database exists" if (runs_dir / "mlflow.db").exists() else "")
    )


def _weights(folders: tuple[Path, ...]) -> list[Check]:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cached = sorted(path.name[len("models--") :].replace("--", "/") for path in (home / "hub").glob("models--*"))
    checks = [Check("weights", "ok", ", ".join(cached) if cached else "none cached (tiny recipes need none)")]
    for folder in folders:
        names = sorted(p.name for pattern in ("*.safetensors", "*.pth", "*.pt") for p in folder.glob(pattern))
        detail = f"{folder}: {', '.join(names) or 'nothing'}"
        checks.append(Check("weights", "ok" if names else "warn", detail, "" if names else "check the path"))
    return checks


def gib(count: int) -> str:
    """Bytes as GiB with one decimal."""
    return f"{count / GIB:.1f} GiB"
