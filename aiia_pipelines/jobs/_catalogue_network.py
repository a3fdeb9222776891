"""Failures between the worker and a server: the network, encryption and the login."""

from aiia_pipelines.jobs import _catalogue_checks as check
from aiia_pipelines.jobs._catalogue_row import AGAIN, FAILED, NEVER, FailureClass, found_by

# A row is what it counts as, then cause, remedy, checks and signals: kept as a table.
# fmt: off
NETWORK = (
    FailureClass("connection-timeout", "Connection Timeout", "network", FAILED, "source", AGAIN,
        "Nothing answered in time: a firewall drops the packets, or the server hangs.",
        "Allow outbound traffic from this worker to {place}, then run a Connection Test.",
        check.REACH_IN_TIME,
        found_by("errno:ETIMEDOUT connect:class:TimeoutError timeout:connect login:timeout "
                 "class:psycopg.errors.ConnectionTimeout class:ConnectTimeout")),
    FailureClass("connection-refused", "Connection Refused", "network", FAILED, "source", AGAIN,
        "The host answered, but no service listens on that port.",
        "Start the service at {place}, or correct host and port in the connector.",
        check.REACH,
        found_by("errno:ECONNREFUSED class:ConnectionRefusedError login:refused")),
    FailureClass("connection-lost", "Connection Lost", "network", FAILED, "source", AGAIN,
        "The server or something between closed the connection while it was in use.",
        "Look for a restart, an idle limit or a proxy that ends sessions at {place}, then retry.",
        check.REACH,
        found_by("sqlstate:08 sqlstate:57P01 sqlstate:57P02 sqlstate:57P05 sqlstate:25P03 "
                 "errno:ECONNRESET errno:ECONNABORTED errno:EPIPE errno:ENOTCONN errno:ESHUTDOWN "
                 "errno:ENETRESET errno:ESTALE class:ConnectionError class:ssl.SSLEOFError "
                 "class:ssl.SSLZeroReturnError connection:lost login:lost aws:BadDigest "
                 "aws:IncompleteBody")),
    FailureClass("read-timeout", "Read Timeout", "network", FAILED, "source", AGAIN,
        "The connection stands, but the server sent nothing for too long.",
        "Look for blocked sessions or heavy load at {place}, and for a stalled network path.",
        check.REACH,
        found_by("class:TimeoutError read:timeout class:ReadTimeout http:408 aws:RequestTimeout "
                 "aws:RequestTimeoutException")),
    FailureClass("network-unreachable", "Network Unreachable", "network", FAILED, "source", AGAIN,
        "This worker has no route to the server.",
        "Bring up the network, VPN or tunnel that leads to {place}.",
        check.ROUTE,
        found_by("errno:EHOSTUNREACH errno:ENETUNREACH errno:EHOSTDOWN errno:ENETDOWN "
                 "errno:EADDRNOTAVAIL")),
    FailureClass("host-not-found", "Host Not Found", "network", FAILED, "source", NEVER,
        "The name server knows no host of that name.",
        "Correct the host in the connector, or add the name to the DNS this worker asks.",
        check.NAME,
        found_by("errno:EAI_NONAME errno:EAI_NODATA errno:EAI_FAIL errno:EAI_ADDRFAMILY "
                 "class:socket.gaierror dns:not-found login:host")),
    FailureClass("name-server-unavailable", "Name Server Unavailable", "network", FAILED,
        "platform", AGAIN,
        "The name server gave no answer, so the address of the host is not known.",
        "Check the name servers of this worker; the host name itself may well be right.",
        check.NAME,
        found_by("errno:EAI_AGAIN dns:try-again login:name-server")),
    FailureClass("proxy-failure", "Proxy Failure", "network", FAILED, "platform", NEVER,
        "A proxy on the way refused to pass the request on, or asks for a login of its own.",
        "Correct the proxy settings of this worker, or have {place} exempted from the proxy.",
        check.PROXY,
        found_by("proxy:failure http:407")),
    FailureClass("tls-failure", "TLS Failure", "network", FAILED, "source", NEVER,
        "Both sides could not agree on encryption, or the certificate is not trusted here.",
        "Install the certificate authority of {place} here, or correct the TLS options of the "
        "connector.",
        check.TLS,
        found_by("class:ssl.SSLError tls:failure login:tls")),
    FailureClass("tls-certificate-expired", "TLS Certificate Expired", "network", FAILED, "source",
        NEVER,
        "The certificate of the server is past its last day, or not valid yet.",
        "Have the certificate at {place} renewed; if it is valid, set the clock of this worker.",
        check.TLS_DATES,
        found_by("tls:expired")),
    FailureClass("tls-name-mismatch", "TLS Name Mismatch", "network", FAILED, "source", NEVER,
        "The certificate of the server was issued for another name than the connector uses.",
        "Write the name that is in the certificate as the host of the connector, or have one "
        "issued for {host}.",
        check.TLS_NAME,
        found_by("tls:name")),
    FailureClass("tls-protocol", "TLS Protocol", "network", FAILED, "source", NEVER,
        "The two sides share no version of TLS and no cipher, or the port speaks no TLS.",
        "Have TLS 1.2 or newer turned on at {place}, or connect to the port that speaks TLS.",
        check.TLS_PROTOCOL,
        found_by("tls:protocol")),
)

AUTHENTICATION = (
    FailureClass("invalid-credentials", "Invalid Credentials", "authentication", FAILED, "source",
        NEVER,
        "The login was refused: the user or the password, key or token is wrong.",
        "Renew the credentials the connector refers to, then run a Connection Test.",
        check.LOGIN,
        found_by("sqlstate:28 sqlstate:08004 login:credentials http:401 aws:InvalidAccessKeyId "
                 "aws:SignatureDoesNotMatch aws:InvalidToken aws:InvalidSecurity aws:NotSignedUp "
                 "aws:AuthorizationHeaderMalformed aws:UnrecognizedClientException aws:401 "
                 "aws:InvalidClientTokenId aws:MissingAuthenticationToken "
                 "aws:IncompleteSignature aws:InvalidIdentityToken aws:IDPRejectedClaim "
                 "aws:UnauthorizedException aws:UnauthorizedClientException "
                 "aws:InvalidClientException aws:InvalidGrantException aws:InvalidScopeException "
                 "aws:AuthorizationPendingException")),
    FailureClass("credentials-expired", "Credentials Expired", "authentication", FAILED, "source",
        NEVER,
        "The password, key or token was right once, but its time is over.",
        "Set a new password or issue a new key at the source, and store it where the connector "
        "looks for it.",
        check.LOGIN,
        found_by("login:expired aws:ExpiredToken aws:ExpiredTokenException "
                 "aws:TokenRefreshRequired aws:ExpiredTradeInTokenException http:440 http:498")),
    FailureClass("login-not-allowed", "Login Not Allowed", "authentication", FAILED, "source",
        NEVER,
        "The server knows the user but does not let it in: the account is locked, may not log in, "
        "or not from this host.",
        "Have the account unlocked, and this worker's address added to those the server lets in.",
        check.LOGIN,
        found_by("login:not-allowed sqlstate:28000 aws:RegionDisabledException "
                 "aws:OutboundWebIdentityFederationDisabledException")),
    FailureClass("second-factor-required", "Second Factor Required", "authentication", FAILED,
        "source", NEVER,
        "The server wants a second factor, which a job that runs alone cannot give.",
        "Use a service account that needs no second factor, or a token made for programs.",
        check.LOGIN,
        found_by("login:second-factor")),
    FailureClass("permission-denied", "Permission Denied", "authentication", FAILED, "source",
        NEVER,
        "The login worked, but it may not read what the stream asks for.",
        "Grant the user of the connector read access to the table, schema or file.",
        check.GRANTS,
        found_by("sqlstate:42501 errno:EACCES errno:EPERM class:PermissionError http:402 http:403 "
                 "http:451 aws:AccessDenied aws:AllAccessDisabled aws:KMS.DisabledException "
                 "aws:AccountProblem aws:InvalidObjectState aws:Forbidden aws:403 "
                 "aws:AccessDeniedException aws:AuthorizationError "
                 "aws:ObjectNotInActiveTierError aws:SessionDurationEscalationException "
                 "sqlstate:0L sqlstate:0P")),
    FailureClass("clock-skew", "Clock Skew", "authentication", FAILED, "platform", NEVER,
        "The clock of this worker and that of the source differ too much for a signed request.",
        "Set the clock of the worker by a time server, then retry.",
        check.everywhere("date -u"),
        found_by("aws:RequestTimeTooSkewed aws:RequestExpired")),
)
