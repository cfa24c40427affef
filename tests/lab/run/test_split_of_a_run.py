"""A run keeps to the rows it has begun with, however they are split."""

import shutil

import numpy as np
import pandas as pd
import pytest

from keras_pep.lab.report import write_report
from keras_pep.lab.run import (
    Config,
    RunDirectory,
    evaluate_run,
    resume,
    train,
)
from keras_pep.lab.settings import Settings
from keras_pep.metrics import predict
from tests.lab.run import test_resume
from tests.lab.run.results import without_times
from tests.lab.run.test_resume import InterruptedHereError, interrupting
from tests.said import saying

pytestmark = pytest.mark.usefixtures("eager")
SHORT = {
    **test_resume.SHORT,
    **{"max_epochs": 2, "search_epochs": 2, "retrain_epochs": 1},
}


@pytest.fixture
def clicks(tmp_path):
    """Clicks of users who come and go."""
    random = np.random.default_rng(0)
    user = np.arange(2000) // 40 + random.integers(0, 25, 2000)
    frame = pd.DataFrame(
        {
            "user": user,
            "when": np.arange(2000) // 2,
            "part": random.choice(["train", "validation", "test"], 2000),
            "clicked": (user + random.integers(0, 2, 2000)) % 3 // 2,
        }
    )
    path = tmp_path / "clicks.csv"
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path, frame


@pytest.mark.slow
@pytest.mark.parametrize("split", ["time:when", "files"])
def test_a_run_goes_on_and_is_evaluated_by_its_own_split(
    clicks, tmp_path, split
):
    path, frame = clicks
    others = {}
    if split == "files":
        for part in frame["part"].unique():
            others[part] = str(tmp_path / f"{part}.csv")
            frame[frame["part"] == part].to_csv(others[part], index=False)
        path = others["train"]
    config = Config(
        **SHORT,
        dataset=str(path),
        label="clicked",
        fields=("user",),
        split="random" if split == "files" else split,
        validation_file=others.get("validation"),
        test_file=others.get("test"),
        min_count=1,
        sparsity=(0.5,),
        cache_dir=str(tmp_path / "cache"),
    )
    whole, broken = (RunDirectory(tmp_path / name) for name in "ab")
    said = []
    with saying(said.append):
        expected = train(config, whole)
    parts = frame["part"]
    if split == "time:when":
        parts = pd.Series(
            np.repeat(["train", "validation", "test"], [1600, 200, 200])
        )
    users = frame["user"]
    new = users[parts == "test"]
    new = new[~new.isin(users[parts == "train"])]
    share = len(new) / (parts == "test").sum()
    assert expected["split"] == split
    assert expected["rows"] == parts.value_counts().to_dict()
    assert expected["unseen_in_test"] == {
        "user": {"distinct": new.nunique(), "share": pytest.approx(share)}
    }
    line = "test values that training has not seen: " + (
        f"user {new.nunique()} ({share:.2%} of its values)"
        if len(new)
        else "none"
    )
    assert line in "\n".join(said).splitlines()

    with pytest.raises(InterruptedHereError), saying(interrupting(3)):
        train(config, broken)
    moved = {}
    if split == "files":
        moved["test_file"] = str(tmp_path / "moved.csv")
        shutil.copy(others["test"], moved["test_file"])
    goes_on = resume(broken, moved=moved)
    assert without_times(goes_on) == without_times(expected)
    assert (
        evaluate_run(broken, "test")["dense"]["test"]
        == (expected["dense"]["test"])
    )


def test_earlier_runs_were_split_at_random():
    settings = Settings(dataset="own.csv").to_dict()
    assert Settings.of_run({**settings, "split": "time:a"}).split == "time:a"
    for name in ("split", "test_file"):
        del settings[name]
    assert Settings.of_run(settings) == Settings(dataset="own.csv")


@pytest.mark.slow
def test_a_run_counts_by_weight(clicks, tmp_path):
    path, frame = clicks
    frame["pay"] = np.random.default_rng(1).random(2000).round(3)
    frame.to_csv(path, index=False)
    config = Config(
        **SHORT,
        dataset=str(path),
        label="clicked",
        weight="pay",
        fields=("user",),
        split="column:part",
        min_count=1,
        sparsity=(0.5,),
        cache_dir=str(tmp_path / "cache"),
    )
    whole, broken = (RunDirectory(tmp_path / name) for name in "ab")
    expected = train(config, whole)
    assert expected["split"] == "column:part"
    assert expected["rows"] == frame["part"].value_counts().to_dict()
    user, label, weight, split, *others = expected["columns"]
    users = frame["user"]
    new = ~users.isin(users[frame["part"] == "train"])
    assert user == {
        "column": "user",
        "kind": "category",
        "why": "text or whole numbers",
        "distinct": users[frame["part"] == "train"].nunique(),
        "missing": 0.0,
        "unseen": pytest.approx(new[frame["part"] == "test"].mean()),
        "example": str(users[0]),
    }
    assert [each["kind"] for each in (label, weight, split, *others)] == [
        *("label", "weight", "split", "left out")
    ]
    text = write_report(whole.path).read_text()
    assert "How columns were read" in text
    assert ">not in --fields</td>" in text
    rows = config.load_data().test
    logits = predict(whole.load_model("dense"), rows.ids).reshape(-1)
    pay = frame["pay"][frame["part"] == "test"].to_numpy()
    losses = np.logaddexp(0, logits) - rows.labels * logits
    assert expected["dense"]["test"]["logloss"] == pytest.approx(
        (pay * losses).sum() / pay.sum(), rel=1e-6
    )
    evaluated = evaluate_run(whole, "test")["dense"]["test"]
    assert evaluated == expected["dense"]["test"]
    with pytest.raises(InterruptedHereError), saying(interrupting(3)):
        train(config, broken)
    assert without_times(resume(broken)) == without_times(expected)
