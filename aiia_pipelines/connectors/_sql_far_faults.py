"""What the error numbers of Oracle, SQL Server and SAP HANA mean, as their manuals list them."""

import re
from collections.abc import Mapping

from aiia_pipelines.connectors._sql_wanted import Told

# Before a login the drivers differ in numbers, but not much in words. The order matters.
_NETWORK = tuple(
    (re.compile(words, re.IGNORECASE), signal)
    for words, signal in (
        (r"certificate|\bssl\b|\btls\b", "tls:failure"),
        (r"timed? ?out|timeout", "errno:ETIMEDOUT"),
        (r"refused", "errno:ECONNREFUSED"),
        (
            r"cannot resolve|resolve host|unknown host|name or service|\[Errno -[235]\]",
            "dns:not-found",
        ),
        (r"unreachable|no route", "errno:EHOSTUNREACH"),
        (r"reset|closed|broken|lost|eof|dead|not connected", "connection:lost"),
    )
)
_VALUE = re.compile(r"'(?:[^']|'')*'")
_ABOUT_VALUES = {"sqlstate:22000"}


def _inverted(rows: Mapping[str, str]) -> dict[str, str]:
    return {number: signal for signal, numbers in rows.items() for number in numbers.split()}


_ORACLE = _inverted({
    "login:credentials": "ORA-01017 ORA-01005 ORA-28030 ORA-28040 DPY-4001",
    "login:expired": "ORA-28001 ORA-28002 DPY-2033",
    "login:not-allowed": "ORA-28000 ORA-28009 ORA-01035",
    "sqlstate:42501": "ORA-01031 ORA-01045 ORA-41900",
    "source:not-found": "ORA-12505 ORA-12514 ORA-12154 ORA-12504 DPY-6001 DPY-6003 DPY-4000",
    "source:unavailable": "ORA-01033 ORA-01034 ORA-01089 ORA-01090 ORA-12516 ORA-12519 ORA-12520"
                          " ORA-12528 ORA-27101 ORA-01109 ORA-12564 DPY-6000",
    "login:too-many": "ORA-00018 ORA-00020 ORA-02391 ORA-12523 DPY-4005",
    "source:quota": "ORA-02392 ORA-02393 ORA-02394 ORA-02395",
    "connection:lost": "ORA-00028 ORA-01012 ORA-01092 ORA-02396 ORA-02399 ORA-03113 ORA-03114"
                       " ORA-03135 ORA-12537 ORA-12547 ORA-12570 ORA-12571 ORA-12583 DPY-1001"
                       " DPY-4011 DPY-4033",
    "query:timeout": "ORA-03136 ORA-03156 DPY-4024 ORA-00040 ORA-56735",
    "query:cancelled": "ORA-01013",
    "sqlstate:40001": "ORA-00054 ORA-00060 ORA-01555 ORA-04021 ORA-08176 ORA-08177 ORA-30006"
                      " ORA-01466 ORA-22924",
    "sqlstate:42P01": "ORA-00942 ORA-04043 ORA-00980 ORA-04063",
    "sqlstate:42703": "ORA-00904",
    "sqlstate:53100": "ORA-01652 ORA-01653 ORA-01536 ORA-01114 ORA-19502",
    "sqlstate:53200": "ORA-04030 ORA-04031",
    "sqlstate:54000": "ORA-01000 ORA-01467",
    "sqlstate:22000": "ORA-01426 ORA-01476 ORA-01722 ORA-01830 ORA-01839 ORA-01841 ORA-01843"
                      " ORA-01847 ORA-01858 ORA-01861 ORA-06502 ORA-01427 ORA-01489 ORA-22835"
                      " DPY-4002 DPY-4003 DPY-4004 DPY-4007 DPY-4012 DPY-4013 DPY-4014 DPY-4015"
                      " DPY-4016 DPY-4031 DPY-4036 DPY-4037 DPY-4038 DPY-4039 DPY-4040 DPY-4042"
                      " DPY-8000 DPY-8001 DPY-8002",
    "sqlstate:XX001": "ORA-01578 ORA-00600 ORA-08103 ORA-26040",
    "sqlstate:22021": "ORA-29275 ORA-12703",
    "query:invalid": "ORA-00900 ORA-00903 ORA-00905 ORA-00907 ORA-00909 ORA-00911 ORA-00918 ORA-00920"
                     " ORA-00921 ORA-00923 ORA-00932 ORA-00933 ORA-00936 ORA-00937 ORA-00979 ORA-00984"
                     " ORA-01456 ORA-01740 ORA-01747 ORA-01756 ORA-01789 ORA-16000 ORA-00957 ORA-00960"
                     " DPY-2041 DPY-2042 DPY-3001 DPY-3006 DPY-3007 DPY-3012 DPY-3017 DPY-3018 DPY-3019"
                     " DPY-3021 DPY-3022 DPY-3023 DPY-3024 DPY-3030 DPY-3031 DPY-3032 DPY-3033 DPY-3038"
                     " DPY-3040 DPY-3042",
    "config:invalid": "DPY-2018 DPY-2023 DPY-2025 DPY-2029 DPY-2031 DPY-2032 DPY-2034 DPY-2049 DPY-2058"
                      " DPY-2059 DPY-3029 DPY-4017 DPY-4018 DPY-4021 DPY-4026 DPY-4027 DPY-4028 DPY-4030"
                      " DPY-4032",
    "tls:failure": "ORA-28860 ORA-28759 ORA-29024 ORA-28862",
    "tls:name": "DPY-6002 DPY-6006 ORA-29002 ORA-29003",
    "tls:protocol": "DPY-6009",
    "proxy:failure": "DPY-6004",
    "protocol:error": "ORA-12541 ORA-12560 ORA-12566 ORA-12569 DPY-3010 DPY-3015 DPY-3016 DPY-4019"
                      " DPY-4035 DPY-5000 DPY-5001 DPY-5002 DPY-5003 DPY-5004 DPY-5005 DPY-5006 DPY-5007"
                      " DPY-5009 DPY-5010 DPY-5011 DPY-5014 DPY-5015 DPY-5016 DPY-6008",
})  # fmt: skip
_MSSQL = _inverted({
    "login:credentials": "18456",
    "login:expired": "18487 18488",
    "login:not-allowed": "18452 18470 18486 40615 40914",
    "source:not-found": "4060 4063 911 40532",
    "sqlstate:42501": "229 230 262 297 300 371 916 978",
    "source:unavailable": "922 924 927 942 945 17142 18401 18451 18461 40613 40197 40501",
    "login:too-many": "17809 18468 10928 10929 10936 1102",
    "connection:lost": "233 596 3902 6005 10053 10054 10060 20004 20006 20017 20047 21",
    "query:timeout": "-2 20003",
    "sqlstate:40001": "1204 1205 1222 3951 3952 3958 3960 3961 3966",
    "sqlstate:42P01": "208 2501 2812 15009",
    "sqlstate:42703": "207 209 4104",
    "sqlstate:42883": "195 4121",
    "sqlstate:22000": "220 232 235 241 242 245 248 295 296 512 8114 8115 8134 8152 8169 9420 13609",
    "sqlstate:53100": "1101 1105 9002",
    "sqlstate:53200": "701 802 8645 8651",
    "sqlstate:54000": "191 8623 8631 8632",
    "sqlstate:XX001": "605 823 824 825 5242",
    "query:invalid": "102 105 106 116 130 134 137 144 145 147 156 164 170 174 179 205 319 402 1033 3906"
                     " 4145 8117 8120 8155 8156 8162",
    # The port answers, as a probe has shown, and what answers is no SQL Server.
    "protocol:error": "20009",
})  # fmt: skip
_HANA = _inverted({
    "login:credentials": "10 663 591 668",
    "login:expired": "414",
    "login:not-allowed": "415 416",
    "sqlstate:42501": "258",
    "sqlstate:42P01": "259 397",
    "sqlstate:3F000": "362",
    "sqlstate:42703": "260",
    "sqlstate:42883": "328",
    "source:not-found": "2006 -10816 332",
    "source:unavailable": "1890 1888",
    "login:too-many": "1033 587",
    "connection:lost": "-10807 -10806 -10710 -10821 594",
    "query:timeout": "613 1347",
    "query:cancelled": "139",
    "sqlstate:40001": "129 131 133 138 146 645",
    "sqlstate:53200": "4 1000002",
    "sqlstate:54000": "5 1038 612 1136",
    "sqlstate:22000": "303 304 305 314 335 336 339 266 274 411 411 293 384",
    "sqlstate:53100": "1028 3106",
    "sqlstate:XX001": "2048 1003",
    "query:invalid": "257 261 262 263 264 265 267 268 269 270 271 276 277 278 280 281 299 321 322 7 156",
    "tls:failure": "-10760 -10761 -10762 -10763",
})  # fmt: skip
_ORACLE_CODE = re.compile(r"\b(?:ORA|DPY)-\d{4,5}\b")
_DRIVER_WORDS = re.compile(r"DB-Lib error message.*", re.DOTALL)


def oracle_meaning(driver: BaseException, *, login: bool) -> Told:
    """Tell what an exception of oracledb means."""
    told = driver.args[0] if driver.args else None
    words = str(getattr(told, "message", None) or driver)
    codes = [str(getattr(told, "full_code", "")), *_ORACLE_CODE.findall(words)]
    signal = next((_ORACLE[code] for code in codes if code in _ORACLE), None)
    return _told(driver, _ORACLE_CODE.sub("", words).lstrip(": "), signal, login=login)


def mssql_meaning(driver: BaseException, *, login: bool) -> Told:
    """Tell what an exception of pymssql means; the number stands alone or beside the words in a pair."""
    told = driver.args[0] if len(driver.args) == 1 else driver.args
    pair = told if isinstance(told, tuple) and len(told) > 1 else (None, str(driver))
    words = pair[1].decode(errors="replace") if isinstance(pair[1], bytes) else str(pair[1])
    # After the server's own words those of the driver follow, with addresses.
    first = _DRIVER_WORDS.sub("", words).strip()
    if not first:
        first = "The connection to the server failed"
    return _told(driver, first, _MSSQL.get(str(pair[0])), login=login, all_words=words)


def hana_meaning(driver: BaseException, *, login: bool) -> Told:
    """Tell what an exception of hdbcli means; all failures to connect have one number."""
    number, words = getattr(driver, "errorcode", None), getattr(driver, "errortext", None)
    return _told(driver, str(words or driver), _HANA.get(str(number)), login=login)


def _told(
    driver: BaseException, words: str, signal: str | None, *, login: bool, all_words: str = ""
) -> Told:
    if isinstance(driver, TimeoutError):
        signal = "errno:ETIMEDOUT" if login else "read:timeout"
    if signal is None:
        found = (hit for hint, hit in _NETWORK if hint.search(all_words or words))
        signal = next(found, None)
        if signal == "errno:ETIMEDOUT" and not login:
            signal = "read:timeout"
    if signal is None and login and not driver.__class__.__module__.startswith(_DRIVERS):
        signal = "protocol:error"
    if signal in _ABOUT_VALUES:
        words = _VALUE.sub("'…'", words)
    return Told(words, (signal,) if signal else ())


_DRIVERS = ("oracledb", "pymssql", "hdbcli")
