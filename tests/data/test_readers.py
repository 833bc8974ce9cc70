"""The order of examples is a function of the step: layouts, readers, resumes and broken rows do not change it."""

import json
import subprocess
import sys
from itertools import chain

import pytest

from burnish.data.errors import DataError
from burnish.data.layout import DataConfig, SourceConfig
from burnish.data.readers import guess_layout, read_rows, scan_rows
from burnish.data.sources import make_source, reader_chunks

REASONS = {
    "truncated": ("target", "not a whole PNG"),
    "instruction": ("instruction", "printable text"),
    "target size": ("target", "sides 16..8192"),
    "references": ("references", "at most 8"),
    "missing": ("image or target", "they say the size"),
}
FAULTS = tuple(REASONS)


def config(kind, path, action="skip"):
    return DataConfig(sources=(SourceConfig(kind=kind, path=str(path)),), block=4, on_bad_row=action)


def ids(source, readers, steps):
    """Example ids of some steps as that many readers see them, put together in the readers' order."""
    shape = {"num_chunks": 8, "size": 2, "block": 4, "count": source.count("train"), "seed": 0}
    chunks = chain.from_iterable(
        reader_chunks(step, reader=reader, readers=readers, **shape) for step in steps for reader in range(readers)
    )
    return [source.example("train", index).id for chunk in chunks for index in chunk]


def test_twenty_broken_rows_of_a_thousand_are_listed_with_their_reasons(layout, kind, broken):
    scan = scan_rows(kind, broken(layout, 1000))
    assert (scan.num_bad, scan.num_rows, len({p.field.split(":")[0] for p in scan.problems})) == (20, 1000, 20)
    for place, fault in enumerate(FAULTS * 4):
        field, reason = REASONS[fault]
        assert scan.problems[place].field.endswith(f": {field}"), scan.problems[place]
        assert reason in scan.problems[place].allowed


def test_a_run_stops_at_broken_rows_or_leaves_them_out_as_it_was_told(layout, kind, broken):
    with pytest.raises(DataError, match="4 of 200 rows"):
        make_source(config(kind, broken(layout), "stop"))
    for thorough in (True, False):
        source = make_source(config(kind, broken(layout)), thorough=thorough)
        kept = [source.count(split) - len(source.repeats(split)) for split in ("train", "dev", "heldout")]
        assert sum(kept) == 196 and min(kept) > 5


def test_one_two_and_four_readers_see_one_order_also_after_a_resume_in_mid_epoch(layout, kind, broken):
    source, again = (make_source(config(kind, broken(layout))) for _ in range(2))
    steps = source.count("train") // 16
    orders = [ids(source, readers, range(steps)) for readers in (1, 2, 4)]
    assert orders[0] == orders[1] == orders[2] and len(orders[0]) - len(set(orders[0])) <= 3
    half = steps // 2
    assert ids(source, 2, range(half)) + ids(again, 4, range(half, steps)) == orders[0]


def test_every_layout_holds_the_same_rows_in_one_order(broken):
    layouts = {"manifest": "manifest", "parquet": "parquet", "arrow": "parquet", "webdataset": "webdataset"}
    found = {}
    for layout, kind in layouts.items():
        found[layout] = ids(make_source(config(kind, broken(layout))), 2, range(5))
    assert found["manifest"] == found["parquet"] == found["arrow"] == found["webdataset"]


def test_another_process_reads_the_same_order(broken):
    code = (
        "import json, sys; from burnish.data.readers import read_rows;"
        "print(json.dumps([r.id for r in read_rows('webdataset', __import__('pathlib').Path(sys.argv[1]),"
        " on_bad_row='skip')]))"
    )
    path = broken("webdataset")
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == [r.id for r in read_rows("webdataset", path, on_bad_row="skip")]


def test_the_layout_is_guessed_from_the_path(layout, kind, broken):
    assert guess_layout(broken(layout)) == kind
    with pytest.raises(DataError, match="no such file or folder"):
        guess_layout(broken(layout) / "none")
