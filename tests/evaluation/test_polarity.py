import numpy as np

from cytoforge.evaluation.polarity import light_correlation, nucleus_contrast, swapped_share


def cells(dark_nucleus):
    """Three cells with nuclei of 60 on 200, or the other way round."""
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[:, 1:7, 1:7] = 1
    masks[:, 3:5, 3:5] = 2
    light = np.where(masks == 2, 60, 200) if dark_nucleus else np.where(masks == 2, 200, 60)
    return light.astype(np.uint8)[..., None].repeat(3, axis=3), masks


def test_contrast_is_the_difference_of_means_and_tells_a_swap():
    images, masks = cells(dark_nucleus=True)
    np.testing.assert_allclose(nucleus_contrast(images, masks), 140)
    swapped, _ = cells(dark_nucleus=False)
    np.testing.assert_allclose(nucleus_contrast(swapped, masks), -140)
    assert swapped_share(nucleus_contrast(images, masks)) == 0
    assert swapped_share(nucleus_contrast(swapped, masks)) == 1


def test_correlation_of_a_negative_of_itself_and_of_noise():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(light_correlation(images, images), 1)
    np.testing.assert_allclose(light_correlation(images, 255 - images), -1)
    other = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)
    assert np.abs(light_correlation(images, other)).max() < 0.15
    assert swapped_share(light_correlation(images, 255 - images)) == 1


def test_what_cannot_be_known_is_left_out():
    images, masks = cells(dark_nucleus=True)
    masks[0] = 0
    contrasts = nucleus_contrast(images, masks)
    assert np.isnan(contrasts[0])
    assert swapped_share(contrasts) == 0
    flat = np.full_like(images, 7)
    assert np.isnan(light_correlation(images, flat)).all()
    assert np.isnan(swapped_share(light_correlation(images, flat)))
