"""The exception classes that say too little by themselves to be classified, each with the reason."""

from collections.abc import Mapping

_BASES = "DatabaseError Error InterfaceError InternalError NotSupportedError OperationalError ProgrammingError"

_NUMBER = "a base class of PEP 249: SQLSTATE, the vendor's number or the words of a login decide"
_WARNED = "PEP 249 wants it; the driver never raises it to a reader"
_OURS = "it means that our own code asks the library for something wrong: a bug to report"
_BASE = "a base class: those below it say what happened"
_CHAIN = "it wraps another exception, and that one decides"
_ANSWER = "the status or the code of the answer it carries decides"
_PYTHON = "Python's own word for a mistake in a program"
_ERRNO = "its errno decides"
_OTHER = "it belongs to a part of the library that is not used here"
_THEM = "only the server knows what it means, and its words are shown"
_STOP = "a thread was stopped from here; who stopped it has said why"

DELIBERATE: Mapping[str, Mapping[str, str]] = {
    _NUMBER: {
        "psycopg": _BASES, "psycopg2": _BASES, "pymysql.err": f"{_BASES} MySQLError",
        "sqlite3": _BASES, "oracledb.exceptions": _BASES, "pymssql.exceptions": _BASES,
        "pymssql._mssql": "MSSQLException MSSQLDatabaseException MSSQLDriverException",
        "hdbcli.dbapi": f"{_BASES} ExecuteManyError ExecuteManyErrorEntry",
        "adbc_driver_manager": _BASES, "_duckdb": _BASES.replace(" InterfaceError", ""),
        "sqlalchemy.exc": f"{_BASES.replace(' Error', '')} DBAPIError SQLAlchemyError StatementError"
                          " EmulatedDBAPIException",
    },
    _WARNED: {
        "psycopg": "Warning", "psycopg2": "Warning", "sqlite3": "Warning",
        "oracledb.exceptions": "Warning", "pymssql.exceptions": "Warning",
        "hdbcli.dbapi": "Warning", "_duckdb": "Warning",
    },
    _THEM: {
        "psycopg.errors": "ConfigFileError DuplicateFile FileNameTooLong InternalError_"
                          " LockFileExists SystemError UndefinedFile",
        "_duckdb": "FatalException InternalException IOException TransactionException HTTPException",
        "dagster._core.errors": "DagsterLaunchFailedError DagsterMaxRetriesExceededError"
                                " DagsterRedactedUserCodeError",
    },
    _CHAIN: {
        "boto3.exceptions": "RetriesExceededError S3TransferFailedError S3UploadFailedError",
        "s3transfer.exceptions": "FatalError RetriesExceededError S3CopyFailedError"
                                 " S3DownloadFailedError S3UploadFailedError S3ValidationError",
        "urllib3.exceptions": "MaxRetryError RequestError",
        "requests.exceptions": "RetryError",
        "pandas.errors": "DatabaseError",
        "dagster._core.definitions.events": "Failure RetryRequested",
        "dagster._core.errors": "DagsterConfigMappingFunctionError"
            " DagsterExecutionHandleOutputError DagsterExecutionLoadInputError"
            " DagsterExecutionStepExecutionError DagsterResourceFunctionError"
            " DagsterSubprocessError DagsterTypeCheckError DagsterTypeLoadingError"
            " DagsterUserCodeExecutionError FreshnessPolicySensorExecutionError"
            " HookExecutionError JobError PartitionExecutionError RunStatusSensorExecutionError"
            " ScheduleExecutionError SensorExecutionError",
        "builtins": "BaseExceptionGroup ExceptionGroup",
    },
    _ANSWER: {
        "botocore.exceptions": "ClientError EventStreamError WaiterError",
        "httpx": "HTTPStatusError",
        "requests.exceptions": "HTTPError",
        "urllib3.exceptions": "ResponseError",
        "pandera.errors": "SchemaError SchemaErrors ParserError PysparkSchemaError",
    },
    _ERRNO: {
        "builtins": "OSError BlockingIOError ChildProcessError FileExistsError InterruptedError"
                    " ProcessLookupError",
    },
    _STOP: {
        "_duckdb": "InterruptException",
        "pyarrow.lib": "ArrowCancelled",
        "asyncio.exceptions": "CancelledError",
        "concurrent.futures._base": "CancelledError",
        "psycopg.errors": "CancellationTimeout _WaitTimeout",
    },
    _BASE: {
        "boto3.exceptions": "Boto3Error",
        "botocore.exceptions": "BaseEndpointResolverError BotoCoreError EndpointProviderError"
                               " LoginError SSOError",
        "httpx": "HTTPError RequestError TransportError",
        "urllib3.exceptions": "HTTPError PoolError",
        "requests.exceptions": "RequestException",
        "http.client": "HTTPException",
        "pyarrow.lib": "ArrowException",
        "dagster_shared.error": "DagsterError",
        "pandera.errors": "ReducedPickleExceptionBase",
        "builtins": "BaseException Exception",
        "alembic.util.exc": "CommandError",
        "subprocess": "SubprocessError",
    },
    _PYTHON: {
        "builtins": "ArithmeticError AssertionError AttributeError BufferError FloatingPointError"
            " GeneratorExit ImportError IndentationError IndexError KeyError LookupError"
            " ModuleNotFoundError NameError NotImplementedError OverflowError RecursionError"
            " ReferenceError RuntimeError StopAsyncIteration StopIteration SyntaxError SystemError"
            " SystemExit TabError TypeError UnboundLocalError ValueError ZeroDivisionError",
        "decimal": "Clamped ConversionSyntax DecimalException DivisionByZero DivisionImpossible"
            " DivisionUndefined FloatOperation Inexact InvalidContext InvalidOperation Overflow"
            " Rounded Subnormal Underflow",
        "io": "UnsupportedOperation",
        "_queue": "Empty",
        "concurrent.futures._base": "BrokenExecutor",
        "subprocess": "CalledProcessError TimeoutExpired",
    },
    _OURS: {
        "psycopg": "Rollback",
        "psycopg.errors": "ActiveSqlTransaction BranchTransactionAlreadyActive"
            " CantChangeRuntimeParam DependentObjectsStillExist"
            " DependentPrivilegeDescriptorsStillExist DiagnosticsException"
            " HeldCursorRequiresSameIsolationLevel InFailedSqlTransaction"
            " InappropriateAccessModeForBranchTransaction"
            " InappropriateIsolationLevelForBranchTransaction InvalidCursorState"
            " InvalidLocatorSpecification InvalidSavepointSpecification"
            " InvalidTransactionInitiation InvalidTransactionState InvalidTransactionTermination"
            " LocatorException NoActiveSqlTransaction NoActiveSqlTransactionForBranchTransaction"
            " NoAdditionalDynamicResultSetsReturned NoData PipelineAborted SavepointException"
            " SchemaAndDataStatementMixingNotSupported"
            " StackedDiagnosticsAccessedWithoutActiveHandler UnsafeNewEnumValueUsage",
        "sqlalchemy.exc": "AmbiguousColumnError AmbiguousForeignKeysError ArgumentError"
            " AwaitRequired CircularDependencyError CompileError ConstraintColumnNotFoundError"
            " DuplicateColumnError IdentifierError IllegalStateChangeError InvalidRequestError"
            " MissingGreenlet MultipleResultsFound NoForeignKeysError NoInspectionAvailable"
            " NoReferenceError NoReferencedColumnError NoReferencedTableError NoResultFound"
            " NoSuchColumnError ObjectNotExecutableError PendingRollbackError ResourceClosedError"
            " UnboundExecutionError UnsupportedCompilationError",
        "_duckdb": "BinderException CatalogException ConnectionException DependencyException"
            " InvalidInputException InvalidTypeException NotImplementedException ParserException"
            " ResourceInUseException SequenceException SyntaxException",
        "pyarrow.lib": "ArrowIndexError ArrowKeyError ArrowNotImplementedError ArrowTypeError",
        "pandas.errors": "AbstractMethodError ClosedFileError DataError DuplicateLabelError"
            " IncompatibleFrequency IndexingError InvalidComparison InvalidIndexError"
            " InvalidVersion LossySetitemError MergeError NoBufferPresent NullFrequencyError"
            " OptionError PossibleDataLossError SpecificationError UndefinedVariableError"
            " UnsortedIndexError UnsupportedFunctionCall",
        "pandera.errors": "BackendNotFoundError BaseStrategyOnlyError",
        "httpx": "CookieConflict RequestNotRead ResponseNotRead StreamClosed StreamConsumed"
                 " StreamError",
        "httpcore": "ConnectionNotAvailable",
        "http.client": "CannotSendHeader CannotSendRequest ImproperConnectionState NotConnected"
                       " ResponseNotReady UnimplementedFileMode",
        "urllib3.exceptions": "ClosedPoolError EmptyPoolError FullPoolError HostChangedError TimeoutStateError"
                              " UnrewindableBodyError",
        "requests.exceptions": "StreamConsumedError URLRequired UnrewindableBodyError",
        "boto3.exceptions": "InvalidCrtTransferConfigError NoVersionFound ResourceLoadException"
                            " ResourceNotExistsError UnknownAPIVersionError",
        "s3transfer.exceptions": "InvalidSubscriberMethodError TransferNotDoneError",
        "botocore.exceptions": "AliasConflictParameterError ApiVersionNotFoundError"
            " AwsChunkedWrapperError DataNotFoundError MissingParametersError"
            " MissingServiceIdError OperationNotPageableError RangeError"
            " UndefinedModelAttributeError UnknownClientMethodError"
            " UnknownEndpointResolutionBuiltInName UnknownKeyError UnknownParameterError"
            " UnknownServiceError UnknownServiceStyle UnseekableStreamError"
            " UnsupportedServiceProtocolsError ValidationError",
        "zipfile": "LargeZipFile",
        "pydantic.errors": "PydanticForbiddenQualifier PydanticImportError"
            " PydanticInvalidForJsonSchema PydanticSchemaGenerationError"
            " PydanticUndefinedAnnotation PydanticUserError",
        "pydantic_core._pydantic_core": "PydanticCustomError PydanticKnownError PydanticOmit"
            " PydanticSerializationError PydanticSerializationUnexpectedValue PydanticUseDefault"
            " SchemaError",
        "dagster_shared.check.functions": "CheckError ElementCheckError NotImplementedCheckError"
                                          " ParameterCheckError",
        "dagster._core.errors": "DagsterEventLogInvalidForRun"
            " DagsterExecutionPlanSnapshotNotFoundError DagsterExecutionStepNotFoundError"
            " DagsterInvalidAssetKey DagsterInvalidConfigDefinitionError"
            " DagsterInvalidDagsterTypeInPythonicConfigDefinitionError"
            " DagsterInvalidDefinitionError DagsterInvalidDeserializationVersionError"
            " DagsterInvalidInvocationError DagsterInvalidMetadata DagsterInvalidObservationError"
            " DagsterInvalidPropertyError DagsterInvalidPythonicConfigDefinitionError"
            " DagsterInvalidSubsetError DagsterInvariantViolationError DagsterRunAlreadyExists"
            " DagsterRunConflict DagsterRunNotFoundError DagsterRunTooLargeError"
            " DagsterSnapshotDoesNotExist DagsterStepOutputNotFoundError"
            " DagsterTypeCheckDidNotPass DagsterUndefinedDataVersionError"
            " DagsterUnknownPartitionError DagsterUnknownResourceError"
            " DagsterUnknownStepStateError",
        "alembic.util.exc": "AutogenerateDiffsDetected DatabaseNotAtHead",
    },
    _OTHER: {
        "boto3.exceptions": "DynamoDBNeedsConditionError DynamoDBNeedsKeyConditionError"
                            " DynamoDBOperationNotSupportedError",
        "botocore.exceptions": "InvalidExpressionError StubAssertionError StubResponseError"
                               " UnStubbedResponseError WaiterConfigError",
        "email.errors": "MessageDefect",
        "openpyxl.utils.exceptions": "CellCoordinatesException IllegalCharacterError"
            " NamedRangeException ReadOnlyWorkbookException SheetTitleException"
            " WorkbookAlreadySaved",
        "pandas.errors": "NumExprClobberingError NumbaUtilError PyperclipException"
                         " PyperclipWindowsException",
        "dagster._core.errors": "DagsterAssetBackfillDataLoadError DagsterAssetCheckFailedError"
            " DagsterBackfillFailedError DagsterObjectStoreError DagsterPipesExecutionError",
        "socket": "_GiveupOnSendfile",
    },
}  # fmt: skip

# Each SQLSTATE that leads to no row; psycopg2 has the same classes as psycopg, without their codes.
STATES = frozenset({
    "02000", "02001", "0B000", "0F000", "0F001", "0Z000", "0Z002", "24000", "25000", "25001",
    "25002", "25003", "25004", "25005", "25007", "25008", "25P01", "25P02", "2B000", "2BP01",
    "2D000", "3B000", "3B001", "55P02", "55P04",  # our own statements are wrong
    "58000", "58P01", "58P02", "58P03", "F0000", "F0001", "XX000",  # only the server knows
})  # fmt: skip


def reasons() -> dict[str, str]:
    """Give the reason of each deliberately unclassified class by its full name."""
    return {
        f"{module}.{name}": reason
        for reason, modules in DELIBERATE.items()
        for module, names in modules.items()
        for name in names.split()
    }
