import gzip

import numpy as np
import pytest

from tests.formats import AVAZU_COLUMNS


@pytest.fixture
def small_criteo(tmp_path):
    """A folder in Kaggle's format: 2,000 rows, rare and missing values."""
    random = np.random.default_rng(0)
    lines = []
    for _ in range(2000):
        integers = [
            ""
            if random.random() < 0.3
            else str(random.integers(-2, 10**n % 997))
            for n in range(1, 14)
        ]
        categories = [
            "" if random.random() < 0.1 else f"{random.zipf(1.5) % 9999:08x}"
            for _ in range(26)
        ]
        label = str(int(random.random() < 0.3))
        lines.append("\t".join([label, *integers, *categories]) + "\n")
    folder = tmp_path / "criteo"
    folder.mkdir()
    (folder / "train.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def small_avazu(tmp_path):
    """The same for Avazu, gzipped: ten days, hour by hour."""
    random = np.random.default_rng(0)
    lines = [",".join(AVAZU_COLUMNS) + "\n"]
    for n in range(1000):
        hour = f"1410{21 + n % 10}{n % 24:02}"
        values = [f"{random.zipf(1.5) % 999:x}" for _ in AVAZU_COLUMNS[3:]]
        click = str(int(random.random() < 0.3))
        lines.append(",".join([str(n), click, hour, *values]) + "\n")
    folder = tmp_path / "avazu"
    folder.mkdir()
    with gzip.open(folder / "train.gz", "wt") as file:
        file.writelines(lines)
    return folder
