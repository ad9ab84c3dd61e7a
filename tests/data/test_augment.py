from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed

from cytoforge.core.batch import to_float
from cytoforge.core.errors import ConfigError
from cytoforge.data.augment import POLICIES, augment, augment_masks, parse_policy, rgb_to_hed

SEEDS = np.arange(100, 112)


def pictures(count: int = len(SEEDS), side: int = 16) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return to_float(rng.integers(20, 236, (count, side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("policy", [*POLICIES, ",".join(POLICIES)])
class TestEveryPolicy:
    def test_changes_images_and_keeps_their_form(self, policy: str) -> None:
        images = pictures()
        result = augment(images, policy, SEEDS)
        assert result.shape == images.shape
        assert result.dtype == torch.float32
        assert result.is_contiguous(memory_format=torch.channels_last)
        assert not torch.equal(result, images)

    def test_an_image_is_the_same_in_any_batch(self, policy: str) -> None:
        images = pictures()
        whole = augment(images, policy, SEEDS)
        order = np.random.default_rng(1).permutation(len(SEEDS))[:5]
        some = augment(images[order], policy, SEEDS[order])
        alone = torch.cat([augment(images[i : i + 1], policy, SEEDS[i : i + 1]) for i in order])
        torch.testing.assert_close(some, whole[order], rtol=0, atol=2e-6)
        torch.testing.assert_close(alone, whole[order], rtol=0, atol=2e-6)

    def test_seed_and_stream_decide(self, policy: str) -> None:
        images = pictures()
        assert torch.equal(augment(images, policy, SEEDS), augment(images, policy, torch.from_numpy(SEEDS)))
        assert not torch.equal(augment(images, policy, SEEDS), augment(images, policy, SEEDS + 1000))
        assert not torch.equal(augment(images, policy, SEEDS), augment(images, policy, SEEDS, "other"))

    def test_strength_zero_is_the_identity(self, policy: str) -> None:
        images = pictures()
        assert augment(images, policy, SEEDS, strength=0) is images
        nearly = augment(images, policy, SEEDS, strength=1e-9)
        torch.testing.assert_close(nearly, images, rtol=0, atol=1e-5)

    def test_gradient_is_finite_and_right(self, policy: str) -> None:
        images = pictures(3, 8).clone().requires_grad_()
        result = augment(images, policy, SEEDS[:3])
        direction = torch.from_numpy(np.random.default_rng(2).normal(size=result.shape)).float()
        (gradient,) = torch.autograd.grad((result * direction).sum(), images)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
        step = 1e-2 * torch.from_numpy(np.random.default_rng(3).normal(size=result.shape)).float()
        with torch.no_grad():
            ends = [augment(images + sign * step, policy, SEEDS[:3]) for sign in (1, -1)]
            slope = ((ends[0] - ends[1]) * direction).sum() / 2
        assert slope.item() == pytest.approx((gradient * step).sum().item(), rel=2e-2, abs=2e-3)

    def test_empty_and_full_range(self, policy: str) -> None:
        extremes = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 8, 8)
        result = augment(extremes, policy, SEEDS[:2])
        assert result.isfinite().all()
        bound = 3.5 if "color" in policy or "noise" in policy else 1.0
        assert result.abs().max() <= bound + 1e-5


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "tilt"])
def test_penalties_can_be_differentiated_through_it(policy: str) -> None:
    images = pictures(2, 8).clone().requires_grad_()
    score = augment(images, policy, SEEDS[:2]).pow(3).sum()
    (gradient,) = torch.autograd.grad(score, images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.pow(2).sum(), images)
    assert second.isfinite().all()
    assert second.abs().sum() > 0


def test_flip_gives_the_four_mirrorings_equally_often() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).div(4).expand(1, 3, 2, 2)
    count = 400
    result = augment(image.repeat(count, 1, 1, 1), "flip", np.arange(count))
    found: dict[tuple[float, ...], int] = {}
    for one in result[:, 0].mul(4).reshape(count, 4).tolist():
        found[tuple(one)] = found.get(tuple(one), 0) + 1
    assert set(found) == {(1, 2, 3, 4), (2, 1, 4, 3), (3, 4, 1, 2), (4, 3, 2, 1)}
    assert all(70 <= value <= 130 for value in found.values())


def test_rotate_gives_the_four_quarter_turns_and_no_mirroring() -> None:
    image = pictures(1, 6)
    count = 200
    result = augment(image.repeat(count, 1, 1, 1), "rotate", np.arange(count))
    turns = [torch.rot90(image[0], quarters, (1, 2)) for quarters in range(4)]
    matches = [[torch.equal(one, turn) for turn in turns] for one in result]
    assert all(sum(row) == 1 for row in matches)
    assert (np.sum(matches, axis=0) > 30).all()


def test_flip_and_rotate_together_give_all_eight_symmetries() -> None:
    image = pictures(1, 6)
    result = augment(image.repeat(200, 1, 1, 1), "flip,rotate", np.arange(200))
    distinct = {tuple(one.reshape(-1).tolist()) for one in result}
    assert len(distinct) == 8


@pytest.mark.parametrize("policy", ["flip", "flip,rotate", "translation", "flip,rotate,translation"])
def test_gradient_of_moves_is_the_adjoint(policy: str) -> None:
    images = pictures(6, 8).clone().requires_grad_()
    result = augment(images, policy, SEEDS[:6])
    weights = torch.from_numpy(np.random.default_rng(4).normal(size=result.shape)).float()
    (gradient,) = torch.autograd.grad((result * weights).sum(), images)
    torch.testing.assert_close((gradient * images).sum(), (weights * result).sum(), rtol=1e-5, atol=1e-3)


def test_translation_shifts_by_an_eighth_at_most_and_fills_with_grey() -> None:
    side = 16
    image = torch.zeros(1, 3, side, side)
    image[:, :, 8, 8] = 1
    result = augment(image.repeat(300, 1, 1, 1), "translation", np.arange(300))
    places = result[:, 0].reshape(300, -1).argmax(1)
    shifts = set(zip((places // side - 8).tolist(), (places % side - 8).tolist(), strict=True))
    assert shifts == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    ones = augment(torch.ones(300, 3, side, side), "translation", np.arange(300))
    assert set(ones.unique().tolist()) == {0.0, 1.0}


def test_cutout_hides_a_square_of_half_the_side() -> None:
    result = augment(torch.ones(300, 3, 16, 16), "cutout", np.arange(300))
    hidden = (result[:, 0] == 0).sum((1, 2))
    assert hidden.max() == 64
    assert hidden.min() >= 16  # its middle lies in the image
    assert (result[:, :1] == result).all()


def test_tilt_of_an_even_picture_is_the_picture() -> None:
    images = torch.full((4, 3, 16, 16), 0.25)
    torch.testing.assert_close(augment(images, "tilt", SEEDS[:4]), images, rtol=0, atol=1e-6)


def test_color_by_hand() -> None:
    """One pixel: contrast does nothing to the mean, saturation pulls channels apart around their mean."""
    images = torch.tensor([0.3, 0.0, -0.3]).reshape(1, 3, 1, 1)
    result = augment(images.repeat(500, 1, 1, 1), "color", np.arange(500)).reshape(500, 3)
    shift = result.mean(1)
    assert shift.abs().max() <= 0.5
    assert shift.std() == pytest.approx(1 / np.sqrt(12), rel=0.1)
    spread = (result[:, 0] - result[:, 2]) / 0.6  # saturation times contrast
    assert spread.min() >= 0
    assert spread.max() <= 3
    assert spread.mean() == pytest.approx(1, rel=0.1)


def test_rgb_to_hed_agrees_with_skimage() -> None:
    levels = np.random.default_rng(0).integers(1, 256, (2, 8, 8, 3), dtype=np.uint8)
    ours = rgb_to_hed(to_float(levels)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours.clip(0), rgb2hed(levels), atol=1e-5)


def test_stain_agrees_with_skimage_on_what_skimage_can_represent() -> None:
    """On amounts that are not negative, scaling them in skimage's space is what the augmentation does."""
    amounts = np.random.default_rng(0).uniform(0.01, 0.06, (64, 4, 4, 3))
    light = np.clip(hed2rgb(amounts), 1 / 255, 1)
    images = torch.from_numpy(light * 2 - 1).permute(0, 3, 1, 2).float()
    changed = augment(images, "stain", np.arange(64))
    before, after = rgb_to_hed(images), rgb_to_hed(changed)
    for image_before, image_after in zip(before, after, strict=True):
        for stain in range(3):
            slope, extra = np.polyfit(image_before[stain].reshape(-1), image_after[stain].reshape(-1), 1)
            assert 0.79 < slope < 1.21
            assert abs(extra) < 0.0101
    again = hed2rgb(np.clip(after.permute(0, 2, 3, 1).numpy(), 0, None))
    np.testing.assert_allclose(again * 2 - 1, changed.permute(0, 2, 3, 1).numpy(), atol=2e-2)


def test_noise_has_the_stated_size_and_no_pattern() -> None:
    images = torch.zeros(64, 3, 32, 32)
    noise = augment(images, "noise", np.arange(64))
    sizes = noise.flatten(1).std(1)
    assert sizes.max() <= 0.052
    assert sizes.mean() == pytest.approx(0.025, rel=0.2)
    unit = (noise.flatten(1) / sizes[:, None]).numpy()
    others = np.abs(np.corrcoef(unit))[~np.eye(64, dtype=bool)]
    assert np.quantile(others, 0.99) < 0.1
    assert abs(unit.mean()) < 0.02


def test_output_under_autocast_stays_float32() -> None:
    images = pictures(2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        result = augment(images, "stain,color", SEEDS[:2])
    assert result.dtype == torch.float32
    assert torch.equal(result, augment(images, "stain,color", SEEDS[:2]))


def test_no_policy_returns_the_images() -> None:
    images = pictures()
    assert augment(images, "", SEEDS) is images
    assert augment(images, (), SEEDS) is images


def test_order_of_names_does_not_matter() -> None:
    images = pictures()
    assert torch.equal(augment(images, "flip,color", SEEDS), augment(images, ("color", "flip"), SEEDS))


def test_unknown_policy_suggests_a_known_one() -> None:
    with pytest.raises(ConfigError, match='Did you mean "color"'):
        parse_policy("flip,colour")


def test_rotate_refuses_images_that_are_not_square() -> None:
    with pytest.raises(ConfigError, match="square"):
        augment(torch.zeros(1, 3, 8, 16), "rotate", SEEDS[:1])
    assert augment(torch.zeros(1, 3, 8, 16), "flip,translation,tilt,cutout", SEEDS[:1]).shape == (1, 3, 8, 16)


def test_strength_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 1"):
        augment(pictures(), "flip", SEEDS, strength=2)


@pytest.mark.parametrize("policy", ["flip,rotate", "flip,rotate,tilt,translation,cutout,color,stain,noise"])
def test_masks_move_with_their_images(policy: str) -> None:
    """An image that shows its own mask still does so after both were augmented."""
    rng = np.random.default_rng(0)
    masks = torch.from_numpy(rng.random((16, 2, 4, 4)) > 0.5).float().repeat_interleave(8, 2)
    masks = masks.repeat_interleave(8, 3)
    seeds = torch.arange(16)
    moved = augment_masks(masks, policy, seeds, "symmetry")
    assert set(moved.unique().tolist()) <= {0.0, 1.0}
    assert not torch.equal(moved, masks)
    places = ",".join(name for name in policy.split(",") if name not in ("color", "stain", "noise"))
    painted = torch.cat([masks * 2 - 1, masks[:, :1] * 2 - 1], dim=1)
    shown = augment(painted, places, seeds, "symmetry")[:, :2]
    assert (((shown > 0).float() - moved).abs() * (shown.abs() > 0.5)).sum() == 0
