"""Keyed randomness: the only place in burnish that draws random numbers.

A draw is a pure function of its key, so the same sample comes out whichever actor, process or retry asks for it. The
key's parts are length-prefixed and hashed (blake2b, 128 bits); the hash keys a numpy Philox counter generator, whose
values are the same on every platform. Noise is float32, drawn on the CPU, and moved to a device afterwards. torch's
generators are not used: on CPU they keep 32 bits of the seed, and their values depend on the tensor's size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

KeyPart = int | str


def key_bytes(parts: Sequence[KeyPart]) -> bytes:
    """Hash a key into 16 bytes.

    Each part is written as its type letter, its length and its text, so that ("a", "bc") and ("ab", "c"), or 1 and
    "1", are different keys.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | str):
            raise TypeError(f"a key part must be int or str, got {type(part).__name__}")
        text = str(part).encode()
        digest.update(b"%c%d:" % (b"i"[0] if isinstance(part, int) else b"s"[0], len(text)))
        digest.update(text)
    return digest.digest()


def generator(seed: int, purpose: str, *parts: KeyPart) -> np.random.Generator:
    """A fresh generator for one purpose.

    Args:
        seed: the run's seed, 0 <= seed < 2**63 (evaluation noise uses a constant instead, so runs are paired).
        purpose: what is drawn, for example "start-noise"; two purposes never share a stream.
        parts: iteration, example id, sample index, denoising step: whatever makes the draw unique.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key_bytes((seed, purpose, *parts)), "little")))


def normal(shape: Sequence[int], seed: int, purpose: str, *parts: KeyPart) -> np.ndarray:
    """Standard normal float32 noise of the given shape for one key."""
    return generator(seed, purpose, *parts).standard_normal(tuple(shape), dtype=np.float32)


def permutation(count: int, seed: int, purpose: str, *parts: KeyPart) -> np.ndarray:
    """A keyed permutation of range(count), int64 [count]."""
    return generator(seed, purpose, *parts).permutation(count)


def choice(count: int, size: int, seed: int, purpose: str, *parts: KeyPart) -> tuple[int, ...]:
    """`size` distinct indices of range(count), ascending."""
    return tuple(sorted(int(i) for i in permutation(count, seed, purpose, *parts)[:size]))
