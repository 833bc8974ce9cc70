"""How much one request may hold: refused by counts and headers, in a worker's thread, before a picture is decoded."""

import json
import threading

import pytest

from burnish.serve import intake, routes, routes_admin
from burnish.serve.refusal import MAX_PROBLEMS, Refusal, invalid
from burnish.serve.schema import MAX_KEYS, RefineRequest

ODD = {f"k{k}": 1 for k in range(MAX_KEYS + 1)}


def refused(client, body, status=422):
    reply = client.post("/v1/refine", json=body)
    assert reply.status_code == status and len(reply.content) < 10_000
    return reply.json()["error"]["problems"]


def test_a_mapping_of_many_fields_is_one_problem_at_any_depth(kit, shared):
    (top,) = refused(shared, kit.body(**ODD))
    assert (top["field"], top["got"], top["allowed"]) == ("body", f"{MAX_KEYS + 3} fields", f"at most {MAX_KEYS}")
    (nested,) = refused(shared, kit.body(box=None, regions=[{}, ODD]))
    assert (nested["field"], nested["got"]) == ("regions.1", f"{MAX_KEYS + 1} fields")


def test_a_body_of_very_many_fields_is_answered_shortly(shared):
    body = json.dumps({str(k): 1 for k in range(100_000)})
    reply = shared.post("/v1/refine", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400 and len(reply.content) < 1000


def test_of_many_problems_the_first_are_named_and_the_others_counted(kit, shared):
    found = refused(shared, kit.body(**dict(list(ODD.items())[:40])))
    assert len(found) == MAX_PROBLEMS + 1 and found[-1]["got"] == f"{40 - MAX_PROBLEMS} more"
    with pytest.raises(Refusal):
        intake.checked(RefineRequest, None)
    assert len(invalid(*[intake.Problem("a", "b", "c")] * MAX_PROBLEMS).problems) == MAX_PROBLEMS


def test_long_names_and_values_are_cut(kit, shared):
    (name,) = refused(shared, kit.body(**{"n" * 1_000_000: 1}))
    (value,) = refused(shared, kit.body(seed="9" * 1_000_000))
    assert name["field"] == "n" * 80 and len(value["got"]) == 80


def test_a_box_of_a_million_numbers_is_one_problem(kit, shared):
    (found,) = refused(shared, kit.body(box=[1] * 1_000_000))
    assert found["field"] == "box" and "4" in found["allowed"]


def test_bodies_are_read_in_a_workers_thread(kit, serve, tmp_path, monkeypatch):
    client, where = serve(feedback=str(tmp_path / "feedback")), []

    def noting(function):
        return lambda *given: (where.append(threading.current_thread().name.split("_")[0]), function(*given))[1]

    for module, name in ((routes, "parse"), (routes, "json_upload"), (routes_admin, "parse"), (routes, "form_upload")):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    client.post("/v1/refine", json=kit.body(seed=-1))
    client.post("/v1/refine", files={"photo": b""})
    client.post("/v1/feedback", json={})
    for path in ("rollback", "canary"):
        client.post(f"/v1/admin/{path}", json={"x": 1}, headers=kit.bearer(client.door))
    assert where == ["pixels"] * 6


def test_feedback_that_is_off_is_said_before_a_body_is_read(shared):
    reply = shared.post("/v1/feedback", content=b"{", headers={"content-type": "application/json"})
    assert reply.status_code == 404


def decodes(monkeypatch):
    """What is decoded from now on."""
    found = []
    for name in ("read_picture", "read_mask", "decode_image"):
        monkeypatch.setattr(intake, name, lambda *given, name, **more: found.append(name))
    return found


def form_error(client, files, **data):
    reply = client.post("/v1/refine", files=files, data=data)
    assert reply.status_code == 422
    return {p["field"]: (p["got"], p["allowed"]) for p in reply.json()["error"]["problems"]}


def test_counts_of_a_form_are_refused_before_anything_is_decoded(kit, shared, monkeypatch):
    one, found = kit.encoded(kit.noise()), decodes(monkeypatch)
    files = [("image", one), *[("mask", one)] * 17, *[("reference", one)] * 9]
    assert form_error(shared, files) == {"references": ("9", "at most 8"), "regions": ("17", "at most 16")}
    assert form_error(shared, [("image", one), *[("mask", one)] * 9], n="4", steps="100") == {
        "n, steps, regions": ("3600 forward passes", "at most 800")
    }
    assert found == []


def test_pixels_of_all_pictures_together_are_refused_by_their_headers(kit, serve, monkeypatch):
    client, found, one = serve(input_pixels=4 * 32 * 40), decodes(monkeypatch), kit.encoded(kit.noise())
    error = form_error(client, [("image", one), *[("mask", one)] * 2, *[("reference", one)] * 2])
    assert error == {"image, masks, references": ("6400 pixels", "at most 5120 pixels together")} and found == []


def test_samples_together_are_refused_by_the_images_header(kit, shared, monkeypatch):
    found, wide = decodes(monkeypatch), kit.encoded(kit.Image.new("L", (4000, 4000)))
    assert form_error(shared, {"image": wide}, n="4") == {
        "n": ("4 x 16000000 pixels", f"at most {2 << 24} pixels together")
    }
    assert found == []


def test_an_image_eight_references_and_sixteen_masks_of_ordinary_sizes_are_let_in(kit):
    flat, mask = (kit.encoded(kit.Image.new("L", (1536, 1536), grey)) for grey in (0, 255))
    shown = tuple((f"reference.{k}", "detail", flat) for k in range(8))
    masks = tuple((f"mask.{k}", mask) for k in range(16))
    upload = intake.Upload(RefineRequest(image="x"), flat, masks, (), shown)
    assert not [*intake._too_many(upload), *intake._too_large(upload, intake.MAX_INPUT)]
