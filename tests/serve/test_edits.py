"""The public `openai` client against `POST /v1/images/edits`: what it sends, what it gets."""

import numpy as np
import openai
import pytest

from burnish.data.paste import alpha_uint8


@pytest.fixture(scope="module")
def ai(shared):
    return openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="none", http_client=shared, max_retries=0)


@pytest.fixture(scope="module")
def scene(kit):
    return kit.photo("flower")


@pytest.fixture(scope="module")
def region(scene):
    """[1,H,W] of the photograph, 1 = edit."""
    mask = np.zeros((1, scene.height, scene.width), np.float32)
    mask[:, 120:200, 300:420] = 1
    mask[:, 150:230, 250:330] = 1
    return mask


@pytest.fixture(scope="module")
def transparent(kit, region):
    """That region as OpenAI's clients send it: a PNG whose transparent pixels are to be edited."""
    planes = np.zeros((*region.shape[1:], 4), np.uint8)
    planes[..., 3] = np.where(region[0] > 0, 0, 255)
    return kit.encoded(planes)


def edit(ai, image, **options):
    return ai.images.with_raw_response.edit(image=image, prompt="restore the petals", **options)


def test_a_photograph_keeps_its_size_and_every_pixel_outside_the_blended_mask(kit, ai, scene, region, transparent):
    reply = edit(ai, ("flower.png", kit.encoded(scene)), mask=("mask.png", transparent), extra_body={"seed": 7})
    (entry,) = reply.parse().data
    made, before = kit.decoded(entry.b64_json), np.asarray(scene)
    outside = alpha_uint8(region)[0] == 0
    assert made.shape == before.shape and (made[outside] == before[outside]).all()
    assert (made[region[0] > 0] != before[region[0] > 0]).any()
    assert reply.headers["x-burnish-model"] == "tuned@1" and reply.headers["x-burnish-version"] == "1"
    assert len(reply.headers["x-burnish-digest"]) == 64 and reply.headers["x-burnish-exact"] == "true"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(kit, ai, scene, transparent):
    image, mask = ("flower.png", kit.encoded(scene)), ("mask.png", transparent)
    one, two, other = (edit(ai, image, mask=mask, extra_body={"seed": s}).parse().data[0].b64_json for s in (7, 7, 8))
    assert one == two != other


def test_a_list_of_images_is_a_picture_and_its_references(kit, ai):
    image = ("a.png", kit.encoded(kit.noise()))
    plain, shown = (
        edit(ai, images).parse().data[0].b64_json
        for images in ([image], [image, ("b.png", kit.encoded(kit.noise(seed=1)))])
    )
    assert plain != shown


def test_options_of_the_call_are_honoured(kit, ai):
    reply = edit(
        ai, ("a.png", kit.encoded(kit.noise())), n=2, size="40x32", response_format="url", output_format="webp"
    )
    found = reply.parse()
    assert (found.output_format, found.size, len(found.data)) == ("webp", "40x32", 2)
    first, second = (kit.decoded(entry.url.removeprefix("data:image/webp;base64,")) for entry in found.data)
    assert first.shape == (32, 40, 3) and (first != second).any()


def test_a_stream_shows_partial_images_and_ends_with_the_picture(kit, ai):
    image = ("a.png", kit.encoded(kit.noise()))
    events = list(ai.images.edit(image=image, prompt="x", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    whole = ai.images.edit(image=image, prompt="x").data[0].b64_json
    assert events[-1].b64_json == whole and events[-1].size == "40x32"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"size": "256x256"}, "size"),
        ({"n": 9}, "n"),
        ({"model": "other"}, "model"),
        ({"response_format": "file"}, "response_format"),
        ({"extra_body": {"seed": "x"}}, "seed"),
        ({"extra_body": {"partial_images": 7}}, "partial_images"),
        ({"extra_body": {"colour": "red"}}, "colour"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_field(kit, ai, options, field):
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        edit(ai, ("a.png", kit.encoded(kit.noise())), **options)
    assert refused.value.param == field and refused.value.code == "invalid"
    assert refused.value.request_id and refused.value.body["problems"][0]["allowed"]


def test_a_mask_without_alpha_is_refused(kit, ai):
    with pytest.raises(openai.UnprocessableEntityError, match="refused") as refused:
        edit(ai, ("a.png", kit.encoded(kit.noise())), mask=("m.png", kit.encoded(kit.noise())))
    assert refused.value.param == "mask"
