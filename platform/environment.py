"""What a digest may depend on beside the recipe: versions, processor, threads.

Written into run.json and compared at a resume.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

_PACKAGES = ("burnish", "torch", "numpy", "diffusers", "peft", "deepspeed", "ray", "mlflow", "safetensors")


def environment_versions() -> dict[str, str]:
    """What a digest may depend on: package versions, python, CPU, torch's CPU capability, threads. Imports torch."""
    import torch

    versions = {name: _version(name) for name in _PACKAGES}
    versions["python"] = platform.python_version()
    versions["cpu"] = cpu_kind()
    versions["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    versions["threads"] = str(torch.get_num_threads())
    return versions


def cpu_kind() -> str:
    """Vendor, family and model of the processor: BLAS libraries choose their kernels, and so the last bits, by it."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in pairs}
    parts = [found[key] for key in ("vendor_id", "cpu family", "model") if key in found]
    return " ".join(parts) or platform.machine()


def version_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Lines that say which versions differ between two machines; digests are comparable only where it is empty."""
    names = sorted(old.keys() | new.keys())
    return [f"{n}: {old.get(n, 'none')} -> {new.get(n, 'none')}" for n in names if old.get(n) != new.get(n)]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
