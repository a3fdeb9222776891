"""Failures of the data: what came is not what the contract or the mapping expects."""

from aiia_pipelines.jobs import _catalogue_checks as check
from aiia_pipelines.jobs._catalogue_row import ERROR, NEVER, FailureClass, found_by

# fmt: off
DATA = (
    FailureClass("column-mismatch", "Column Mismatch", "data", ERROR, "data", NEVER,
        "A table, column or type is not what the mapping or the contract expects.",
        "Correct mapping or query in the connector, or accept what the source has now with "
        "`aiia connectors schema NAME --accept`, then re-run.",
        check.TABLE,
        found_by("contract:column contract:type sqlstate:42703 sqlstate:42P01 sqlstate:42804 "
                 "sqlstate:42883 sqlstate:42846 sqlstate:3F000 sqlstate:HV005 sqlstate:HV00P "
                 "sqlstate:HV00Q sqlstate:HV00R pandera:COLUMN_NOT_IN_DATAFRAME "
                 "pandera:COLUMN_NOT_IN_SCHEMA pandera:COLUMN_NOT_ORDERED pandera:WRONG_DATATYPE "
                 "pandera:DATATYPE_COERCION")),
    FailureClass("value-invalid", "Invalid Value", "data", ERROR, "data", NEVER,
        "A value breaks a rule of the contract or does not fit its column, or too many rows do.",
        "Correct the rows at the source, or the check or type in the connector, then re-run.",
        check.everywhere("aiia sync CONNECTOR --dry-run"),
        found_by("contract:value contract:null contract:check sqlstate:10 sqlstate:20 "
                 "sqlstate:21 sqlstate:22 "
                 "pandera:SERIES_CONTAINS_NULLS pandera:DATAFRAME_CHECK pandera:CHECK_ERROR")),
    FailureClass("malformed-data", "Malformed Data", "data", ERROR, "data", NEVER,
        "The data is damaged or not in the format it claims to be in.",
        "Have the source write the data again, or say in the connector how they have to be read.",
        check.FORMAT,
        found_by("sqlstate:22P04 sqlstate:XX001 sqlstate:XX002 "
                 "class:json.decoder.JSONDecodeError class:pyarrow.lib.ArrowInvalid "
                 "data:malformed")),
    FailureClass("encoding-error", "Encoding Error", "data", ERROR, "data", NEVER,
        "Some text is not in the character encoding it should be in.",
        "Correct the text at the source, or the encoding the connector declares.",
        check.FORMAT,
        found_by("sqlstate:22021 sqlstate:22P05 class:UnicodeError contract:encoding")),
    FailureClass("duplicate-key", "Duplicate Key", "data", ERROR, "data", NEVER,
        "Two records have the same key, where the contract wants one.",
        "Remove the duplicates at the source, or name all columns that make the key.",
        check.DUPLICATES,
        found_by("contract:unique contract:key pandera:SERIES_CONTAINS_DUPLICATES "
                 "pandera:DUPLICATES")),
    FailureClass("constraint-violation", "Constraint Violation", "data", ERROR, "data", NEVER,
        "A record breaks a constraint of the database.",
        "Correct the records, or the constraint that refuses them.",
        check.TABLE,
        found_by("sqlstate:23 sqlstate:09 sqlstate:27 sqlstate:44")),
    FailureClass("row-count", "Row Count", "data", ERROR, "data", NEVER,
        "The number of records is outside the range the contract allows.",
        "Find out why the source has so many or so few, or correct row_count in the connector.",
        check.COUNT,
        found_by("contract:row-count")),
    FailureClass("empty-source", "Empty Source", "data", ERROR, "data", NEVER,
        "The source sent no records, though the contract expects some.",
        "Check that the load before this one ran, and the filter of the query.",
        check.COUNT,
        found_by("contract:empty")),
    FailureClass("too-many-records", "Too Many Records", "data", ERROR, "data", NEVER,
        "The stream sent more records than max_rows allows.",
        "Narrow the query, or raise max_rows of the stream if the number is right.",
        check.COUNT,
        found_by("contract:max-rows")),
    FailureClass("mass-delete", "Mass Delete", "data", ERROR, "data", NEVER,
        "Far more records are gone at the source than usual; they were not deleted here.",
        "Find out whether the source is complete; if so, raise max_delete of the stream, re-run.",
        check.everywhere("aiia sync CONNECTOR --dry-run"),
        found_by("contract:mass-delete")),
    FailureClass("reconciliation-mismatch", "Reconciliation Mismatch", "data", ERROR, "data",
        NEVER,
        "What would be stored differs from what the source sent, so nothing was committed.",
        "Compare the figures of the job run, look for writers during the run, then re-run.",
        check.everywhere("aiia jobs show NUMBER"),
        found_by("contract:reconciliation reconcile:mismatch contract:lost-rows")),
)
