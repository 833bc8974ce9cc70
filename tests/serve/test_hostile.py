"""Requests that mean harm: refused by status, code and field, before a pixel is decoded, and the server goes on."""

import importlib.util
import resource
import socket
import time
from pathlib import Path

import pytest

from burnish.serve.hints import CODES

_spec = importlib.util.spec_from_file_location("serve_hostile", Path(__file__).parent / "hostile.py")
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)
PICTURES = hostile.pictures()


def refused(reply, status, field=None):
    """Status, a known code, a whole error body; each problem says what is allowed and what to do."""
    assert reply.status_code == status, reply.text[:300]
    error = reply.json()["error"]
    assert error["code"] in CODES and all(p["hint"] for p in error["problems"])
    assert error["message"] and error["request_id"] == reply.headers["x-request-id"]
    if field is not None:
        (found,) = [p for p in error["problems"] if p["field"] == field] or [error["problems"]]
        assert found["allowed"], error
    return error


def test_there_are_25_pictures_40_names_and_30_addresses():
    assert (len(PICTURES), len(set(hostile.NAMES)), len(set(hostile.URLS))) == (25, 40, 30)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("part", ["image", "mask", "reference"])
def test_a_hostile_picture_is_refused_in_any_place(kit, shared, name, part):
    bad = kit.text(PICTURES[name])
    places = {"image": {"image": bad}, "mask": {"box": None, "mask": bad}}
    places["reference"] = {"references": [{"kind": "detail", "image": bad}]}
    if part == "reference" and name == "side of 8":
        return  # a reference may be small
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    error = refused(shared.post("/v1/refine", json=kit.body(**places[part])), 422)
    assert time.process_time() - began < 0.5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 64 << 10
    assert error["param"].startswith(part)


@pytest.mark.parametrize("url", hostile.URLS)
def test_an_address_in_place_of_a_picture_is_refused_and_nobody_is_asked(kit, shared, monkeypatch, url):
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: asked.append(arguments) or [])
    references = [{"kind": "detail", "image": url}]
    for places in ({"image": url}, {"box": None, "mask": url}, {"references": references}):
        refused(shared.post("/v1/refine", json=kit.body(**places)), 422)
    assert asked == []


def test_the_server_answers_after_all_of_them(kit, shared):
    assert shared.post("/v1/refine", json=kit.body()).status_code == 200


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_hostile_name_is_refused(kit, shared, name):
    refused(shared.post("/v1/refine", json=kit.body(model=name)), 422, "model")
    files = {"image": kit.encoded(kit.noise())}
    refused(shared.post("/v1/images/edits", files=files, data={"prompt": "x", "model": name}), 422, "model")


FIELDS = [
    ({"seed": -1}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"seed": True}, "seed"),
    ({"seed": 1.0}, "seed"),
    ({"seed": "1"}, "seed"),
    ({"n": 5}, "n"),
    ({"n": 0}, "n"),
    ({"steps": 0}, "steps"),
    ({"steps": 101}, "steps"),
    ({"sampler": "euler"}, "sampler"),
    ({"margin": -1.0}, "margin"),
    ({"instruction": "x" * 2001}, "instruction"),
    ({"instruction": "a\x00b"}, "instruction"),
    ({"instruction": 3}, "instruction"),
    ({"output_format": "gif"}, "output_format"),
    ({"colour": "red"}, "colour"),
    ({"box": [0, 0, 0, 4]}, "box"),
    ({"box": [5, 0, 4, 4]}, "box"),
    ({"box": [0, 0, 41, 4]}, "box"),
    ({"box": [-1, 0, 4, 4]}, "box"),
    ({"box": [0, 0, 4]}, "box"),
    ({"box": [0, 0, 4, 4.5]}, "box.3"),
    ({"box": None, "regions": [{"box": [0, 0, 4, 4]}] * 17}, "regions"),
    ({"box": None, "regions": []}, "regions"),
    ({"box": None, "regions": [{}]}, "regions.0"),
    ({"regions": [{"box": [0, 0, 4, 4]}]}, "mask, box, regions"),
    ({"image": "http://127.0.0.1/a.png"}, "image"),
    ({"image": "file:///etc/passwd"}, "image"),
    ({"image": "data:text/html;base64,PGI+"}, "image"),
    ({"image": "data:image/png,abc"}, "image"),
    ({"image": "???"}, "image"),
    ({"image": ""}, "image"),
    ({"steps": 100, "n": 4, "box": None, "regions": [{"box": [0, 0, 4, 4]}] * 3}, "n, steps, regions"),
]


@pytest.mark.parametrize(("fields", "name"), FIELDS)
def test_a_field_outside_its_limits_is_refused_by_name(kit, shared, fields, name):
    refused(shared.post("/v1/refine", json=kit.body(**fields)), 422, name)


def test_all_that_is_wrong_is_said_at_once(kit, shared):
    error = refused(shared.post("/v1/refine", json=kit.body(seed=-1, n=9, steps=0, colour=1)), 422)
    assert {p["field"] for p in error["problems"]} == {"seed", "n", "steps", "colour"}


def test_masks_that_do_not_fit_or_are_empty_are_refused(kit, shared):
    for pixels in (kit.noise(41, 32), kit.noise() * 0):
        refused(shared.post("/v1/refine", json=kit.body(box=None, mask=kit.text(kit.encoded(pixels)))), 422, "mask")


def test_nine_references_or_an_unknown_kind_are_refused(kit, shared):
    one = kit.text(kit.encoded(kit.noise(12, 12)))
    nine = [{"kind": "detail", "image": one}] * 9
    refused(shared.post("/v1/refine", json=kit.body(references=nine)), 422, "references")
    odd = [{"kind": "taste", "image": one}]
    refused(shared.post("/v1/refine", json=kit.body(references=odd)), 422, "references.0.kind")


BODIES = [
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b'{"seed": 1, "seed": 2}', 400),
    (b'{"margin": NaN}', 400),
    (b'{"margin": Infinity}', 400),
    (b'{"margin": 1e999}', 400),
    (b'{"seed": ' + b"9" * 6000 + b"}", 400),
    (b"[" * 17 + b"]" * 17, 400),
    (b"[" * 100_000, 400),
    (b"[]", 422),
    (b"null", 422),
]


@pytest.mark.parametrize(("body", "status"), BODIES)
def test_a_body_that_is_no_plain_json_object_is_refused(shared, body, status):
    refused(shared.post("/v1/refine", content=body, headers={"content-type": "application/json"}), status)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream", ""])
def test_another_content_type_is_refused(shared, kind):
    refused(shared.post("/v1/refine", content=b"{}", headers={"content-type": kind}), 415, "Content-Type")


FORMS = [b"--b\r\n", b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n\xff\r\n--b--\r\n', b"garbage", b""]


@pytest.mark.parametrize("body", FORMS)
def test_a_form_that_is_none_is_refused(shared, body):
    reply = shared.post("/v1/refine", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert reply.status_code in (400, 422), reply.text
    refused(shared.post("/v1/refine", content=body, headers={"content-type": "multipart/form-data"}), 400)


def test_a_form_with_unknown_or_repeated_fields_is_refused(kit, shared):
    files = [("image", kit.encoded(kit.noise())), ("image", kit.encoded(kit.noise())), ("photo", b"x")]
    error = refused(shared.post("/v1/refine", files=files, data={"sed": "1"}), 422)
    assert {p["field"] for p in error["problems"]} == {"image", "photo", "sed"}


def test_feedback_on_anything_but_a_late_request_is_refused(serve, kit, tmp_path):
    client = serve(feedback=str(tmp_path / "feedback"))
    for name in ("../../etc", "a/b", "", "x" * 65):
        refused(client.post("/v1/feedback", json={"request_id": name, "verdict": "better"}), 422, "request_id")
    refused(client.post("/v1/feedback", json={"request_id": "unknown", "verdict": "better"}), 404)
    assert not list((tmp_path / "feedback").iterdir())
