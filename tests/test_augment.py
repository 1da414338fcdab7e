"""Augmentation of batches against loops over single images and pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.training.augment import Crops, cut_out, draw_centers, resize


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crop(images, padding, top, left):
    crops, plain = Crops(images, padding), torch.zeros(len(images), dtype=torch.bool)
    return crops.cut(crops.at(torch.arange(len(images)), top, left, plain))


def flip(images, chosen):
    crops, zero = Crops(images, 0), torch.zeros(len(images), dtype=torch.int64)
    return crops.cut(crops.at(torch.arange(len(images)), zero, zero, chosen))


def augment(images, padding, generator, flipped=None):
    crops = Crops(images, padding)
    flipped = torch.rand(len(images), generator=generator) < 0.5 if flipped is None else flipped
    return crops.cut(crops.draw(torch.arange(len(images)), flipped, generator))


def crop_one(image, padding, top, left):
    """Window of ``image`` [C, H, W] at (top, left) of its zero-padded self, pixel by pixel."""
    channels, height, width = image.shape
    window = np.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                source_y, source_x = y + top - padding, x + left - padding
                if 0 <= source_y < height and 0 <= source_x < width:
                    window[c, y, x] = image[c, source_y, source_x]
    return window


def flip_one(image):
    """``image`` [C, H, W] with each row's pixels in reverse."""
    return np.array([[list(reversed(row)) for row in plane] for plane in image], dtype=image.dtype)


def numbered(count, side=8):
    """Images in which every pixel differs from every other and from the padding (float32)."""
    return torch.arange(1, count * 3 * side * side + 1, dtype=torch.float32).view(count, 3, side, side)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_is_that_of_single_images(dtype):
    images = torch.randint(1, 256, (12, 3, 8, 8)).to(dtype)
    top, left = torch.randint(5, (2, 12), generator=generator())
    expected = [crop_one(*each) for each in zip(images.numpy(), [2] * 12, top.tolist(), left.tolist(), strict=True)]
    cropped = crop(images, 2, top, left)
    assert cropped.dtype == dtype
    assert np.array_equal(cropped.numpy(), expected)


def test_crop_in_the_middle_changes_nothing():
    images = numbered(3)
    assert torch.equal(crop(images, 4, torch.full((3,), 4), torch.full((3,), 4)), images)


def test_crop_in_a_corner_moves_the_image_by_the_padding():
    image = torch.ones(1, 3, 8, 8)
    window = crop(image, 3, torch.tensor([0]), torch.tensor([6]))[0, 0]
    assert window[3:, :5].eq(1).all()
    assert window.sum() == 25


def test_flip_is_that_of_single_images():
    images, chosen = numbered(4), torch.tensor([True, False, False, True])
    expected = [flip_one(image) if turn else image for image, turn in zip(images.numpy(), chosen, strict=True)]
    assert np.array_equal(flip(images, chosen).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_augment_keeps_shape_and_dtype(dtype):
    images = torch.randint(256, (6, 3, 16, 16)).to(dtype)
    augmented = augment(images, 4, generator())
    assert (augmented.shape, augmented.dtype) == (images.shape, dtype)


def test_augment_gives_a_crop_of_the_image_or_of_the_flipped_image():
    images = numbered(10)
    possible = [(top, left) for top in range(5) for left in range(5)]
    for image, result in zip(images.numpy(), augment(images, 2, generator()).numpy(), strict=True):
        crops = [crop_one(image, 2, *place) for place in possible]
        assert sum(np.array_equal(result, each) for c in crops for each in (c, flip_one(c))) == 1


def test_augment_follows_the_generator():
    images = numbered(50)
    first, again, other = (augment(images, 4, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_augment_does_not_touch_what_it_is_given():
    images = numbered(5)
    before = images.clone()
    augment(images, 4, generator())
    assert torch.equal(images, before)


@pytest.mark.parametrize("side", [True, False])
def test_flip_argument_decides(side):
    images = numbered(6)
    expected = images.flip(3) if side else images
    assert torch.equal(augment(images, 0, generator(), torch.full((6,), side)), expected)


def test_flip_argument_leaves_the_crops_as_they_are():
    images = numbered(6)
    plain = augment(images, 2, generator(), torch.zeros(6, dtype=torch.bool))
    flipped = augment(images, 2, generator(), torch.ones(6, dtype=torch.bool))
    assert torch.equal(flipped, plain.flip(3))


def test_positions_and_sides_are_uniform():
    """A pixel in the middle of each image tells where it went: 5 x 5 positions, each 4,000 times in the mean."""
    count, padding = 100_000, 2
    images = torch.zeros(count, 1, 6, 6, dtype=torch.uint8)
    images[:, 0, 2, 2] = 1  # column 2 goes to 0..4, its flip image to 1..5, so both sides must be told apart
    images[:, 0, 2, 3] = 2
    augmented = augment(images, padding, generator())[:, 0]
    one, two = (augmented.eq(value).flatten(1).int().argmax(1) for value in (1, 2))
    flipped = two < one
    row, column = one // 6, torch.where(flipped, 5 - one % 6, one % 6)
    places = torch.bincount((row * 5 + column) * 2 + flipped, minlength=50)
    assert len(places) == 50
    # Each of 50 outcomes: mean 2,000, standard deviation 44; five of those leave chance no room.
    assert (places - 2000).abs().max() < 5 * 44


def test_crops_of_chosen_images_lie_channels_last():
    images, chosen = numbered(9), torch.tensor([7, 2, 2, 0])
    crops = Crops(images, 1)
    middle, plain = torch.ones(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)
    found = crops.cut(crops.at(chosen, middle, middle, plain))
    assert torch.equal(found, images[chosen])
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_resize_is_torchs_of_single_images():
    images = torch.rand(4, 3, 32, 32)
    for side in (16, 24):
        expected = [
            F.interpolate(image[None], size=side, mode="bilinear", antialias=True, align_corners=False)[0]
            for image in images
        ]
        assert torch.allclose(resize(images, side), torch.stack(expected), atol=1e-6)


def test_resize_by_half_weighs_neighbors_as_a_triangle():
    """With anti-aliasing, bilinear by half weighs the four nearest pixels of a row 1, 3, 3, 1."""
    images = torch.rand(2, 3, 16, 16)
    weights = torch.tensor([1.0, 3, 3, 1]) / 8
    window = images[0, 0, 5:9, 7:11]
    expected = weights @ window @ weights
    assert resize(images, 8)[0, 0, 3, 4] == pytest.approx(expected.item(), abs=1e-6)


def test_resize_to_the_same_size_is_exact():
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(resize(images, 32), images)


def test_cut_out_by_hand():
    images = torch.ones(2, 3, 5, 5, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    blackened = cut_out(images, torch.tensor([[2, 1], [0, 4]]), 2)
    expected = torch.ones(2, 5, 5, dtype=torch.uint8)
    expected[0, 1:3, 0:2] = 0
    expected[1, 0:1, 3:5] = 0  # the row above lies outside
    assert torch.equal(blackened, expected[:, None].expand(-1, 3, -1, -1))
    assert blackened.is_contiguous(memory_format=torch.channels_last)
    assert images.all()


def test_centers_are_uniform_and_follow_the_generator():
    centers = draw_centers(80_000, 4, generator())
    assert torch.equal(centers, draw_centers(80_000, 4, generator()))
    places = torch.bincount(centers[:, 0] * 4 + centers[:, 1], minlength=16)
    assert (places - 5000).abs().max() < 5 * 69  # five standard deviations
