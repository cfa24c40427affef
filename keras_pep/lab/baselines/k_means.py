"""Clusters of points, by Lloyd's rounds."""

import numpy as np

_SAMPLES, _ROUNDS = 200, 20  # samples for each centroid


def k_means(
    points: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    """Find the centroids of clusters, `(count, width)`, by Lloyd's rounds."""
    if len(points) <= count:
        more = random.normal(0, points.std(), (count, points.shape[1]))
        more[: len(points)] = points
        return more.astype(points.dtype)
    most = min(len(points), _SAMPLES * count)
    sample = points[random.choice(len(points), most, replace=False)]
    centroids = sample[:count].copy()
    for _ in range(_ROUNDS):
        nearest = nearest_of(sample, centroids)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, sample)
        counts = np.bincount(nearest, minlength=count)
        there = counts > 0
        centroids[there] = sums[there] / counts[there, None]
    return centroids


def nearest_of(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Number of the centroid that is nearest to each point."""
    lengths = np.square(centroids).sum(axis=1)
    at_once = max(1, 2**24 // len(centroids))
    found = [
        np.argmin(lengths - 2 * points[i : i + at_once] @ centroids.T, axis=1)
        for i in range(0, len(points), at_once)
    ]
    return np.concatenate(found)
