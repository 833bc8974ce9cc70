"""An example is encoded once; what the cache gives is what the encoders gave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

NAMES = ("kontext", "flux2", "qwen2509")


def counted(policy: Any) -> list[str]:
    """Notes every call of the policy's encoders."""
    calls: list[str] = []
    for name in ("_latents", "_texts"):
        own = getattr(policy, name)
        setattr(policy, name, lambda *a, own=own, name=name: calls.append(name) or own(*a))
    return calls


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_second_process_encodes_nothing(
    tiny_models: Path, pipelines: Any, tmp_path: Path, name: str, dtype: str
) -> None:
    example = pipelines.example_of(2)
    plain = pipelines.policy_of(tiny_models, name, dtype=dtype)
    policies = [
        pipelines.policy_of(tiny_models, name, dtype=dtype, encoder_cache=str(tmp_path / "cache")) for _ in range(2)
    ]
    calls = [counted(policy) for policy in policies]
    wanted = plain.encode(example)
    targets = torch.from_numpy(np.stack([example.target, example.image]))
    for policy in policies:
        found = policy.encode(example)
        assert found.geometry == wanted.geometry and found.arrays.keys() == wanted.arrays.keys()
        for key, array in wanted.arrays.items():
            assert found.arrays[key].dtype == array.dtype
            np.testing.assert_array_equal(found.arrays[key], array)
        assert torch.equal(policy.encode_image(targets, found), plain.encode_image(targets, wanted))
    assert calls[0].count("_texts") == 1 and calls[0].count("_latents") == 3 + 2 and calls[1] == []


def test_other_words_pixels_or_settings_are_encoded_anew(tiny_models: Path, pipelines: Any, tmp_path: Path) -> None:
    make = lambda **more: pipelines.policy_of(tiny_models, "kontext", encoder_cache=str(tmp_path), **more)  # noqa: E731
    policy, example = make(), pipelines.example_of(1)
    policy.encode(example)
    others = [
        replace(example, instruction="Restore the text."),
        replace(example, image=example.target),
        replace(example, references=()),
    ]
    calls = counted(policy)
    for other in others:
        policy.encode(other)
    policy.encode(replace(example, id="renamed", mask=1.0 - example.mask))
    assert calls.count("_texts") == 3
    narrow = make(dtype="bfloat16")
    calls = counted(narrow)
    narrow.encode(example)
    assert calls.count("_texts") == 1


def test_a_damaged_file_is_made_again_and_none_is_left_half_written(
    tiny_models: Path, pipelines: Any, tmp_path: Path
) -> None:
    policy, example = pipelines.policy_of(tiny_models, "flux2", encoder_cache=str(tmp_path)), pipelines.example_of(1)
    wanted = policy.encode(example)
    (path,) = tmp_path.glob("*/*")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    np.testing.assert_array_equal(policy.encode(example).arrays["text"], wanted.arrays["text"])
    assert path.read_bytes() == whole and list(tmp_path.glob("*/*")) == [path]


def test_rows_of_targets_do_not_know_of_each_other(tiny_models: Path, pipelines: Any) -> None:
    policy, example = pipelines.policy_of(tiny_models, "kontext"), pipelines.example_of(1)
    conditions = policy.encode(example)
    images = torch.from_numpy(np.stack([example.target, example.image]))
    one = policy.encode_image(images[:1], conditions)
    assert torch.equal(policy.encode_image(images, conditions)[:1], one)
