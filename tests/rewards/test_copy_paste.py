from dataclasses import replace

import numpy as np
import pytest

from burnish.data.records import Example, Reference
from burnish.data.seeding import generator
from burnish.rewards.copy_paste import CopyPaste, CopyPasteOptions, best_match, fitted


def noise(name, *shape):
    return generator(0, "copy-paste-test", name).random(shape, dtype=np.float32)


@pytest.fixture
def reward():
    return CopyPaste(CopyPasteOptions())


@pytest.fixture
def other_view(example):
    """The example with a detail reference that its target does not show as it is."""
    return replace(example, references=(Reference("detail", noise("view", 3, 12, 12)),))


def paste(example, content, *, x=4, y=8):
    image = example.target.copy()
    image[:, y : y + content.shape[1], x : x + content.shape[2]] = content
    return image


def direct_match(first, second, overlap):
    """`best_match`, shift by shift."""
    (h, w), (k, n), found = first.shape, second.shape, []
    for dy in range(-k + 1, h):
        for dx in range(-n + 1, w):
            a = first[max(dy, 0) : dy + k, max(dx, 0) : dx + n]
            b = second[max(-dy, 0) : h - dy, max(-dx, 0) : w - dx]
            if a.size >= overlap * min(first.size, second.size) and a.size > 1:
                found.append(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    return max(found)


@pytest.mark.parametrize(("shape", "overlap"), [((9, 7), 0.5), ((5, 8), 0.9), ((12, 4), 0.2)])
def test_the_best_match_is_the_best_correlation_over_all_shifts(shape, overlap):
    first, second = noise("a", 8, 9), noise("b", *shape)
    found = best_match(first, second, overlap=overlap)
    assert found == pytest.approx(direct_match(first, second, overlap), abs=1e-9)


def test_a_shifted_cut_and_a_change_of_light_match_fully():
    scene = noise("scene", 20, 20)
    assert best_match(scene, scene[3:12, 5:14] * 0.5 + 0.2) == pytest.approx(1, abs=1e-6)
    assert best_match(scene[:14], scene[4:]) == pytest.approx(1, abs=1e-6)


def test_an_image_without_a_pattern_matches_nothing():
    flat = np.full((8, 8), 0.3)
    assert best_match(flat, noise("a", 8, 8)) == best_match(flat, flat) == best_match(flat[:1, :1], flat[:1, :1]) == 0


def test_references_keep_their_aspect_and_are_never_too_thin():
    assert fitted(50, 100, inside=(24, 24)) == (12, 24) and fitted(10, 400, inside=(24, 24)) == (4, 24)


def test_the_target_scores_0_and_a_pasted_reference_far_below(reward, other_view, outputs):
    pasted = paste(other_view, other_view.references[0].image)
    scores = reward.score(np.stack([other_view.target, pasted, outputs[3]]), [other_view] * 3)
    assert scores.dtype == np.float32 and scores[0] == 0 and -2 <= scores[1] < -0.5
    assert -0.2 < scores[2] <= 0


def test_a_paste_is_found_where_it_is_shifted_relit_or_of_another_size(reward, other_view):
    reference = other_view.references[0].image
    shifted = paste(other_view, reference[:, 2:, 3:])
    relit = paste(other_view, reference * np.float32(0.5) + np.float32(0.2))
    doubled = replace(other_view, references=(Reference("detail", reference.repeat(2, axis=1).repeat(2, axis=2)),))
    scores = reward.score(np.stack([shifted, relit, paste(other_view, reference)]), [*[other_view] * 2, doubled])
    assert (scores < -0.4).all()


def test_a_reference_that_is_the_target_itself_may_be_copied(reward, example, outputs):
    assert example.references[0].kind == "detail"
    scores = reward.score(outputs, [example] * 16)
    assert scores == pytest.approx(0, abs=1e-6)


def test_the_worst_reference_of_kind_detail_or_subject_counts(reward, other_view):
    pasted, (detail,) = noise("subject", 3, 12, 12), other_view.references
    image = paste(other_view, pasted)[None]

    def score(*references):
        return reward.score(image, [replace(other_view, references=references)])[0]

    subject = Reference("subject", pasted)
    assert score(detail, subject) == score(subject, detail) == score(subject) < score(detail)
    assert score(detail, Reference("style", pasted)) == score(detail)


def test_it_is_missing_without_target_reference_region_or_finite_pixels(reward, other_view, outputs):
    style = (Reference("style", noise("style", 3, 12, 12)),)
    changes = [{"target": None}, {"references": ()}, {"references": style}, {"mask": np.zeros_like(other_view.mask)}]
    cases = [replace(other_view, **change) for change in changes]
    images = np.concatenate([outputs[:4], np.full_like(outputs[:1], np.nan), outputs[:1]])
    assert np.isnan(reward.score(images, [*cases, other_view, other_view])).tolist() == [True] * 5 + [False]


def test_regions_of_one_pixel_whole_frames_and_images_of_one_pixel(reward, other_view, outputs):
    mask = np.zeros_like(other_view.mask)
    mask[0, 0, 0] = 1
    for changed in (mask, None):
        assert reward.score(outputs[:1], [replace(other_view, mask=changed)])[0] == 0
    dot = Example("dot", "", None, None, other_view.references, np.zeros((3, 1, 1), np.float32))
    assert np.isnan(reward.score(np.zeros((1, 3, 1, 1), np.float32), [dot])).all()


def test_a_large_region_is_shrunk_and_a_row_depends_on_no_other(other_view, outputs):
    reward = CopyPaste(CopyPasteOptions(side=8))
    rows = np.stack([*outputs[:3], paste(other_view, other_view.references[0].image)])
    scores = reward.score(rows, [other_view] * 4)
    assert scores[3:].tobytes() == reward.score(rows[3:], [other_view]).tobytes() and scores[3] < -0.3
