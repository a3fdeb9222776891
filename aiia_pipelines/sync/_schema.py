"""A pandera schema that somebody wrote in Python, found by its name and looked over before it is used."""

from importlib import import_module
from typing import Any

import pandera.pandas as pandera

from aiia_pipelines.sync.faults import ContractBroken

_UNUSABLE = (ImportError, SyntaxError, AttributeError, NameError, TypeError, ValueError)


def own_schema(name: str) -> pandera.DataFrameSchema:
    """Import `my_package.schemas:Journal`, a model or a schema of pandera.

    Raises:
        ContractBroken: It is not there, is neither, or would change the data.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        if isinstance(found, type) and issubclass(found, pandera.DataFrameModel):
            found = found.to_schema()
    except (*_UNUSABLE, pandera.errors.SchemaInitError) as fault:
        raise _unusable(name, f"it cannot be imported ({type(fault).__name__}: {fault})") from fault
    if not isinstance(found, pandera.DataFrameSchema):
        raise _unusable(name, "it is neither a DataFrameModel nor a DataFrameSchema of pandera")
    if reason := _changes_or_misleads(found):
        raise _unusable(name, reason)
    return found


def _changes_or_misleads(schema: pandera.DataFrameSchema) -> str | None:
    """Tell what a schema would do that a check of one batch must not do."""
    parts: list[Any] = [schema, *schema.columns.values()]
    if any(getattr(part, "coerce", False) for part in parts):
        return "it has coerce; declare the types of columns in the connector file"
    if any(getattr(part, "parsers", None) for part in parts):
        return "it has parsers, which would change values"
    if getattr(schema, "drop_invalid_rows", False) or any(
        getattr(part, "drop_invalid_rows", False) for part in parts
    ):
        return "it has drop_invalid_rows; take `on_invalid: quarantine`"
    if any(getattr(part, "unique", None) for part in parts):
        return "it has unique, which would hold in each batch only; take `checks: {unique: [...]}`"
    return None


def _unusable(name: str, reason: str) -> ContractBroken:
    return ContractBroken(f"Schema {name} cannot be used: {reason}.", "config:invalid")
