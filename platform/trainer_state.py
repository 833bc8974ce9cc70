"""A trainer's state in a checkpoint, by name, and its digest. `learning.py` writes it, resumes and commands read it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from burnish.data.errors import CheckpointError
from burnish.learners.trainer import TrainerState
from burnish.platform.checkpoints import load_tensors, save_tensors
from burnish.policies.digests import arrays_digest
from burnish.policies.snapshot import WEIGHTS_FILE

_OPTIMIZER = "optimizer.safetensors"


def write_state(path: Path, state: TrainerState) -> None:
    """Write weights, optimiser and average; the counters go into the driver's state.json."""
    save_tensors(path / WEIGHTS_FILE, dict(state.weights))
    extra = {f"ema/{name}": value for name, value in state.ema.items()}
    save_tensors(path / _OPTIMIZER, {**state.optimizer, **extra})


def read_state(checkpoint: Path) -> TrainerState:
    """The trainer's part of a checkpoint that was verified.

    Raises:
        CheckpointError: its state.json is not one of ours.
    """
    optimizer = {k: v.numpy() for k, v in load_tensors(checkpoint / _OPTIMIZER).items()}
    weights = {k: v.numpy() for k, v in load_tensors(checkpoint / WEIGHTS_FILE).items()}
    try:
        counters = json.loads((checkpoint / "state.json").read_text())["counters"]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{checkpoint.name}/state.json holds no counters") from error
    ema = {k.removeprefix("ema/"): v for k, v in optimizer.items() if k.startswith("ema/")}
    return TrainerState(weights, {k: v for k, v in optimizer.items() if not k.startswith("ema/")}, ema, counters)


def state_digest(state: TrainerState) -> str:
    """sha256 over weights, optimiser, EMA and counters: what crash tests compare."""
    parts = {"weights": state.weights, "optimizer": state.optimizer, "ema": state.ema}
    digests = [arrays_digest(arrays, prefix=name) for name, arrays in sorted(parts.items())]
    return hashlib.sha256(json.dumps([digests, sorted(state.counters.items())]).encode()).hexdigest()
