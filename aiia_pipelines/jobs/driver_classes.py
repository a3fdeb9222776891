"""What the exception classes of drivers say by themselves, in the signals of the failure catalogue.

Only classes that mean one thing are here. What a base class means, its number decides; a class that is
`BROAD` counts when nothing else in the chain says more.
"""

from collections.abc import Mapping

_Words = Mapping[str, Mapping[str, str]]


def _named(words: _Words) -> dict[str, str]:
    return {
        f"{module}.{name}": signal
        for module, signals in words.items()
        for signal, names in signals.items()
        for name in names.split()
    }


_BOTOCORE_CONFIG = (
    "ConfigNotFound ConfigParseError EndpointResolutionError EndpointVariantError"
    " InfiniteLoopConfigError InvalidChecksumConfigError InvalidConfigError InvalidDNSNameError"
    " InvalidDefaultsMode InvalidEndpointConfigurationError"
    " InvalidEndpointDiscoveryConfigurationError InvalidHostLabelError InvalidIMDSEndpointError"
    " InvalidIMDSEndpointModeError InvalidMaxRetryAttemptsError InvalidProxiesConfigError"
    " InvalidRegionError InvalidRetryConfigurationError InvalidRetryModeError MD5UnavailableError"
    " InvalidS3AddressingStyleError InvalidS3UsEast1RegionalEndpointConfigError"
    " InvalidSTSRegionalEndpointsConfigError MissingDependencyException NoRegionError"
    " ParamValidationError ProfileNotFound ServiceNotInRegionError UnknownCredentialError"
    " UnknownEndpointError UnknownFIPSEndpointError UnknownRegionError"
    " UnknownSignatureVersionError UnknownTokenProviderError UnsupportedOutpostResourceError"
    " UnsupportedS3AccesspointConfigurationError UnsupportedS3ArnError"
    " UnsupportedS3ConfigurationError UnsupportedS3ControlArnError"
    " UnsupportedS3ControlConfigurationError UnsupportedSignatureVersionError"
)
_HTTP = {
    "read:timeout": "ReadTimeout WriteTimeout",
    "timeout:connect": "ConnectTimeout",
    "login:too-many": "PoolTimeout",
    "proxy:failure": "ProxyError",
    "config:invalid": "LocalProtocolError UnsupportedProtocol",
}
_BROAD_HTTP = {
    "connection:lost": "ConnectError ReadError WriteError NetworkError",
    "read:timeout": "TimeoutException",
    "protocol:error": "RemoteProtocolError ProtocolError",
}
# What PEP 249 defines so narrowly that every driver means the same by it.
_BROAD_DATABASE = {"sqlstate:22000": "DataError", "sqlstate:23000": "IntegrityError"}
_DATABASES = (
    "psycopg", "psycopg2", "sqlalchemy.exc", "pymysql.err", "sqlite3", "oracledb.exceptions",
    "pymssql.exceptions", "hdbcli.dbapi", "adbc_driver_manager", "_duckdb",
)  # fmt: skip

SURE = _named({
    "builtins": {"source:not-found": "IsADirectoryError NotADirectoryError"},
    "ssl": {"connection:lost": "SSLSyscallError"},
    "socket": {"dns:not-found": "herror"},
    "zipfile": {"data:malformed": "BadZipFile"},
    "gzip": {"data:malformed": "BadGzipFile"},
    "zlib": {"data:malformed": "error"},
    "_lzma": {"data:malformed": "LZMAError"},
    "_csv": {"data:malformed": "Error"},
    "xml.etree.ElementTree": {"data:malformed": "ParseError"},
    "http.client": {
        "connection:lost": "IncompleteRead",
        "protocol:error": "BadStatusLine LineTooLong UnknownProtocol UnknownTransferEncoding",
        "config:invalid": "InvalidURL",
    },
    "sqlalchemy.exc": {
        "sqlstate:42P01": "NoSuchTableError UnreflectableTableError",
        "config:invalid": "NoSuchModuleError NoDBAPILoaded",
        "connection:lost": "DisconnectionError InvalidatePoolError",
    },
    "pymssql.exceptions": {"query:invalid": "ColumnsWithoutNamesError"},
    "_duckdb": {
        "memory:exhausted": "OutOfMemoryException",
        "sqlstate:42501": "PermissionException",
        "sqlstate:23000": "ConstraintException",
        "sqlstate:22000": "ConversionException OutOfRangeException TypeMismatchException",
        "data:malformed": "SerializationException",
    },
    "pyarrow.lib": {"data:malformed": "ArrowSerializationError", "limit:size": "ArrowCapacityError"},
    "pandas.errors": {
        "data:malformed": "ParserError EmptyDataError",
        "sqlstate:22000": "OutOfBoundsDatetime OutOfBoundsTimedelta IntCastingNaNError",
    },
    "pandera.errors": {"config:invalid": "SchemaInitError SchemaDefinitionError"},
    "openpyxl.utils.exceptions": {"data:malformed": "InvalidFileException"},
    "python_calamine": {
        "source:not-found": "WorksheetNotFound TableNotFound",
        "data:malformed": "PasswordError XmlError ZipError",
    },
    "httpx": _HTTP | {
        "config:invalid": "LocalProtocolError UnsupportedProtocol InvalidURL",
        "http:redirect-loop": "TooManyRedirects",
        "data:malformed": "DecodingError",
    },
    "httpcore": _HTTP,
    "h11._util": {"config:invalid": "LocalProtocolError"},
    "urllib3.exceptions": {
        "timeout:connect": "ConnectTimeoutError",
        "read:timeout": "ReadTimeoutError",
        "dns:not-found": "NameResolutionError",
        "proxy:failure": "ProxyError",
        "data:malformed": "DecodeError",
        "protocol:error": "HeaderParsingError ResponseNotChunked BodyNotHttplibCompatible",
        "config:invalid": "LocationParseError LocationValueError URLSchemeUnknown"
                          " ProxySchemeUnknown ProxySchemeUnsupported InvalidHeader",
    },
    "requests.exceptions": {
        "timeout:connect": "ConnectTimeout",
        "read:timeout": "ReadTimeout",
        "proxy:failure": "ProxyError",
        "http:redirect-loop": "TooManyRedirects",
        "data:malformed": "ContentDecodingError InvalidJSONError",
        "config:invalid": "InvalidHeader InvalidProxyURL InvalidSchema InvalidURL MissingSchema",
    },
    "botocore.parsers": {"protocol:error": "ResponseParserError"},
    "botocore.eventstream": {"protocol:error": "ParserError"},
    "botocore.exceptions": {
        "protocol:error": "PaginationError",
        "timeout:connect": "ConnectTimeoutError",
        "read:timeout": "ReadTimeoutError",
        "connection:lost": "ConnectionClosedError IncompleteReadError FlexibleChecksumError"
                           " ChecksumError",
        "proxy:failure": "ProxyConnectionError",
        "login:credentials": "NoCredentialsError PartialCredentialsError CredentialRetrievalError"
                             " NoAuthTokenError TokenRetrievalError SSOTokenLoadError"
                             " LoginTokenLoadError LoginAuthorizationCodeError"
                             " MetadataRetrievalError",
        "login:expired": "UnauthorizedSSOTokenError LoginRefreshRequired",
        "login:second-factor": "RefreshWithMFAUnsupportedError",
        "sqlstate:42501": "LoginInsufficientPermissions",
        "source:rate-limited": "CapacityNotAvailableError",
        "config:invalid": _BOTOCORE_CONFIG,
    },
    "pydantic_core._pydantic_core": {"config:invalid": "ValidationError"},
    "yaml.error": {"config:invalid": "YAMLError"},
    "dagster._core.errors": {
        "platform:code-location": "DagsterCodeLocationLoadError DagsterCodeLocationNotFoundError"
                                  " DagsterDefinitionChangedDeserializationError"
                                  " DagsterImportError DagsterUserCodeLoadError"
                                  " DagsterUserCodeProcessError DagsterUserCodeUnreachableError",
        "config:invalid": "DagsterHomeNotSetError DagsterInvalidConfigError"
                          " DagsterUnmetExecutorRequirementsError",
        "job:cancelled": "DagsterExecutionInterruptedError",
    },
})  # fmt: skip

BROAD = _named(dict.fromkeys(_DATABASES, _BROAD_DATABASE)) | _named({
    "builtins": {"connection:lost": "EOFError"},
    "httpx": _BROAD_HTTP | {"connection:lost": _BROAD_HTTP["connection:lost"] + " CloseError"},
    "httpcore": _BROAD_HTTP,
    "h11._util": {"protocol:error": "RemoteProtocolError ProtocolError"},
    "python_calamine": {"data:malformed": "CalamineError"},
    "urllib3.exceptions": {
        "tls:failure": "SSLError",
        "errno:ECONNREFUSED": "NewConnectionError",
        "connection:lost": "ProtocolError IncompleteRead InvalidChunkLength",
    },
    "requests.exceptions": {
        "tls:failure": "SSLError",
        "connection:lost": "ConnectionError ChunkedEncodingError",
        "read:timeout": "Timeout",
    },
    "botocore.exceptions": {
        "tls:failure": "SSLError",
        "errno:ECONNREFUSED": "EndpointConnectionError",
        "connection:lost": "HTTPClientError ConnectionError ResponseStreamingError",
    },
})  # fmt: skip


# The errors of Dagster reach us as text that keeps only the last name of each class.
OF_DAGSTER = {
    name.rpartition(".")[2]: signal for name, signal in SURE.items() if name.startswith("dagster.")
}

# The word that Arrow's drivers give every failure, whatever the database.
ADBC = {
    "ALREADY_EXISTS": "query:invalid",
    "CANCELLED": "query:cancelled",
    "INTEGRITY": "sqlstate:23000",
    "INVALID_DATA": "data:malformed",
    "IO": "connection:lost",
    "NOT_FOUND": "sqlstate:42P01",
    "TIMEOUT": "read:timeout",
    "UNAUTHENTICATED": "login:credentials",
    "UNAUTHORIZED": "sqlstate:42501",
}
