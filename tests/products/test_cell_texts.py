import json

import geopandas
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from aftermap.products.cell_texts import number_texts
from aftermap.products.vectors import _features, _numbers, _write_csv, plain_column

FRAME = geopandas.GeoDataFrame(
    {
        "id": ["a", 'b"', "c,%s", "é\n"],
        "share %": [0.1, np.nan, 1e-7, 12345678.25],
        "zero": [0.0, -0.0, 1.0, np.nan],
        "floors": [1, 2, -3, 2**40],
        "levels": pd.array([1, None, -7, 2**53 + 1], dtype="Int64"),
        "open": [True, False, True, True],
        "mixed": pd.Series(["x", None, 3, 2.5], dtype=object),
    },
    geometry=[box(x, 0, x + 1, 1) for x in range(4)],
)
PLAIN = ["id", "share %", "floors", "levels"]


def features(frame):
    return list(_features(frame, _numbers(frame.drop(columns="geometry"))))


def test_features_are_what_an_encoder_of_every_row_writes():
    names = [name for name in FRAME.columns if name != "geometry"]
    records = zip(*(plain_column(FRAME[name]) for name in names), strict=True)
    expected = [
        json.dumps(dict(zip(names, record, strict=True)), separators=(",", ":")) for record in records
    ]
    found = features(FRAME)
    assert [text.split(',"geometry":')[0] for text in found] == [
        f'{{"type":"Feature","properties":{each}' for each in expected
    ]
    assert json.loads(found[1])["geometry"]["type"] == "Polygon"


@pytest.mark.parametrize("names", [PLAIN, list(FRAME.columns[:-1]), ["floors"], ["floors", "levels"]])
def test_a_csv_is_what_pandas_writes(names, tmp_path):
    table = pd.DataFrame(FRAME[names])
    _write_csv(table, tmp_path / "fast.csv", _numbers(table))
    table.to_csv(tmp_path / "pandas.csv", index=False, lineterminator="\n")
    assert (tmp_path / "fast.csv").read_bytes() == (tmp_path / "pandas.csv").read_bytes()


def test_an_infinite_number_is_no_json():
    assert number_texts(pd.Series([1.0, np.inf]), missing="null") is None
    with pytest.raises(ValueError, match="JSON compliant"):
        features(FRAME.assign(zero=np.inf))
