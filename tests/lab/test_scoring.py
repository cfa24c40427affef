"""The rows that `predict` reads, in files of every kind of writing."""

import gzip
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import keras_pep
from keras_pep.data import DataError
from keras_pep.data.fields import Field, Vocabulary
from keras_pep.data.rows import Files
from keras_pep.lab.scoring import score_file, scorer_of_saved_model
from keras_pep.serving import describe

PRICES = [0.5, 0.25, 0.125, 0.75]


def score(block):
    """A probability that is the price."""
    column = block.columns["price"]
    return column.values.to_numpy(False).astype(float)[column.codes]


@pytest.fixture
def scored(tmp_path, caplog):
    """The probabilities of a file's rows, and what is said of them."""

    def scored(content, name="new.csv", target="scores.csv", **settings):
        path = tmp_path / name
        caplog.clear()
        caplog.set_level(logging.INFO, "keras_pep")
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        rows = score_file(
            score,
            ("user", "price"),
            path,
            tmp_path / target,
            **settings,
        )
        found = np.loadtxt(tmp_path / target, skiprows=1).tolist()
        assert rows == len(found)
        return found, [*caplog.messages]

    return scored


def written(between=",", end="", names=("user", "price"), index=False):
    lines = [between.join(("",) * index + names)]
    for n, price in enumerate(PRICES):
        row = (str(n),) * index + (f"u{n}", str(price))
        lines.append(between.join(row) + end)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (written(), "new.csv", ""),
        (written("\t"), "new.TSV", ""),
        (gzip.compress(written().encode(), mtime=0), "NEW.CSV.GZ", ""),
        (gzip.compress(written().encode(), mtime=0), "new.csv", ""),
        (written(end=","), "new.csv", "the delimiter that ends every row"),
        (written(", "), "new.csv", "blanks around names and values"),
        (written(index=True), "new.csv", ""),
        ("\ufeff" + written(), "new.csv", ""),
        (
            written().replace("u0", '"an \\"odd\\", long name"'),
            "new.csv",
            "quotes are taken to be written",
        ),
    ],
)
def test_rows_are_read_as_for_training(scored, content, name, said):
    found, notes = scored(content, name)
    assert found == PRICES
    assert [said in note for note in notes] == [True] * bool(said)


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        (written(";"), {"delimiter": ";"}),
        (written(";"), {"usual": Files((), delimiter=";")}),
        (written(","), {"usual": Files((), delimiter=";")}),
        (written("|"), {"delimiter": "|", "usual": Files((), delimiter=";")}),
    ],
)
def test_the_delimiter_is_given_or_usual(scored, content, settings):
    assert scored(content, **settings)[0] == PRICES


@pytest.mark.parametrize("columns", [3, 2])
def test_files_without_a_header_in_a_known_form(scored, columns):
    form = Files(
        (), names=("label", "user", "price"), delimiter="\t", quoted=False
    )
    rows = [["1", f'"u{n}', str(price)] for n, price in enumerate(PRICES)]
    content = "".join("\t".join(row[-columns:]) + "\n" for row in rows)
    assert scored(content, "new.txt", usual=form)[0] == PRICES
    with pytest.raises(DataError, match=r"line 1: found 1 columns divided by"):
        scored("u0\n", "new.txt", usual=form)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (written(end=",7"), r"line 2: found 3 columns in 'u0,0\.5,7', exp"),
        (written(";"), "Is ',' what divides the columns.*--delimiter ';'"),
        (written(names=("User", "price")), "no column 'user'.*mean 'User'"),
        (
            written() + '"u4,0.5\n' + "u5,0.5\n" * 30 + 'u6",0.5\n',
            "row 5: found 'u4,0.5.*expected fewer lines: is a quote missing",
        ),
        (written() + "a\0,0.5\n", "line 6: found a NUL byte"),
    ],
)
def test_nothing_is_scored_that_is_not_read_whole(
    scored, tmp_path, content, found
):
    with pytest.raises(DataError, match=rf"(?s)new\.csv.*{found}"):
        scored(content)
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize(
    ("field", "values", "known", "said"),
    [
        ("user", [f"u{n}" for n in range(10)], 4, ""),
        ("user", ["u3"], 1, ""),
        (
            "user",
            ["0", "1", "2"],
            0,
            "found such as 'u0', expected such as '1'",
        ),
        (Field("of", "user", "list", length=2), ["0"], 0, "such as 'u0', exp"),
        (Field("p", "price", "number", (0.3,)), ["0", "1"], 4, ""),
        (Field("p", "price", "number", (0.3,)), [""], 0, "such as '0.5'. Is"),
    ],
)
def test_a_column_that_the_model_does_not_know_is_named(
    scored, field, values, known, said
):
    if isinstance(field, str):
        field = Field(field, field)
    for unknown in (True, False):
        vocabulary = Vocabulary(field, np.array(values, object), unknown)
        found, notes = scored(written(), vocabularies=[vocabulary] * 2)
        assert found == PRICES
        assert len(notes) == bool(said)  # once for each column
        for note in notes:
            assert note.startswith(
                f"{field.column}: of 4 rows {known} have a value that the model"
            )
            assert said in note


@pytest.mark.parametrize(("known", "said"), [(4, 1), (5, 0)])
def test_five_percent_are_enough_to_know_a_column(scored, known, said):
    users = ["a"] * known + ["b"] * (100 - known)
    content = "user,price\n" + "".join(f"{user},0.5\n" for user in users)
    vocabulary = Vocabulary(Field("user", "user"), np.array(["a"], object))
    assert len(scored(content, vocabularies=[vocabulary])[1]) == said


def test_of_no_rows_nothing_is_said(scored):
    vocabulary = Vocabulary(Field("user", "user"), np.array(["a"], object))
    with pytest.warns(UserWarning, match="no data"):
        assert scored("user,price\n", vocabularies=[vocabulary]) == ([], [])


def test_exports_of_an_earlier_version_know_values_as_they_are_now(
    tmp_path, monkeypatch
):
    """They have "8.0" of a column with gaps, which Parquet has as 8."""
    vocabulary = Vocabulary(
        Field("gap", "gap"), np.array(["7.0", "8.0"], object), unknown=True
    )
    model = keras_pep.models.LogisticRegression((3,), embedding="dense")
    model.build()
    (table,) = (w for w in model.trainable_weights if w.shape == (3, 1))
    table.assign([[-1.0], [1.0], [3.0]])
    with monkeypatch.context() as earlier:
        earlier.setattr("keras_pep.serving.raw.spelled", lambda texts: texts)
        earlier.setattr(
            "keras_pep.serving.signatures.spell", lambda texts: texts
        )
        path = keras_pep.export_saved_model(
            model, tmp_path / "1", {"gap": vocabulary}
        ).path
    score, columns = scorer_of_saved_model(describe(path))
    (tmp_path / "new.csv").write_text("gap\n7.0\n8.0\n8\n9\n")
    pq.write_table(pa.table({"gap": [7, 8, 8, 9]}), tmp_path / "new.parquet")
    for name in ("new.csv", "new.parquet"):
        score_file(score, columns, tmp_path / name, tmp_path / "out.csv")
        found = np.loadtxt(tmp_path / "out.csv", skiprows=1)
        logits = np.array([1.0, 3.0, 3.0, -1.0])
        np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), 1e-6)
