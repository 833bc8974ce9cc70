"""`POST /v1/refine`: what it makes is what the refiner makes, for every kind of picture and either kind of body."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from burnish.data.errors import DataError
from burnish.data.images import from_uint8, to_uint8
from burnish.data.paste import alpha_uint8
from burnish.data.records import Example, Reference
from burnish.serve.refusal import unavailable


def asked(client, body, status=200):
    reply = client.post("/v1/refine", json=body)
    assert reply.status_code == status, reply.text
    return reply


def planes(picture):
    return from_uint8(np.asarray(picture)).transpose(2, 0, 1).copy()


@pytest.fixture(scope="module")
def mask(kit):
    """A mask of 40 x 32 with two blots, as pixels and as base64."""
    pixels = np.zeros((32, 40), np.uint8)
    pixels[6:14, 5:12] = pixels[12:20, 9:22] = 255
    return pixels, kit.text(kit.encoded(pixels))


def test_a_masked_request_with_four_references_is_the_refiners_picture(kit, material, shared, mask):
    shown = [kit.noise(12, 12, seed=k) for k in range(1, 5)]
    kinds = ("detail", "subject", "style", "lighting")
    references = [{"kind": k, "image": kit.text(kit.encoded(r))} for k, r in zip(kinds, shown, strict=True)]
    fields = {"mask": mask[1], "references": references, "seed": 11, "instruction": "x"}
    reply = asked(shared, {"image": kit.text(kit.encoded(kit.noise())), **fields})
    known = tuple(Reference(k, planes(r)) for k, r in zip(kinds, shown, strict=True))
    example = Example("request", "x", planes(kit.noise()), (mask[0] > 0).astype(np.float32)[None], known)
    wanted = to_uint8(material.refiner("plain").refine(example, seed=11)).transpose(1, 2, 0)
    (image,) = reply.json()["images"]
    np.testing.assert_array_equal(kit.decoded(image["b64"]), wanted)
    assert (kit.decoded(image["b64"]) == kit.noise())[alpha_uint8(example.mask)[0] == 0].all()
    assert reply.headers["x-burnish-exact"] == "true" and reply.json()["exact"] is True


def test_a_jpeg_answer_is_labelled_inexact_and_a_jpeg_input_is_answered_losslessly(kit, shared):
    jpeg = kit.text(kit.encoded(kit.noise(), "JPEG"))
    lossless = asked(shared, kit.body(image=jpeg)).json()
    assert (lossless["images"][0]["mime"], lossless["exact"]) == ("image/png", True)
    reply = asked(shared, kit.body(image=jpeg, output_format="jpeg"))
    assert reply.headers["x-burnish-exact"] == "false"
    assert (reply.json()["images"][0]["mime"], reply.json()["exact"]) == ("image/jpeg", False)


def test_orientation_alpha_and_profile_of_a_picture_are_kept(kit, shared):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    planes4 = np.dstack([kit.noise(), np.arange(32 * 40, dtype=np.uint8).reshape(32, 40)])
    exif = Image.Exif()
    exif[0x0112] = 6
    payload = kit.encoded(planes4, icc_profile=profile, exif=exif)
    reply = asked(shared, kit.body(image=kit.text(payload), box=[2, 2, 9, 9])).json()
    made = Image.open(kit.io.BytesIO(kit.base64.b64decode(reply["images"][0]["b64"])))
    upright = np.rot90(planes4, -1)
    assert (reply["width"], reply["height"]) == made.size == (32, 40)
    assert made.info["icc_profile"] == profile and made.getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(np.asarray(made)[..., 3], upright[..., 3])
    np.testing.assert_array_equal(np.asarray(made)[25:, :, :3], upright[25:, :, :3])


@pytest.mark.parametrize("size", [(16, 16), (256, 16), (17, 101), (333, 200)])
def test_any_size_and_aspect_is_kept_and_a_frame_without_region_is_refined_whole(kit, shared, size):
    image = kit.noise(*size)
    reply = asked(shared, {"image": kit.text(kit.encoded(image, "WEBP", lossless=True))}).json()
    made = kit.decoded(reply["images"][0]["b64"])
    assert made.shape == image.shape and reply["images"][0]["mime"] == "image/webp"
    assert reply["regions"] == [{"box": [0, 0, *size], "crop": [0, 0, *size]}] and (made != image).any()


def test_regions_that_overlap_are_one_and_all_others_stay_their_own(kit, shared):
    boxes = [[4, 4, 30, 30], [20, 20, 40, 44], [120, 90, 150, 110]]
    image = kit.noise(160, 120)
    reply = asked(shared, {"image": kit.text(kit.encoded(image)), "regions": [{"box": b} for b in boxes]}).json()
    assert [r["box"] for r in reply["regions"]] == [[4, 4, 40, 44], boxes[2]]
    moved = (kit.decoded(reply["images"][0]["b64"]) != image).any(axis=-1)
    assert moved[5:29, 5:29].any() and moved[95:105, 125:145].any()
    assert not moved[60:80].any() and not moved[:, 60:100].any()


def test_a_form_and_a_json_body_mean_the_same(kit, shared, mask):
    files = [("image", kit.encoded(kit.noise())), ("mask", kit.encoded(mask[0]))]
    files += [("reference", kit.encoded(kit.noise(seed=k))) for k in (1, 2)]
    data = {"seed": "3", "margin": "6", "margin_frame": "pixels", "reference_kind": ["style", "pose"], "n": "2"}
    form = shared.post("/v1/refine", files=files, data=data).json()
    references = [{"kind": k, "image": kit.text(f[1])} for k, f in zip(("style", "pose"), files[2:], strict=True)]
    fields = {"mask": mask[1], "seed": 3, "margin": 6.0, "margin_frame": "pixels", "n": 2, "references": references}
    body = asked(shared, {"image": kit.text(kit.encoded(kit.noise())), **fields}).json()
    assert form["images"] == body["images"] and form["regions"] == body["regions"]
    assert [image["seed"] for image in body["images"]] == [3, 4]


def events_of(text):
    parts = [part.split("\n") for part in text.split("\n\n") if part and not part.startswith(":")]
    return [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in parts]


def test_a_stream_tells_of_every_step_and_ends_with_the_same_picture(kit, shared):
    regions = [{"box": [2, 2, 8, 8]}, {"box": [30, 22, 38, 30]}]
    body = kit.body(box=None, regions=regions, seed=5)
    told = events_of(asked(shared, {**body, "stream": True}).text)
    assert [name for name, _ in told] == ["accepted", *["progress"] * 4, "done"]
    fractions = [data["fraction"] for name, data in told if name == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert kit.decoded(told[1][1]["preview"]["b64"]).ndim == 3 and told[0][1]["model"] == "tuned@1"
    assert told[-1][1]["images"] == asked(shared, body).json()["images"]


def test_a_stream_says_which_version_answers_in_its_headers(kit, shared):
    whole = asked(shared, kit.body(seed=5)).headers
    stream = asked(shared, kit.body(seed=5, stream=True)).headers
    names = [name for name in whole if name.startswith("x-burnish-")]
    assert len(names) == 5 and [stream[name] for name in names] == [whole[name] for name in names]
    assert stream["x-request-id"] and stream["content-type"].startswith("text/event-stream")


def test_what_a_stream_refuses_before_it_begins_has_its_own_status(kit, serve):
    client = serve()
    asked(client, kit.body(stream=True, model="other"), status=422)
    asked(client, kit.body(stream=True, deadline=time.time() - 5.0), status=408)
    client.door.service.take = refusing
    assert asked(client, kit.body(stream=True), status=503).headers["retry-after"] == "1"


async def refusing(job):
    raise unavailable("no replica is there")


def test_a_piece_that_cannot_be_cut_out_is_no_stream(kit, client, monkeypatch):
    def nothing(*given):
        raise DataError("the policy does not take it")

    monkeypatch.setattr("burnish.serve.work.Focus.cut_out", nothing)
    for route in ({"json": kit.body(stream=True)}, {"json": kit.body()}):
        reply = client.post("/v1/refine", **route)
        assert (reply.status_code, reply.json()["error"]["message"]) == (422, "the policy does not take it")
    files = {"image": kit.encoded(kit.noise())}
    reply = client.post("/v1/images/edits", files=files, data={"prompt": "x", "stream": "true"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid")


def test_without_previews_a_stream_carries_no_picture_on_the_way(kit, shared):
    told = events_of(asked(shared, kit.body(stream=True, previews=False)).text)
    assert [data["preview"] for name, data in told if name == "progress"] == [None, None]


def test_base_and_tuned_are_served_by_name(kit, shared):
    replies = [asked(shared, kit.body(model=name)) for name in ("base", "tuned", "tuned@1")]
    assert [reply.headers["x-burnish-model"] for reply in replies] == ["base@1", "tuned@1", "tuned@1"]
    digests = [reply.headers["x-burnish-digest"] for reply in replies]
    assert digests[0] != digests[1] == digests[2]


def test_sampler_and_steps_of_a_request_take_the_place_of_the_snapshots(kit, shared):
    plain, more, noisy = (
        asked(shared, kit.body(**options)).json() for options in ({}, {"steps": 5}, {"sampler": "flow_sde"})
    )
    assert [reply["steps"] for reply in (plain, more, noisy)] == [2, 5, 2]
    assert len({reply["images"][0]["b64"] for reply in (plain, more, noisy)}) == 3


def test_models_policies_and_the_document_say_what_is_served(kit, shared, material):
    models = shared.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["tuned", "base", "tuned@1", "base@1"]
    tuned, base = shared.get("/v1/policies").json()["policies"]
    assert (tuned["default"], base["default"]) == (True, False)
    assert tuned["versions"][0] | {"since": 0} == {
        "version": 1,
        "digest": material.version("plain").digest,
        "state": "active",
        "share": 1.0,
        "lineage": {"run": "r"},
        "score": None,
        "since": 0,
        "reason": "served from the start",
    }


def test_the_openapi_document_names_every_route_with_bodies_and_examples(shared):
    paths = shared.get("/openapi.json").json()["paths"]
    assert {"/v1/refine", "/v1/images/edits", "/v1/feedback", "/v1/admin/promote", "/v1/policies"} <= set(paths)
    body = paths["/v1/refine"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    assert body["application/json"]["examples"] and "503" in paths["/v1/refine"]["post"]["responses"]


def test_the_openapi_document_says_what_each_body_and_promotion_header_holds(shared):
    paths = shared.get("/openapi.json").json()["paths"]
    bodies = {path: methods["post"]["requestBody"]["content"] for path, methods in paths.items() if "post" in methods}
    assert len(bodies) == 6 and all(part["schema"] for content in bodies.values() for part in content.values())
    for path, field in {"feedback": "verdict", "admin/rollback": "reason", "admin/canary": "share"}.items():
        assert field in bodies[f"/v1/{path}"]["application/json"]["schema"]["properties"]
    assert bodies["/v1/admin/promote"]["application/octet-stream"]["schema"]["format"] == "binary"
    headers = {header["name"]: header["schema"] for header in paths["/v1/admin/promote"]["post"]["parameters"]}
    assert "canary" in headers["x-burnish-options"]["contentSchema"]["properties"]


def test_metrics_count_requests_by_status_and_version(kit, client):
    asked(client, kit.body())
    asked(client, kit.body(seed=-1), status=422)
    text = client.get("/metrics").text
    assert 'burnish_requests_total{route="/v1/refine",status="200"} 1.0' in text
    assert 'burnish_requests_total{route="/v1/refine",status="422"} 1.0' in text
    assert 'burnish_version_share{policy="tuned",version="1"} 1.0' in text


def test_the_log_has_a_line_a_request_with_id_version_and_seed(kit, client, directory, material):
    reply = client.post("/v1/refine", json=kit.body(seed=4), headers={"x-request-id": "mine-1"})
    assert reply.headers["x-request-id"] == reply.json()["id"] == "mine-1"
    (line,) = [json.loads(text) for text in (directory / "requests.jsonl").read_text().splitlines()]
    wanted = {"request_id": "mine-1", "route": "/v1/refine", "status": 200, "policy": "tuned", "version": 1, "seed": 4}
    assert wanted.items() <= line.items() and line["digest"] == material.version("plain").digest


def test_the_target_of_an_example_never_reaches_the_policy(kit, material):
    one = kit.examples(material, 1)[0]
    refiner = material.refiner("plain")
    np.testing.assert_array_equal(refiner.refine(one), refiner.refine(replace(one, target=one.image)))
