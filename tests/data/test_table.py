"""Tables: CSV and arrays of rows as standardised columns, and what is refused in a line."""

import numpy as np
import pytest

from vae_jax import data
from vae_jax.data import table
from vae_jax.data._random_split import hold_out
from vae_jax.data._table_columns import Columns
from vae_jax.errors import UserError

RNG = np.random.default_rng(11)
ROWS = RNG.normal([5, -20, 0.1], [2, 30, 0.01], (40, 3))
KINDS = np.array(["red", "white"])[np.arange(40) % 2]
TRAIN, HELD_OUT = hold_out(40, 0.1)


def refused(match):
    """A UserError of one line that holds `match`."""
    return pytest.raises(UserError, match=rf"\A(?=.*{match}).*\Z")


def write_csv(file, rows=ROWS, header="acid,sugar,ph,kind", kinds=KINDS, delimiter=","):
    """Writes rows, an empty cell for NaN, with a last column of kinds."""
    cells = [["" if np.isnan(x) else repr(float(x)) for x in row] for row in rows]
    if len(kinds):
        cells = [[*row, kind] for row, kind in zip(cells, kinds, strict=False)]
    lines = [delimiter.join(row) for row in cells]
    file.write_text("\n".join([*([header.replace(",", delimiter)] if header else []), *lines]) + "\n")
    return str(file)


def rows_of(split):
    images = np.asarray(split.fetch(np.arange(split.size)))
    assert images.dtype == np.float32
    return images[:, 0, :, 0]


def standardised(rows):
    return (rows - np.nanmean(rows[TRAIN], axis=0)) / np.nanstd(rows[TRAIN], axis=0)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_are_standardised_by_the_rows_that_are_not_held_out(tmp_path, delimiter):
    loaded = table.load(path=write_csv(tmp_path / "wine.csv", delimiter=delimiter), labels="kind")
    assert loaded.image_shape == (1, 3, 1)
    assert loaded.columns.names == ("acid", "sugar", "ph")
    np.testing.assert_allclose(rows_of(loaded.train), standardised(ROWS)[TRAIN], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows_of(loaded.test), standardised(ROWS)[HELD_OUT], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(loaded.train.labels, TRAIN % 2)
    np.testing.assert_array_equal(loaded.test.labels, HELD_OUT % 2)
    np.testing.assert_allclose(rows_of(loaded.train).mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(rows_of(loaded.train).std(axis=0), 1, rtol=1e-5)
    with_validation = data.check_dataset(data.with_validation(loaded, 5))
    assert [split.size for split in with_validation.splits.values()] == [31, 5, 4]


def test_a_file_without_a_header_has_columns_by_number_and_some_can_be_chosen(tmp_path):
    path = write_csv(tmp_path / "rows.csv", header="", kinds=np.arange(40).astype(str))
    assert table.load(path=path).columns.names == ("0", "1", "2", "3")
    chosen = table.load(path=path, columns="2, 0", labels="3", standardize=False)
    assert chosen.columns.names == ("2", "0")
    np.testing.assert_allclose(rows_of(chosen.test), ROWS[HELD_OUT][:, [2, 0]], rtol=1e-6)
    np.testing.assert_array_equal(chosen.test.labels, HELD_OUT)


@pytest.mark.parametrize("word", ["", "NA", "n/a", "NaN", "null", " ? "])
def test_cells_without_a_number_are_missing_and_count_for_no_mean(tmp_path, word):
    holes = ROWS.copy()
    holes[TRAIN[:5], 1] = np.nan
    path = write_csv(tmp_path / "holes.csv", holes, kinds=())
    text = (tmp_path / "holes.csv").read_text().replace(",,", f",{word},")
    (tmp_path / "holes.csv").write_text(text.replace("acid,sugar,ph,kind", "acid,sugar,ph"))
    loaded = table.load(path=path)
    np.testing.assert_array_equal(np.isnan(rows_of(loaded.train)), np.isnan(holes[TRAIN]))
    np.testing.assert_allclose(rows_of(loaded.train), standardised(holes)[TRAIN], rtol=1e-5, atol=1e-6)


def test_rows_of_a_file_of_arrays_have_a_mask_labels_and_names(tmp_path):
    mask = RNG.random(ROWS.shape) < 0.2
    mask[TRAIN[0]] = False
    np.savez(tmp_path / "rows.npz", rows=ROWS, absent=mask, y=np.arange(40) % 2, columns=np.array(["a", "b", "c"]))
    loaded = table.load(path=str(tmp_path / "rows.npz"), missing="absent", labels="y")
    np.testing.assert_array_equal(np.isnan(rows_of(loaded.train)), mask[TRAIN])
    np.testing.assert_array_equal(loaded.train.labels, TRAIN % 2)
    assert loaded.columns.names == ("a", "b", "c")
    np.save(tmp_path / "rows.npy", ROWS.astype(np.float32))
    same = table.load(path=str(tmp_path / "rows.npy"))
    np.testing.assert_allclose(rows_of(same.test), standardised(ROWS)[HELD_OUT], rtol=1e-4, atol=1e-5)


def test_another_file_may_have_the_rows_that_report(tmp_path):
    path = write_csv(tmp_path / "train.csv")
    other = write_csv(tmp_path / "test.csv", ROWS[:7] + 1, kinds=KINDS[::-1])
    loaded = table.load(path=path, test_path=other, labels="kind")
    assert (loaded.train.size, loaded.test.size) == (40, 7)
    expected = (ROWS[:7] + 1 - ROWS.mean(axis=0)) / ROWS.std(axis=0)
    np.testing.assert_allclose(rows_of(loaded.test), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(loaded.test.labels, np.arange(1, 8) % 2)
    short = write_csv(tmp_path / "short.csv", header="acid,sugar,ph", kinds=())
    with refused("^labels: of '.*short.csv': 'kind' is unknown"):
        table.load(path=path, test_path=short, labels="kind")
    with refused("^test_path: 'nowhere.csv' is not a file"):
        table.load(path=path, test_path="nowhere.csv", labels="kind")
    broken = write_csv(tmp_path / "broken.csv", ROWS[:2], kinds=["red", ""])
    with refused("^labels: 'kind' of '.*broken.csv' has none in row 2"):
        table.load(path=path, test_path=broken, labels="kind")


HEADERS = {
    "an index without a name, as pandas has it": (",a,b", ["0,1.5,2", "1,3,4"], ("", "a", "b"), 2),
    "names that are words for missing": ("RI,Na,Mg", ["1,2,3", "4,5,6"], ("RI", "Na", "Mg"), 2),
    "words above numbers, and years": ("mean,2019,2020", ["1,2,3", "4,5,6"], ("mean", "2019", "2020"), 2),
    "a comma at the end": ("a,b,", ["1,2,", "3,4,"], ("a", "b", ""), 2),
    "quotes that hold commas": ('"height, cm";"weight, kg"', ["180;80", "170;70"], ("height, cm", "weight, kg"), 2),
    "a mark of the byte order": ("\ufeffa,b", ["1,2", "3,4"], ("a", "b"), 2),
    "labels without a header": ("1,2,red", ["3,4,white"], ("0", "1", "2"), 2),
    "one column, with an empty line": ("a", ["1", "", "3"], ("a",), 3),
    "empty lines between": ("a,b", ["1,2", "", "3,4"], ("a", "b"), 2),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_and_delimiters_are_found(tmp_path, case):
    header, lines, names, count = HEADERS[case]
    (tmp_path / "rows.csv").write_text("\n".join([header, *lines]) + "\n\n", encoding="utf-8")
    found = table._read_csv("path", tmp_path / "rows.csv", "auto")
    assert (found.names, len(found.columns[0])) == (names, count)


def test_a_first_row_of_numbers_is_a_header_where_that_is_said(tmp_path, caplog):
    table.warn_once.cache_clear()
    (tmp_path / "rows.csv").write_text("0,1\n5,6\n7,9\n8,8\n")
    assert table.load(path=str(tmp_path / "rows.csv"), test=1).train.size == 3
    assert any("header yes makes it names" in record.getMessage() for record in caplog.records)
    named = table.load(path=str(tmp_path / "rows.csv"), test=1, header="yes", columns="1")
    assert (named.train.size, named.columns.names) == (2, ("1",))
    (tmp_path / "words.csv").write_text("a\nb\nc\n")
    with refused("^columns: '0' of '.*words.csv' has 'a' in row 1"):
        table.load(path=str(tmp_path / "words.csv"), test=1, header="no")
    with refused(r"^header: 'maybe' is unknown; known: auto, no, yes"):
        table.load(path=str(tmp_path / "rows.csv"), header="maybe")


def test_rows_go_to_the_models_numbers_and_back():
    columns = Columns(("a", "b"), np.array([5.0, -1.0]), np.array([2.0, 10.0]))
    rows = np.array([[7.0, 9.0], [np.nan, -1.0]])
    images = columns.standardize(rows)
    np.testing.assert_array_equal(images[:, 0, :, 0], np.float32([[1, 1], [np.nan, 0]]))
    np.testing.assert_array_equal(columns.restore(images), rows)
    with refused(r"^rows: float64 of shape \(2, 3\) is not allowed; give numbers of \(n, 2\)"):
        columns.standardize(np.zeros((2, 3)))
    with refused(r"^images: shape \(2, 2\) is not allowed; give \(n, 1, 2, 1\)"):
        columns.restore(rows)


def test_a_column_of_one_value_is_said_and_becomes_0(tmp_path, caplog):
    table.warn_once.cache_clear()
    rows = np.column_stack([ROWS[:, 0], np.full(40, 0.1)])
    path = write_csv(tmp_path / "same.csv", rows, header="acid,same,kind")
    loaded = table.load(path=path, labels="kind")
    np.testing.assert_allclose(rows_of(loaded.train)[:, 1], 0, atol=1e-6)
    assert any("'same' of one value in all rows" in record.getMessage() for record in caplog.records)


BAD = {
    "no file": ({"path": "nowhere.csv"}, "^path: 'nowhere.csv' is not a file; give CSV"),
    "empty": ("", "is empty; give CSV"),
    "a header alone": ("a,b\n", "has a header and no row"),
    "rows of two lengths": ("a,b\n1,2\n3\n", "row 3 has 1 cell, and the first has 2"),
    "one name twice": ("a,a\n1,2\n3,4\n", "several columns 'a'"),
    "words": ("a,b\n1,x\n3,4\n", "^columns: 'b' of '.*bad.csv' has 'x' in row 1, which is not a finite number"),
    "infinities": ("a,b\n1,inf\n3,4\n", "^columns: 'b' of '.*bad.csv' has 'inf' in row 1"),
    "no number": ("a,b\n1,\n3,\n4,\n", "^columns: 'b' of the rows to train on have no number"),
    "no binary text": (b"\xff\xfe\x00", "cannot be read as CSV"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_table_is_refused_in_a_line(tmp_path, case):
    given, message = BAD[case]
    if not isinstance(given, dict):
        (tmp_path / "bad.csv").write_bytes(given if isinstance(given, bytes) else given.encode())
        given = {"path": str(tmp_path / "bad.csv"), "test": 1}
    with refused(message):
        table.load(**given)


FIELDS = {
    "an unknown column": (
        {"columns": "acid,sugr"},
        r"^columns: of '.*wine.csv': 'sugr' is unknown; .*did you mean 'sugar'\?",
    ),
    "unknown labels": ({"labels": "kimd"}, r"^labels: of '.*wine.csv': 'kimd' is unknown; .*did you mean 'kind'\?"),
    "labels among columns": ({"columns": "kind,acid", "labels": "kind"}, "^columns: 'kind' is the column of labels"),
    "a name of an array": ({"rows": "x"}, "^rows: 'x' names an array"),
    "grey levels": ({"binarize": "none", "labels": "kind"}, "^binarize: 'none' is not allowed for a table"),
    "all held out": ({"test": 40, "labels": "kind"}, "^test: 40 of 40 images leaves none"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_fields_of_a_table_are_checked(tmp_path, case):
    fields, message = FIELDS[case]
    with refused(message):
        table.load(path=write_csv(tmp_path / "wine.csv"), **fields)
