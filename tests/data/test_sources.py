from collections import Counter

import numpy as np
import pytest

from burnish.data.errors import DataError
from burnish.data.images import save_png
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.records import Example
from burnish.data.sources import (
    Mixture,
    Source,
    block_pattern,
    chunk_indices,
    eval_indices,
    iteration_indices,
    make_source,
)


class FiniteSource:
    """Sixteen-index source whose last three indices repeat rows."""

    name = "finite"

    def count(self, split):
        return 16

    def repeats(self, split):
        return frozenset((13, 14, 15))

    def example(self, split, index):
        return Example(id=f"f{index}", instruction="x", image=None, mask=None)


def test_default_sources_are_mixed_evenly_and_follow_the_protocol():
    source = make_source(DataConfig())
    assert isinstance(source, Source)
    found = Counter(source.example("train", i).meta["source"] for i in range(0, 32 * 16, 16))
    assert found == {"drawn_text": 8, "drawn_logo": 8, "drawn_texture": 8, "photo": 8}


def test_a_single_source_stays_itself():
    assert make_source(DataConfig(sources=(SourceConfig(kind="logo"),))).name == "drawn_logo"


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 1.0), (3.0, 1.0), (1000.0, 1.0), (0.1, 0.2, 0.7), (1.0,) * 40])
def test_pattern_follows_the_weights_and_leaves_nobody_out(weights):
    pattern = block_pattern(weights)
    assert len(pattern) == max(32, len(weights))
    for number, weight in enumerate(weights):
        share = pattern.count(number)
        assert share >= 1
        assert abs(share - len(pattern) * weight / sum(weights)) <= 1


def test_a_mixture_uses_every_index_of_a_source_once():
    mixture = make_source(DataConfig())
    places = [mixture.place("train", index) for index in range(64 * 16)]
    assert len(set(places)) == len(places)
    assert {inner for number, inner in places if number == 2} == set(range(16 * 16))


def test_examples_of_a_block_share_one_geometry():
    source = make_source(DataConfig(box="free", reference_weights=(0.2,) * 5))
    for start in range(0, 20 * 16, 16):
        examples = [source.example("train", start + i) for i in range(16)]
        assert len({(e.meta["source"], e.meta["box"], tuple(r.kind for r in e.references)) for e in examples}) == 1


def test_finite_sources_start_over_in_a_new_order_inside_a_mixture():
    mixture = Mixture((FiniteSource(), FiniteSource()), weights=(1.0, 1.0), block=4, seed=0)
    inner = [index for number, index in (mixture.place("train", i) for i in range(256)) if number == 0]
    epochs = [inner[i : i + 16] for i in range(0, len(inner), 16)]
    assert all(sorted(epoch) == list(range(16)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert mixture.count("train") is None
    assert mixture.example("train", 0).id.startswith("f")


@pytest.mark.parametrize("num_examples", [1, 4, 7])
def test_iterations_are_disjoint_and_take_different_blocks(num_examples):
    seen = [iteration_indices(i, num_examples=num_examples, block=4) for i in range(64)]
    assert len({index for step in seen for index in step}) == 64 * num_examples
    assert all(len({index // 4 for index in step}) == num_examples for step in seen)


def test_unbounded_indices_have_no_gaps():
    seen = sorted(index for i in range(16) for index in iteration_indices(i, num_examples=2, block=4))
    assert seen == list(range(32))


def test_a_finite_source_is_exhausted_before_it_starts_over_in_a_new_order():
    steps = [iteration_indices(i, num_examples=2, block=4, count=16, seed=1) for i in range(16)]
    first, second = sum(steps[:8], ()), sum(steps[8:], ())
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second


def test_chunks_are_consecutive_indices_of_one_block():
    chunks = chunk_indices(5, num_chunks=3, size=8, block=16)
    assert len({chunk[0] // 16 for chunk in chunks}) == 3
    for chunk in chunks:
        assert chunk == tuple(range(chunk[0], chunk[0] + 8))
        assert chunk[0] // 16 == chunk[-1] // 16


def test_chunk_sizes_and_counts_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="divide"):
        chunk_indices(0, num_chunks=1, size=3, block=16)
    for count in (0, 17):
        with pytest.raises(DataError, match="multiple"):
            chunk_indices(0, num_chunks=1, size=1, block=16, count=count)


def test_evaluation_spreads_over_blocks_and_skips_repeats():
    unbounded = eval_indices(make_source(DataConfig()), "heldout", 10, block=16)
    assert unbounded == (0, 1, 2, 3, 16, 17, 18, 19, 32, 33)
    finite = eval_indices(FiniteSource(), "dev", 100, block=8)
    assert sorted(finite) == list(range(13))
    assert finite[:6] == (0, 1, 2, 3, 8, 9)


@pytest.mark.parametrize("others", [1, 0])
def test_evaluation_of_a_mixture_shows_no_row_twice(others):
    drawn = tuple(make_source(DataConfig(sources=(SourceConfig(kind="text"),))) for _ in range(others))
    sources = (FiniteSource(), FiniteSource(), *drawn)
    mixture = Mixture(sources, weights=(1.0,) * len(sources), block=8, seed=0)
    places = [mixture.place("heldout", i) for i in eval_indices(mixture, "heldout", 40, block=8)]
    assert len(places) == len(set(places)) == (40 if others else 26)
    assert {inner for number, inner in places if number == 0} <= set(range(13))


def test_a_folder_and_a_manifest_are_made_from_paths(tmp_path):
    for number in range(4):
        save_png(tmp_path / f"{number}.png", np.full((3, 30, 30), number / 4, np.float32))
    (tmp_path / "m.jsonl").write_text('{"id": "a", "image": "0.png", "box": [0, 0, 8, 8], "instruction": "x"}\n')
    sources = (
        SourceConfig(kind="folder", path=str(tmp_path)),
        SourceConfig(kind="manifest", path=str(tmp_path / "m.jsonl")),
    )
    folder, manifest = (
        make_source(DataConfig(sources=(s,)), thorough=t) for s, t in zip(sources, (True, False), strict=True)
    )
    assert (folder.name, manifest.name) == ("folder", "manifest")
    assert make_source(DataConfig(sources=sources)).name == "mixture"


def test_data_sets_that_share_an_id_are_refused_with_both_paths(tmp_path):
    save_png(tmp_path / "0.png", np.zeros((3, 30, 30), np.float32))
    row = '{"id": "%s", "image": "0.png", "box": [0, 0, 8, 8], "instruction": "x"}\n'
    (tmp_path / "a.jsonl").write_text(row % "same" + row % "other")
    (tmp_path / "b.jsonl").write_text(row % "same")
    sources = tuple(SourceConfig(kind="manifest", path=str(tmp_path / f"{name}.jsonl")) for name in "ab")
    with pytest.raises(DataError) as refused:
        make_source(DataConfig(sources=sources))
    (problem,) = refused.value.problems
    assert problem.got == "same" and "a.jsonl" in problem.allowed and "b.jsonl" in problem.field
