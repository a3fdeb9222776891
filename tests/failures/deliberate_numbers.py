"""The numbers and codes of vendors that no read can end with, each with the reason."""

import re
from collections.abc import Mapping

# By the names that PyMySQL gives the numbers of a server.
MYSQL: Mapping[str, str] = {
    "replication between servers":
        r"(?:BAD_)?SLAVE|MASTER|.*_MASTER|.*SLAVE|.*BINLOG|NO_BINARY_LOGGING|RELAY|UNTIL_COND|LOG_"
        r"|LOGGING|NO_UNIQUE_LOGFILE|IO_ERR_LOG|FSEEK|ERROR_WHEN_EXECUTING|FLUSH_|TRANS_CACHE"
        r"|ERROR_DURING|INDEX_REBUILD",
    "what makes, alters and drops tables":
        r"ALTER_INFO|AUTO_CONVERT|BLOB|CANNOT_ADD|CANT_(?:CREATE|DROP|REMOVE)|CHECK_NOT|CORRUPT_HELP"
        r"|DB_|CREATE_DB|DROP_|DUP_KEYNAME|DUPLICATED_VALUE|FORBID_SCHEMA|FRM_|HASHCHK|INVALID_DEFAULT"
        r"|INVALID_ON_UPDATE|KEY_PART|KEY_REF|MULTIPLE_PRI|NISAMCHK|NO_RAID|NULL_COLUMN|PRIMARY_CANT"
        r"|SPATIAL_CANT|TABLE_(?:CANT|EXISTS|MUST)|TOO_(?:BIG_D|LONG_KEY|MANY_KEY|MUCH)|UNION_TABLES"
        r"|WRONG_(?:AUTO|COLUMN_NAME|FK|KEY|MRG|NAME|STRING|SUB)|REQUIRES_PRIMARY|BAD_FT|CYCLIC",
    "what writes rows or files":
        r"DELAYED|.*_DELAYED|FIELD_SPECIFIED|INSERT_INFO|UPDATE_INFO|LOAD_|NO_DEFAULT|SELECT_REDUCED"
        r"|TEXTFILE|UPDATE_|WRONG_FIELD_TERM|NONUPDATEABLE|CANT_DELETE|WARNING_NOT_COMPLETE|DUMP_NOT",
    "users and grants":
        r"CANNOT_USER|GRANT_WRONG|HOSTNAME|USERNAME|ILLEGAL_GRANT|NONEXISTING_PROC|NO_PERMISSION"
        r"|PASSW|PROC_AUTO|REVOKE",
    "what defines routines, triggers and views":
        r"SP_|TRG_|.*_TRG|VIEW_|UDF_|NO_TRIGGERS|CONFLICTING_DECL|TOO_LONG_BODY|STMT_HAS|EXEC_STMT"
        r"|PS_|DUP_ARGUMENT|WRONG_MAGIC",
    "the distributed transactions and locks that nobody here asks for":
        r"XA|TABLE_NOT_LOCKED|LOCK_OR_ACTIVE|CANT_DO_THIS|WRONG_LOCK|NO_SUCH_THREAD|KILL_DENIED",
    "the variables that nobody here sets":
        r".*_VARIABLE|.*_LOCAL_VAR|SET_CONSTANTS|VAR_CANT|CANT_USE_OPTION|UNKNOWN_KEY_CACHE",
    "notes and lines of the server's own log":
        r"WARN_|CUT_VALUE|READY|STARTUP|GOT_SIGNAL|NO$|YES$|WSAS_|NO_FILE_MAPPING|DIFF_GROUPS"
        r"|NO_GROUP|ORDER_WITH",
    "what only the server knows, in its own words": r"UNKNOWN_ERROR",
}  # fmt: skip
_MYSQL = {reason: re.compile(names) for reason, names in MYSQL.items()}

# PyMySQL raises only some of the numbers of MySQL's C library; these it never does.
NOT_PYMYSQL = frozenset({
    *range(2000, 2002), 2004, *range(2009, 2012), *range(2015, 2026), *range(2028, 2049),
    *range(2050, 2055), *range(2056, 2059), 2060, *range(2062, 2073),
})  # fmt: skip

# By the names that oracledb gives its own numbers.
ORACLE = re.compile(
    r"MISSING_ERROR|POOL_|.*_POOL|NOT_A_QUERY|NO_STATEMENT|CURSOR_|NOT_SUBSCRIBED|SUBSCR|MESSAGE_HAS"
    r"|WRONG_|ARGS_|KEYWORD|MIXED_|EXPECTING|DUPLICATED_P|INCORRECT_VAR|LIBRARY_|THIN_|THICK_|INIT_"
    r"|INVALID_(?:MAKEDSN|OCI|POOL|LOB|OBJECT|COLL|ARRAYSIZE|TPC|CALLABLE|END_USER|ENUM|REF_C|BIND|PASSW)"
    r"|OBJECT_|MISSING_TYPE|MISSING_BIND|EXECUTE_MODE|DBOBJECT|DML_|MISMATCHED|NAMED_POOL"
    r"|PROTOCOL_HANDLER|PASSWORD_TYPE|ARROW_(?:C_API|SPARSE)|PARAMS_HOOK|PAYLOAD|SCROLL|EMPTY_STATEMENT"
    r"|REGISTER_QUERY|END_USER|NAME_HAS|PARAM_SIZE|TEMPLATE|TIME_NOT|PYTHON_|UNSUPPORTED_(?:TYPE_SET|INB"
    r"|PYTHON|PIPE|ARROW_TYPE|DEEP|TXN|DB_OPEN)|ARRAYS_OF|SELF_BIND|LOB_OF|OSON_FIELD|OPERATION_"
    r"|SESSIONLESS|CANNOT_CONVERT_FROM|ARRAY_DML|TOO_MANY_BATCH|DPL_|NOT_IMPLEMENTED|INTERNAL_CREATION"
)  # each is a call that our code would have to make

# Codes of services that nobody here calls, or of what is written.
AWS = frozenset({
    "AnnotationLimitExceeded", "AnnotationNameTooLong", "BucketAlreadyExists",
    "BucketAlreadyOwnedByYou", "EncryptionTypeMismatch", "IdempotencyParameterMismatch",
    "InvalidAnnotationName", "InvalidAuthorizationMessageException", "InvalidClientMetadataException",
    "InvalidRedirectUriException", "InvalidWriteOffset", "MalformedPolicyDocument",
    "NoSuchAnnotation", "ObjectAlreadyInActiveTierError", "UnsupportedGrantTypeException",
})  # fmt: skip


def is_left_out_of_mysql(name: str) -> bool:
    """Tell whether a number of this name is left out for a reason."""
    return any(names.match(name) for names in _MYSQL.values())
