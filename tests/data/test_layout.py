import json

import pytest
from pydantic import ValidationError

from burnish.data.errors import DataError
from burnish.data.layout import DataConfig, SourceConfig, block_geometry, check_split

BAD = [
    ({"image_size": 26}, "image_size"),
    ({"box_size": 28}, "box_size"),
    ({"box_size": 10}, "box_size"),
    ({"degradations": ["melt"]}, "degradations"),
    ({"degradations": ["text_change"]}, "text_change alone"),
    ({"reference_weights": [0.0, 0.0]}, "reference_weights"),
    ({"reference_weights": [-1.0, 2.0]}, "reference_weights"),
    ({"text_length": [2, 1]}, "text_length"),
    ({"text_length": [1, 5]}, "text_length"),
    ({"sources": []}, "sources"),
    ({"sources": [{"kind": "text"}, {"kind": "text"}]}, "each kind"),
    ({"sources": [{"kind": "folder"}]}, "path"),
    ({"sources": [{"kind": "text", "path": "here"}]}, "path"),
    ({"sources": [{"kind": "text", "weight": 0}]}, "weight"),
    ({"block": 0}, "block"),
    ({"colour": 1}, "colour"),
]


def test_defaults_describe_the_tiny_setting():
    config = DataConfig()
    assert (config.image_size, config.patch, config.box_size, config.block) == (24, 4, 12, 16)
    assert block_geometry(config, name="drawn_text", split="train", index=0).box == (4, 4, 16, 16)
    assert config.max_references == 1


@pytest.mark.parametrize(("change", "word"), BAD)
def test_bad_configurations_are_refused_by_field(change, word):
    with pytest.raises(ValidationError, match=word):
        DataConfig.model_validate_json(json.dumps(change))


def test_configuration_survives_json():
    config = DataConfig(sources=(SourceConfig(kind="text", weight=2.0),), box="free", reference_weights=(1.0, 1.0, 1.0))
    assert DataConfig.model_validate_json(config.model_dump_json()) == config


def test_geometry_is_constant_within_a_block_and_varies_between_blocks():
    config = DataConfig(box="free", reference_weights=(0.2, 0.2, 0.2, 0.2, 0.2))
    found = [block_geometry(config, name="x", split="train", index=i) for i in range(64 * 16)]
    blocks = [set(found[i : i + 16]) for i in range(0, len(found), 16)]
    assert all(len(block) == 1 for block in blocks)
    assert len({geometry.box for geometry in found}) == 16
    assert {len(geometry.kinds) for geometry in found} == {0, 1, 2, 3, 4}


def test_boxes_sit_on_the_grid_inside_the_image():
    config = DataConfig(box="free", image_size=32)
    for index in range(0, 4000, 16):
        x1, y1, x2, y2 = block_geometry(config, name="x", split="dev", index=index).box
        assert x1 % 4 == y1 % 4 == 0
        assert (x2 - x1, y2 - y1) == (12, 12)
        assert x2 <= 32
        assert y2 <= 32


def test_first_reference_is_the_detail_and_the_next_four_kinds_differ():
    config = DataConfig(reference_weights=(0.0,) * 8 + (1.0,))
    kinds = block_geometry(config, name="x", split="train", index=0).kinds
    assert kinds[0] == "detail"
    assert sorted(kinds[1:5]) == ["background", "lighting", "style", "subject"]
    assert len(kinds) == 8


def test_unknown_split_is_refused():
    with pytest.raises(DataError, match="split"):
        check_split("test")
