"""The glyph recogniser reads clean drawn text, and fails where the text is spoilt."""

import numpy as np
import pytest

from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.records import Example
from burnish.data.seeding import normal
from burnish.data.synthetic import DrawnSource
from burnish.rollouts.recogniser import character_accuracy, glyph_accuracy


def drawn(split: str, count: int, **settings: object) -> list[Example]:
    source = DrawnSource("text", DataConfig.model_validate({"sources": (SourceConfig(kind="text"),), **settings}))
    return [source.example(split, index) for index in range(count)]


@pytest.mark.parametrize(("split", "length"), [("heldout", (1, 2)), ("dev", (1, 2)), ("heldout", (3, 3))])
def test_clean_targets_read_right_and_degraded_inputs_do_not(split: str, length: tuple[int, int]) -> None:
    examples = drawn(split, 64, text_length=length)
    clean = glyph_accuracy(np.stack([e.target for e in examples]), examples)
    degraded = glyph_accuracy(np.stack([e.image for e in examples]), examples)
    assert clean.mean() >= 0.95
    assert degraded.mean() <= 0.6


def test_colour_does_not_matter_and_legible_noise_is_forgiven() -> None:
    examples = drawn("heldout", 64)
    noise = normal((64, 3, 24, 24), 0, "noise") * 0.05
    dimmed = np.stack([e.target for e in examples]) * 0.6 + 0.2
    assert glyph_accuracy(dimmed, examples).mean() == 1
    assert glyph_accuracy(dimmed + noise, examples).mean() > 0.9


def test_other_text_is_not_taken_for_the_right_one() -> None:
    examples = [e for e in drawn("heldout", 128, degradations=("text_change",)) if len(str(e.meta["text"])) == 1]
    assert len(examples) > 20
    assert glyph_accuracy(np.stack([e.image for e in examples]), examples).mean() == 0


def test_an_empty_plate_reads_as_nothing() -> None:
    example = drawn("heldout", 1)[0]
    assert character_accuracy(np.full((3, 24, 24), 0.5, np.float32), example) == 0


def test_what_holds_no_drawn_text_has_no_accuracy() -> None:
    image = np.zeros((3, 24, 24), np.float32)
    logo = DrawnSource("logo", DataConfig()).example("heldout", 0)
    assert np.isnan(glyph_accuracy(np.stack([image, image]), [logo, Example("x", "", image, None)])).all()
    assert np.isnan(character_accuracy(image * np.nan, drawn("heldout", 1)[0]))
