import hashlib

import numpy as np
import pytest

from burnish.data.crops import cut
from burnish.data.layout import SPLITS, DataConfig
from burnish.data.records import Example
from burnish.data.seeding import generator
from burnish.data.synthetic import DRAWERS, FONTS, DrawnSource, change_text, split_of

FIVE = DataConfig(reference_weights=(0.2,) * 5, box="free")
GOLDEN = "40f9ae362694de7a06f40405dfdeb4c608391b08558e315b7a571cdfd6f986ee"


def digest(examples: list[Example]) -> str:
    result = hashlib.sha256()
    for example in examples:
        for array in (example.image, example.target, example.mask, *(r.image for r in example.references)):
            result.update(array.tobytes())
    return result.hexdigest()


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_image_equals_target_outside_the_mask_and_differs_inside(kind):
    source = DrawnSource(kind, FIVE)
    for index in range(0, 400, 3):
        example = source.example("train", index)
        outside = np.broadcast_to(example.mask == 0, example.image.shape)
        assert example.image[outside].tobytes() == example.target[outside].tobytes()
        assert np.mean((example.image - example.target)[~outside] ** 2) >= 0.002
        assert example.image.min() >= 0.0
        assert example.image.max() <= 1.0


@pytest.mark.parametrize("kind", sorted(DRAWERS))
@pytest.mark.parametrize("split", SPLITS)
def test_an_example_is_a_pure_function_of_split_and_index(kind, split):
    first = [DrawnSource(kind, FIVE).example(split, i) for i in (0, 7, 100)]
    again = [DrawnSource(kind, FIVE).example(split, i) for i in (100, 7, 0)][::-1]
    assert digest(first) == digest(again)
    assert [e.id for e in first] == [e.id for e in again]
    assert digest(first[:1]) != digest(first[1:2])


def test_drawn_bytes_are_the_recorded_ones():
    config = DataConfig(degradations=("blur", "colour", "downup", "erosion", "removal", "text_change", "warp"))
    examples = [DrawnSource(kind, config).example("heldout", i) for kind in sorted(DRAWERS) for i in range(4)]
    assert digest(examples) == GOLDEN


def test_another_data_seed_draws_other_examples():
    one, two = (DrawnSource("logo", DataConfig(seed=seed)).example("train", 0) for seed in (0, 1))
    assert digest([one]) != digest([two])


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_splits_share_no_object(kind):
    source = DrawnSource(kind, DataConfig())
    seen = {split: {source.example(split, i).meta["cluster"] for i in range(300)} for split in SPLITS}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["heldout"]
    assert not seen["dev"] & seen["heldout"]
    assert all(len(keys) > 20 for keys in seen.values())


def test_splits_share_no_font_and_examples_use_their_own():
    fonts = [font for split in SPLITS for font in FONTS[split]]
    assert len(set(fonts)) == len(fonts)
    source = DrawnSource("text", DataConfig())
    for split in SPLITS:
        assert {source.example(split, i).meta["font"] for i in range(200)} == set(FONTS[split])


def test_split_shares_are_about_seventy_ten_twenty():
    found = [split_of("text", str(number)) for number in range(5000)]
    assert [round(found.count(split) / 500) for split in SPLITS] == [7, 1, 2]


def test_changed_text_differs_in_exactly_the_wished_number_of_characters():
    for count in (1, 2, 3):
        other = change_text("A7Q", generator(0, "c", count), count)
        assert sum(a != b for a, b in zip("A7Q", other, strict=True)) == count


def test_text_change_redraws_the_plate_in_its_own_colours():
    source = DrawnSource("text", DataConfig(sources=({"kind": "text"},), degradations=("text_change", "removal")))
    examples = [e for e in (source.example("train", i) for i in range(60)) if e.meta["degradation"] == "text_change"]
    assert len(examples) > 15
    for example in examples:
        corner = (slice(None), slice(4, 5), slice(4, 5))
        np.testing.assert_array_equal(example.image[corner], example.target[corner])


def test_meta_says_what_intervals_and_readers_need():
    example = DrawnSource("text", DataConfig()).example("dev", 3)
    assert example.meta["source"] == "drawn_text"
    assert example.meta["cluster"] == f"drawn_text:{example.meta['text']}"
    assert example.meta["split"] == "dev"
    assert example.meta["box"] == "4,4,16,16"
    assert {"font", "degradation"} <= set(example.meta)
    assert example.meta["text"] in example.instruction


def test_copy_mode_makes_the_first_reference_the_clean_crop():
    source = DrawnSource("logo", DataConfig(reference_mode="copy"))
    for index in range(20):
        example = source.example("train", index)
        np.testing.assert_array_equal(example.references[0].image, cut(example.target, (4, 4, 16, 16)))


def test_varied_mode_is_not_always_a_copy():
    source = DrawnSource("logo", DataConfig())
    examples = [source.example("train", i) for i in range(100)]
    copies = sum(np.array_equal(e.references[0].image, cut(e.target, (4, 4, 16, 16))) for e in examples)
    assert 15 < copies < 75


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_larger_scenes_are_drawn_too(kind):
    config = DataConfig(image_size=128, patch=8, box_size=64, reference_weights=(0.0, 0.0, 1.0))
    example = DrawnSource(kind, config).example("train", 0)
    assert example.image.shape == (3, 128, 128)
    assert [r.image.shape for r in example.references] == [(3, 64, 64)] * 2


def test_a_drawn_source_is_unbounded_and_repeats_nothing():
    source = DrawnSource("text", DataConfig())
    assert source.count("train") is None
    assert source.repeats("train") == frozenset()
