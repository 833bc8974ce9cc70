"""What the tests of this room are made of: a tiny policy in three versions, a server's directory, pictures as bytes."""

import base64
import io
import json
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from burnish.data.images import from_uint8
from burnish.data.masks import box_mask
from burnish.data.photos import bundled_scenes
from burnish.data.records import Example, SamplerSpec
from burnish.data.seeding import generator
from burnish.policies.lora import AdapterConfig, add_adapter, trainable
from burnish.policies.pieces import RefinerConfig
from burnish.policies.refiner import Refiner, load_refiner, read_snapshot
from burnish.policies.snapshot import adapted_digest, load_base, new_policy, save_adapter, save_base, snapshot_record
from burnish.policies.tiny import TinyConfig
from burnish.serve.door import Door
from burnish.serve.engine import load_version
from burnish.serve.probe import write_probe
from burnish.serve.store import ServeConfig, Store
from burnish.serve.versions import ServedVersion, Versions

SHIFTS = {"plain": 0.0, "good": 0.03, "bad": 0.5}
"""Adapters by name and how far their weights are moved."""
SAMPLER = SamplerSpec("ode", 2)


@dataclass(frozen=True)
class Material:
    """Base and snapshots of a tiny policy on disk."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base"

    def version(self, name: str, *, policy: str = "tuned", number: int = 1) -> ServedVersion:
        """A snapshot as a version; `plain` under the name `base` is the base alone."""
        record, place = read_snapshot(self.root / name), str(self.root / name)
        if policy == "base":
            digest = adapted_digest(load_base(self.base).module)
            return ServedVersion(policy, number, digest, place, str(self.base), False)
        return ServedVersion(policy, number, record.policy_digest, place, str(self.base), True, {"run": "r"})

    def refiner(self, name: str) -> Refiner:
        return load_refiner(self.root / name, base=self.base)


def make_material(root: Path) -> Material:
    """Write the base and an adapter for each of SHIFTS."""
    policy, adapter = new_policy(TinyConfig(num_layers=1, num_single_layers=1)), AdapterConfig(rank=2, alpha=4.0)
    (root / "base").mkdir()
    base = save_base(policy, root / "base")
    for name, shift in SHIFTS.items():
        module = load_base(root / "base").module
        add_adapter(module, adapter)
        for k, parameter in enumerate(trainable(module).values()):
            parameter.data.add_(shift + 0.001 * k)
        save_adapter(module, root / name / "adapter")
        record = snapshot_record(
            family="tiny",
            base=base,
            policy=adapted_digest(module),
            adapter=adapter,
            sampler=SAMPLER,
            refiner=RefinerConfig().model_dump(mode="json"),
            weights="raw",
        )
        (root / name / "snapshot.json").write_text(json.dumps(record))
    return Material(root)


def examples(material: Material, count: int = 2) -> list[Example]:
    """Canary examples whose target is what `good` makes of them, so that no other version scores better."""
    found = []
    for k in range(count):
        image = generator(0, "test-serve", k).random((3, 24, 24), dtype=np.float32)
        mask = box_mask((6, 6, 16, 16), height=24, width=24)
        one = Example(f"probe-{k}", "refine", from_uint8((image * 255).astype(np.uint8)), mask)
        good = material.refiner("good")
        (piece,) = good.focus.cut_out(one)  # the crop is the whole frame at the policy's own size
        found.append(replace(one, target=good.generate([good.policy.encode(piece.view)], seeds=[0])[0]))
    return found


def make_directory(place: Path, material: Material, *, tuned: str = "plain") -> Path:
    """A server's directory with `tuned@1` and `base@1`."""
    place.mkdir()
    versions = Versions("tuned")
    for version in (material.version(tuned), material.version("plain", policy="base")):
        versions.enter(version, now=0.0, state="active", reason="served from the start")
    gold = {"name": "masked_pixel", "kind": "masked_pixel", "gold": True, "weight": 0.0}
    write_probe(place, examples(material), [gold])
    Store(place).write(versions)
    return place


class Gated:
    """A policy whose every forward waits for `gate`; it counts them and the rows they took."""

    def __init__(self, policy: Any, gate: threading.Event) -> None:
        self._policy, self._gate = policy, gate
        self.forwards: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def velocity(self, latents: Any, sigma: Any, conditions: Any) -> Any:
        self.forwards.append(len(latents))
        assert self._gate.wait(20.0)
        return self._policy.velocity(latents, sigma, conditions)


class Gate:
    """Loads versions whose forwards wait until `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.policies: dict[str, Gated] = {}

    def load(self, version: ServedVersion) -> Refiner:
        held = load_version(version)
        self.policies[version.digest] = Gated(held.policy, self.open)
        return Refiner(self.policies[version.digest], held.sampler, held.config)

    @property
    def forwards(self) -> list[int]:
        return [rows for policy in self.policies.values() for rows in policy.forwards]


def photo(scene: str = "flower") -> Image.Image:
    """A bundled photograph, held out of training."""
    (found,) = [s for s in bundled_scenes("heldout") if s.name == scene]
    return Image.open(found.path).convert("RGB")


def encoded(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> bytes:
    """A picture as a file's bytes."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, form, **options)
    return stream.getvalue()


def decoded(payload: bytes | str) -> np.ndarray:
    """Bytes, or base64 of them, as uint8 [H,W,C]."""
    raw = base64.b64decode(payload) if isinstance(payload, str) else payload
    return np.asarray(Image.open(io.BytesIO(raw)))


def text(payload: bytes) -> str:
    """Base64."""
    return base64.b64encode(payload).decode()


def noise(width: int = 40, height: int = 32, *, seed: int = 0) -> np.ndarray:
    """A picture of noise, uint8 [H,W,3]."""
    return generator(seed, "test-serve-noise").integers(0, 256, (height, width, 3)).astype(np.uint8)


def body(**fields: Any) -> dict[str, Any]:
    """A small request of `POST /v1/refine`."""
    return {"image": text(encoded(noise())), "box": [8, 8, 20, 20], **fields}


def config_of(directory: Path, **options: Any) -> ServeConfig:
    return ServeConfig(directory=str(directory), **options)


def bearer(door: Door, name: str = "admin") -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": f"Bearer {Store(Path(door.open().config.directory)).token(name)}"}


def version_of(client: Any, **fields: Any) -> str:
    """Which version answers a request."""
    reply = client.post("/v1/refine", json=body(**fields))
    assert reply.status_code == 200, reply.text
    return reply.headers["x-burnish-model"]


def standings(client: Any) -> dict[int, Any]:
    """Version -> how it stands, of the policy `tuned`."""
    (tuned, _) = client.get("/v1/policies").json()["policies"]
    return {entry["version"]: entry for entry in tuned["versions"]}


def until_state(client: Any, number: int, state: str) -> Any:
    """Wait until a version is in a state; gives how it stands."""
    end = time.monotonic() + 30.0
    while (found := standings(client)[number])["state"] != state:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def scored(client: Any, number: int) -> Any:
    """Wait until a version has a score; gives how it stands."""
    end = time.monotonic() + 30.0
    while (found := standings(client)[number])["score"] is None:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def events(directory: Path) -> list[dict[str, Any]]:
    """What the server wrote down of its versions."""
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]
