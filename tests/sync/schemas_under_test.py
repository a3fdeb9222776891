"""Schemas that the tests name in connector files, as users do."""

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
from pandera.typing import Series

INT = pd.ArrowDtype(pa.int32())


def _sums_up(frame: pd.DataFrame) -> pd.Series:
    return frame["a"] + frame["b"] == 10


class Ledger(pandera.DataFrameModel):
    a: Series[INT] = pandera.Field(ge=0, nullable=True)
    b: Series[INT] = pandera.Field(nullable=True)

    @pandera.dataframe_check
    def sums_up(cls, frame: pd.DataFrame) -> pd.Series:  # noqa: N805 - pandera's way
        return _sums_up(frame)


Whole = pandera.DataFrameSchema(
    {"a": pandera.Column(INT)},
    checks=[pandera.Check(lambda frame: len(frame) < 3, name="is_short")],
)
Raising = pandera.DataFrameSchema(
    {"a": pandera.Column(INT, checks=[pandera.Check(lambda a: a["Secret"], name="odd")])}
)
Coercing = pandera.DataFrameSchema({"a": pandera.Column(INT)}, coerce=True)
Unique = pandera.DataFrameSchema({"a": pandera.Column(INT, unique=True)})
Dropping = pandera.DataFrameSchema({"a": pandera.Column(INT)}, drop_invalid_rows=True)
Parsing = pandera.DataFrameSchema({"a": pandera.Column(INT, parsers=pandera.Parser(lambda a: -a))})
nothing = 5
