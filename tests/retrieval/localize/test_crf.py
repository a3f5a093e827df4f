"""The random field equals the mean field by definition, pixel by pixel, and agrees with pydensecrf."""

import math

import numpy as np
import pydensecrf.densecrf as dcrf

from retrieval.localize.refine.crf import mean_field, refine_maps


def _scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:height, 0:width]
    blob = (rows - 0.4 * height) ** 2 + (columns - 0.6 * width) ** 2 < (0.25 * height) ** 2
    random = np.random.default_rng(3)
    image = np.clip(0.25 + 0.5 * blob + random.normal(0, 0.02, blob.shape), 0, 1).astype(np.float32)
    far = (rows - 0.5 * height) ** 2 + (columns - 0.5 * width) ** 2
    heat = np.exp(-far / (2 * (0.3 * height) ** 2)).astype(np.float32)
    return image, heat


def _brute_force(image: np.ndarray, heat: np.ndarray, pixel: float) -> np.ndarray:
    height, width = image.shape
    positions = [(y, x) for y in range(height) for x in range(width)]

    def unary(a: float) -> float:
        return -math.log(a + 1e-8) / (1.05 / (1 + math.exp(-a)))

    def beliefs(costs: list[tuple[float, float]]) -> list[tuple[float, float]]:
        inside = [1 / (1 + math.exp(i - o)) for i, o in costs]
        return [(p, 1 - p) for p in inside]

    costs = [(unary(float(heat[p])), unary(1 - float(heat[p]))) for p in positions]
    start = beliefs(costs)
    kernels = []
    for width_of, grey_of, weight in ((3.0, None, 3.0), (60.0, 5.0, 5.0)):
        kernel = np.zeros((len(positions), len(positions)))
        for i, (y, x) in enumerate(positions):
            for j, (v, u) in enumerate(positions):
                squared = ((y - v) ** 2 + (x - u) ** 2) * (pixel / width_of) ** 2
                if grey_of is not None:
                    squared += 3 * (255 * (float(image[y, x]) - float(image[v, u])) / grey_of) ** 2
                kernel[i, j] = math.exp(-0.5 * squared)
        root = 1 / np.sqrt(kernel.sum(axis=1))
        kernels.append(weight * root[:, None] * kernel * root[None, :])
    messages = sum(kernels) @ np.array(start)
    final = beliefs([(c[0] - m[0], c[1] - m[1]) for c, m in zip(costs, messages, strict=True)])
    return np.array([p for p, _ in final]).reshape(height, width)


def test_one_step_is_the_sum_over_all_pairs_of_pixels() -> None:
    image, heat = _scene(11, 9)
    [ours] = mean_field(image, heat[None], 1, 2.5)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, _brute_force(image, heat, 2.5), rtol=0, atol=1e-6)


def test_pydensecrf_finds_the_same_pixels() -> None:
    image, heat = _scene(48, 40)
    [ours] = mean_field(image, heat[None], 1, 1.0)
    field = dcrf.DenseCRF2D(40, 48, 2)
    both = np.stack([heat, 1 - heat])
    costs = -np.log(both + 1e-8) / (1.05 / (1 + np.exp(-both)))
    field.setUnaryEnergy(np.ascontiguousarray(costs.reshape(2, -1), dtype=np.float32))
    field.addPairwiseGaussian(sxy=3, compat=3)
    grey = np.ascontiguousarray(np.repeat(np.rint(image * 255).astype(np.uint8)[..., None], 3, axis=2))
    field.addPairwiseBilateral(sxy=60, srgb=5, rgbim=grey, compat=5)
    theirs = np.array(field.inference(1))[0].reshape(48, 40)
    assert ((ours >= 0.5) == (theirs >= 0.5)).mean() > 0.98
    assert np.abs(ours - theirs).mean() < 0.03


def test_a_mask_is_aligned_with_the_image_edge_alone_or_in_a_batch() -> None:
    image, heat = _scene(120, 100)
    truth = image > 0.5
    maps = np.stack([heat, 1 - heat, np.zeros_like(heat)])
    together = refine_maps(image, maps)
    alone = refine_maps(image, maps[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=0, atol=1e-6)

    def dice(mask: np.ndarray) -> float:
        return 2 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())

    assert dice(alone[0] >= 0.5) > dice(heat >= 0.5) + 0.03
    assert not (together[2] >= 0.5).any()
