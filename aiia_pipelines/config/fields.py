"""The single values of connector files: how each is read, refused and written."""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from aiia_pipelines.config.amounts import Budget, Lookback
from aiia_pipelines.config.checks import refused
from aiia_pipelines.config.clock import cron_mistake, is_timezone
from aiia_pipelines.config.types import ColumnType

Amount = TypeVar("Amount", Lookback, Budget)
_PYTHON_NAME = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def _line(text: str) -> str:
    """Accept one line of text."""
    if not text.isprintable() or text != text.strip():
        raise refused("must be one line of text, without blanks around it")
    return text


def _column_type(value: object) -> ColumnType:
    """Read a column type."""
    if isinstance(value, ColumnType):
        return value
    if not isinstance(value, str):
        raise refused("must be the name of a type, as in decimal(18,2)")
    try:
        return ColumnType.parse(value)
    except ValueError as fault:
        raise refused(str(fault)) from None


def _lossy(value: object) -> object:
    """Take the null of YAML, which is how the word is written there, for the word."""
    return "null" if value is None else value


def _python_name(text: str) -> str:
    """Accept the name of a Python object."""
    if not re.fullmatch(_PYTHON_NAME, text, re.ASCII):
        raise refused("must name a pandera model as package.module:Name")
    return text


def _lookback(value: object) -> Lookback:
    """Read how far a cursor looks back."""
    return _amount(Lookback, value)


def _budget(value: object) -> Budget:
    """Read how many rows may be something."""
    return _amount(Budget, value)


def _amount(kind: type[Amount], value: object) -> Amount:
    """Read an amount, or say what one looks like."""
    if isinstance(value, kind):
        return value
    try:
        return kind.parse(value)
    except ValueError as fault:
        raise refused(str(fault)) from None


def _schedule(value: object) -> object:
    """Take a blank schedule for none."""
    return None if isinstance(value, str) and not value.strip() else value


def _cron(text: str) -> str:
    """Accept a cron schedule of five fields."""
    if mistake := cron_mistake(text):
        raise refused(mistake)
    return " ".join(text.split())


def _timezone(text: str) -> str:
    """Accept the name of a time zone."""
    if not is_timezone(text):
        raise refused("must be a known time zone, for example UTC or Europe/Berlin")
    return text


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
Title = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)]
ColumnName = Annotated[str, Field(min_length=1, max_length=63), AfterValidator(_line)]
TypeOfColumn = Annotated[
    ColumnType,
    PlainValidator(_column_type),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["string", "decimal(18,2)", "list<int64>"]}),
]
_AMOUNT = WithJsonSchema({"type": ["integer", "string"]})
_WRITTEN = PlainSerializer(lambda amount: amount.written)
LookbackText = Annotated[Lookback, PlainValidator(_lookback), _WRITTEN, _AMOUNT]
BudgetText = Annotated[Budget, PlainValidator(_budget), _WRITTEN, _AMOUNT]
_Cron = Annotated[str, AfterValidator(_cron)]
Schedule = Annotated[_Cron | None, BeforeValidator(_schedule)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
Reconcile = Literal["count", "totals", "full"]
PythonName = Annotated[
    str,
    AfterValidator(_python_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_PYTHON_NAME}$"}),
]
OnLossy = Annotated[Literal["null", "round", "text"] | None, BeforeValidator(_lossy)]
