import math
import os
import tracemalloc

import pytest

from burnish.data.errors import CheckpointError, InfrastructureError
from burnish.platform.journal import Journal, MetricsLog


def test_entries_after_an_offset_come_back_in_order(tmp_path):
    journal = Journal(tmp_path / "deep" / "journal.jsonl")
    first = journal.append({"i": 1})
    journal.append({"i": 2, "text": "é\n"})
    assert journal.tail() == [{"i": 1}, {"i": 2, "text": "é\n"}]
    assert journal.tail(first) == [{"i": 2, "text": "é\n"}]
    assert journal.offset == os.path.getsize(journal.path)


@pytest.mark.parametrize("torn", [b'{"i":', b"{", b'{"i":3}', b"\xff" * 70000])
def test_a_torn_last_line_does_not_count_and_is_cut_off_by_the_next_append(tmp_path, torn):
    path = tmp_path / "j"
    whole = Journal(path).append({"i": 1})
    path.write_bytes(path.read_bytes() + torn)
    journal = Journal(path)
    assert (journal.offset, journal.tail()) == (whole, [{"i": 1}])
    journal.append({"i": 2})
    assert journal.tail() == [{"i": 1}, {"i": 2}]


def test_truncate_goes_back_to_a_commit_and_appending_goes_on(tmp_path):
    with Journal(tmp_path / "j") as journal:
        first = journal.append({"i": 1})
        journal.append({"i": 2})
        journal.truncate(first)
        journal.append({"i": 3})
        assert journal.tail() == [{"i": 1}, {"i": 3}]


@pytest.mark.parametrize("offset", [-1, 1, 9999])
def test_an_offset_that_fits_no_line_is_refused(tmp_path, offset):
    journal = Journal(tmp_path / "j")
    journal.append({"i": 1})
    with pytest.raises(CheckpointError, match="offset"):
        journal.tail(offset)
    with pytest.raises(CheckpointError):
        journal.truncate(offset)


def test_a_tail_reads_nothing_of_what_is_before_it(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"")
    os.truncate(path, gigabyte := 1 << 30)  # a hole: it takes no disk, and reading it a gigabyte
    with path.open("ab") as stream:
        stream.write(b"\n")
    Journal(path).append({"i": 1})
    tracemalloc.start()
    assert Journal(path).tail(gigabyte + 1) == [{"i": 1}]
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "j").write_bytes(b'{"i":1}\nrubbish\n{"i":3}\n')
    with pytest.raises(CheckpointError, match="line 2"):
        Journal(tmp_path / "j").tail()


def test_a_missing_file_is_an_empty_journal(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.truncate(0)
    assert (journal.offset, journal.tail()) == (0, [])


def test_what_is_not_finite_is_refused_by_a_journal_and_null_in_metrics(tmp_path):
    with pytest.raises(ValueError):
        Journal(tmp_path / "j").append({"x": math.nan})
    log = MetricsLog(tmp_path / "m")
    log.log("grpo", 1, {"loss": 0.5, "kl": math.inf})
    assert log.tail() == [{"stage": "grpo", "step": 1, "loss": 0.5, "kl": None}]


def test_a_place_that_cannot_be_written_is_an_infrastructure_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InfrastructureError):
        Journal(tmp_path / "file" / "j").append({"i": 1})


def test_what_is_kept_of_a_tail_stays_or_the_tail_does(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j")
    first = journal.append({"i": 1})
    for number in (2, 3):
        journal.append({"i": number})
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(KeyboardInterrupt))
        journal.truncate(first, [{"i": 3}])
    assert journal.tail() == [{"i": 1}, {"i": 2}, {"i": 3}]
    journal.truncate(first, [{"i": 3}])
    journal.append({"i": 4})
    assert journal.tail() == [{"i": 1}, {"i": 3}, {"i": 4}]
