"""Taking a policy out of its run: base, adapter and snapshot, and the same adapter as other programs read it.

Called by `cli_results.py`. A new directory is made whole or not at all, and every file in it is read back first: what
it holds has to give the velocity of the run's own policy.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.data.errors import ConfigError, Problem, RefusedError
from burnish.data.records import Example, PolicyVersion
from burnish.platform.commands import Chosen, choose_policy
from burnish.platform.examples import recipe_source
from burnish.platform.learning import velocity_difference
from burnish.platform.manifest import seal
from burnish.platform.runs import Run
from burnish.platform.start_from import BASE
from burnish.policies.folding import merge_adapter
from burnish.policies.interchange import COMFYUI, DIFFSYNTH, adapter_of, save_lora, start_adapter
from burnish.policies.lora import AdapterConfig, add_adapter, import_state
from burnish.policies.lora_files import read_lora
from burnish.policies.snapshot import WEIGHTS_FILE, load_base, load_start, load_trained

DIFFUSERS, MERGED = "diffusers", "merged"
MAX_DIFFERENCE = {DIFFUSERS: 1e-6, COMFYUI: 1e-5, DIFFSYNTH: 1e-5, MERGED: 1e-5}
"""An export whose velocity differs by more from the run's is refused."""
MAX_ROUNDED = 0.1
"""Where the base is not float32, another order rounds otherwise: this share of the adapter's change may get lost."""


@dataclass(frozen=True)
class Exported:
    """A policy outside its run.

    Args:
        path: directory with base/, what was trained, snapshot.json and manifest.json.
        checkpoint: which commit it was.
        policy_digest: which weights.
        difference: largest |difference| of velocity between the run's policy and the export in plain diffusers.
        effect: largest |difference| of velocity that the adapter makes.
        trained: what holds the trained weights: the adapter's folder, or the file with all weights.
        others: further format -> its file or folder below `path`, and the difference after reading it back.
    """

    path: Path
    checkpoint: str
    policy_digest: str
    difference: float
    effect: float
    trained: str = "adapter/"
    others: dict[str, tuple[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        others = {kind: {"path": path, "difference": found} for kind, (path, found) in self.others.items()}
        return {**vars(self), "path": str(self.path), "others": others}

    def text(self, run: str) -> str:
        """For people."""
        lines = [
            f"{self.path}: {self.checkpoint} of {run}, policy {self.policy_digest[:12]}",
            f"training changed velocity by up to {self.effect:.2g}; read back, the largest difference is",
            f"  {self.difference:.2g}  {self.trained} in plain diffusers",
            *(f"  {found:.2g}  {path} ({kind})" for kind, (path, found) in self.others.items()),
        ]
        return "\n".join(lines)


class _Export:
    """One export under way.

    Args:
        chosen: the policy.
        folder: where it is written.
    """

    def __init__(self, chosen: Chosen, folder: Path) -> None:
        self._chosen, self._folder = chosen, folder
        self._example: Example = recipe_source(chosen.recipe).example("dev", 0)
        self._config: AdapterConfig = chosen.recipe.grpo.adapter
        self._whole = chosen.recipe.grpo.trains == "all"
        self.version, state = chosen.weights()
        self._own: Any = load_start(chosen.base, chosen.recipe.grpo.trained_adapter).policy
        import_state(self._own.module, state)
        self.effect = self._difference(load_base(chosen.base))

    def _difference(self, other: Any) -> float:
        return velocity_difference(self._own, other, self._example)

    def write(self) -> float:
        """What burnish and diffusers read; returns the proof's difference."""
        chosen, folder = self._chosen, self._folder
        assert chosen.checkpoint is not None
        shutil.copytree(chosen.base, folder / BASE, ignore=shutil.ignore_patterns("manifest.json"))
        if self._whole:
            shutil.copyfile(chosen.checkpoint / WEIGHTS_FILE, folder / WEIGHTS_FILE)
        else:
            shutil.copytree(chosen.checkpoint / "adapter", folder / "adapter")
        shutil.copyfile(chosen.checkpoint / "snapshot.json", folder / "snapshot.json")
        plain = load_base(folder / BASE)
        load_trained(plain.module, folder, whole=self._whole)
        return self._proved(DIFFUSERS, plain)

    def lora(self, kind: str) -> tuple[str, float]:
        """The adapter under another program's names; (its path, difference after reading it back)."""
        name = f"adapter/{kind}.safetensors"
        scale = self._config.alpha / self._config.rank
        module = self._own.module
        save_lora(self._folder / name, adapter_of(module, scale=scale), style=kind, module=module)
        plain = load_base(self._chosen.base)
        add_adapter(plain.module, self._config)
        start_adapter(plain.module, read_lora(self._folder / name, plain.module), self._config)
        return name, self._proved(kind, plain)

    def merged(self, kind: str) -> tuple[str, float]:
        """The transformer with the adapter in its weights, or its trained float32 weights, for `from_pretrained`."""
        plain = load_base(self._chosen.base)
        load_trained(plain.module, self._folder, whole=self._whole)
        if not self._whole:
            merge_adapter(plain.module)
        plain.module.save_pretrained(self._folder / "merged", safe_serialization=True)
        back = type(plain.module).from_pretrained(self._folder / "merged", use_safetensors=True, local_files_only=True)
        plain.module.load_state_dict(back.state_dict())
        return "merged", self._proved(kind, plain)

    def _proved(self, kind: str, plain: Any) -> float:
        difference, allowed = self._difference(plain), MAX_DIFFERENCE[kind]
        if kind != DIFFUSERS and getattr(plain.config, "dtype", "float32") != "float32":
            allowed = MAX_ROUNDED * self.effect
        if not difference <= allowed:
            raise RefusedError(f"the {kind} export's velocity differs by {difference:.3g} (allowed {allowed:.2g})")
        return difference


_WRITERS: dict[str, Callable[[_Export, str], tuple[str, float]]] = {
    MERGED: _Export.merged,
    COMFYUI: _Export.lora,
    DIFFSYNTH: _Export.lora,
}
FORMATS = (DIFFUSERS, *_WRITERS)


def export_run(run: Run, *, to: Path, name: str | None, formats: Sequence[str] = ()) -> Exported:
    """Copy base, adapter and snapshot to a new directory, seal it, prove it by a reload; all of it or nothing.

    Args:
        run: the run.
        to: directory to make.
        name: of the commit, see `choose_policy`.
        formats: of `FORMATS`; what burnish and diffusers read is written in any case.

    Raises:
        ConfigError: `to` exists, the run has no adapter yet, or a format has no names for its layers.
        RefusedError: the export computes something else than the run's policy.
    """
    chosen = choose_policy(run, name)
    if to.exists():
        raise ConfigError("export refused", [Problem("--to", str(to), "a directory that does not exist")])
    if chosen.checkpoint is None:
        raise ConfigError("nothing to export", [Problem("RUN", run.id, "a run with a checkpoint of its grpo stage")])
    adapters = sorted(set(formats) & {COMFYUI, DIFFSYNTH})
    if adapters and chosen.recipe.grpo.trains == "all":
        raise ConfigError("export refused", [Problem("--format", ", ".join(adapters), MERGED, "there is no adapter")])
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = to.with_name(f".tmp-{to.name}-{os.getpid()}")
    aside.mkdir()
    try:
        export = _Export(chosen, aside)
        difference = export.write()
        others = {kind: _WRITERS[kind](export, kind) for kind in dict.fromkeys(formats) if kind != DIFFUSERS}
        seal(aside)
        aside.rename(to)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    version: PolicyVersion = export.version
    trained = WEIGHTS_FILE if chosen.recipe.grpo.trains == "all" else "adapter/"
    return Exported(to, chosen.name, version.digest, difference, export.effect, trained, others)
