"""What is removed from a server's directory, what stays, and a disk that is full."""

import errno
import time

import pytest

from burnish.serve.leftovers import sweep_uploads, sweep_versions


def folder(place):
    place.mkdir(parents=True)
    (place / "file").write_text("x")
    return place


def test_only_what_is_not_needed_goes_and_a_runs_own_file_stays(tmp_path):
    own, link = folder(tmp_path / "run") / "file", tmp_path / "server" / "versions" / "old" / "linked"
    folder(link.parent)
    link.hardlink_to(own)
    kept = folder(tmp_path / "server" / "versions" / "kept")
    folder(tmp_path / "server" / "versions" / ".tmp-new")
    assert sweep_versions(tmp_path / "server", needed={"kept"}) == [".tmp-new", "old"]
    assert (kept / "file").exists() and own.read_text() == "x"
    assert sweep_versions(tmp_path / "none", needed=set()) == sweep_uploads(tmp_path / "none") == []


def test_a_server_that_starts_sweeps_what_a_crash_left(kit, serve, directory):
    left = [directory / ".upload-1", directory / "versions" / ".tmp-2", directory / "versions" / "tuned-000009-ab"]
    for place in left:
        folder(place)
    assert kit.version_of(serve()) == "tuned@1"
    assert not any(place.exists() for place in left)


def test_a_version_given_up_is_removed_when_no_request_can_be_in_work_with_it(kit, client, promote, admin, directory):
    assert promote("good").status_code == 200
    promoter = client.door.service.promoter
    assert len(list((directory / "versions").iterdir())) == 1
    promoter._config = promoter._config.model_copy(update={"max_seconds": 0.0})
    admin("rollback")
    end = time.monotonic() + 30.0
    while list((directory / "versions").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert kit.version_of(client) == "tuned@1"


def full(*given, **more):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("part", ["upload", "version", "state"])
def test_a_full_disk_refuses_a_promotion_with_its_reason(kit, client, promote, directory, monkeypatch, part):
    client.get("/readyz")
    if part == "state":
        client.door.service.store.write = full
    else:
        monkeypatch.setattr({"upload": "tempfile.mkdtemp", "version": "burnish.serve.promotion.lay_down"}[part], full)
    reply = promote("good")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (507, "not_stored", "directory")
    assert "No space left on device" in error["message"]
    assert kit.version_of(client) == "tuned@1" and set(kit.standings(client)) == {1}
    assert not list(directory.glob("versions/*")) and not list(directory.glob(".upload-*"))


@pytest.mark.parametrize(
    ("route", "asked"), [("rollback", {}), ("canary", {"accept": True}), ("canary", {"share": 0.9})]
)
def test_a_full_disk_changes_no_canary(kit, client, promote, admin, route, asked):
    promote("good", canary=0.25)
    client.door.service.store.write = full
    reply = admin(route, **asked)
    assert (reply.status_code, reply.json()["error"]["code"]) == (507, "not_stored")
    assert kit.standings(client)[2]["state"] == "canary" and kit.standings(client)[2]["share"] == 0.25
    del client.door.service.store.write
    assert admin(route, **asked).status_code == 200


def test_an_event_that_cannot_be_written_undoes_no_promotion(kit, client, promote):
    client.get("/readyz")
    client.door.service.store.event = full
    assert promote("good").status_code == 200 and kit.version_of(client) == "tuned@2"
