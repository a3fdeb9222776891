"""What the error numbers of MySQL and MariaDB mean: their SQLSTATEs tell too little apart."""

import re
import ssl
from collections.abc import Mapping

from aiia_pipelines.connectors._sql_wanted import Told

_NUMBERS: Mapping[str, tuple[int, ...]] = {
    "sqlstate:28000": (1045, 1251, 1275, 1524, 1698, 1820, 1862, 2049, 2059, 2061, 3118, 4151),
    "login:credentials": (1129, 1130),
    "sqlstate:42501": (1044, 1142, 1143, 1227, 1345, 1356, 1370, 1449),
    "source:not-found": (1049, 1046, 1102),
    "login:too-many": (1040, 1203, 1226),
    "source:unavailable": (1077, 1135, 1152, 1184, 4095),
    "connection:lost": (
        1053, 1158, 1159, 1160, 1161, 1927, 1429, 1430, 2006, 2013, 2014, 2055, 3169, 4031,
    ),
    "protocol:error": (1043, 1047, 1153, 1156, 1157, 2007, 2012, 2027),
    "tls:failure": (2026, 1274, 3159),
    "query:timeout": (1317, 1969, 3024),
    "sqlstate:40001": (1020, 1099, 1205, 1206, 1213, 1412, 3572),
    "sqlstate:53100": (1021, 1026, 1114, 3),
    "sqlstate:53200": (5, 1037, 1038, 1041, 1257, 2008),
    "sqlstate:54000": (1104, 1116, 1117, 1118, 1119, 1436, 1461),
    "sqlstate:42P01": (1051, 1109, 1146, 1932, 1177),
    "sqlstate:42703": (1054, 1247),
    "sqlstate:42883": (1128, 1305, 1630),
    "sqlstate:XX001": (126, 127, 144, 145, 1033, 1034, 1035, 1194, 1195, 1459, 1712),
    "sqlstate:22021": (1300, 1366, 3854, 1267, 1270, 1271),
    "sqlstate:22000": (
        1242, 1264, 1265, 1292, 1365, 1367, 1406, 1411, 1416, 1441, 1525, 1690, 3140, 3141, 3143,
        3156,
    ),
    "sqlstate:23000": (1022, 1048, 1062, 4025),
    "query:invalid": (
        1052, 1055, 1056, 1058, 1060, 1063, 1064, 1065, 1066, 1096, 1103, 1111, 1139, 1140, 1149,
        1172, 1210, 1222, 1235, 1241, 1248, 1582, 1583, 1584,
        # A query that writes: the snapshot is read-only.
        1290, 1792, 1290, 1223, 1288, 1836,
    ),
}  # fmt: skip
_SIGNALS = {number: signal for signal, numbers in _NUMBERS.items() for number in numbers}
_ABOUT_VALUES = {"sqlstate:22000", "sqlstate:22021", "sqlstate:23000"}
_LOST = {2003, 2006, 2013}
_VALUE = re.compile(r"'(?:[^']|'')*'")


def meaning(driver: BaseException, *, login: bool) -> Told:
    """Tell what an exception of PyMySQL means; its number decides, or what the network said."""
    if isinstance(driver, OSError):
        reason = getattr(driver, "reason", None) or driver.strerror or type(driver).__name__
        return Told(f"The TLS files of the URL cannot be used: {reason}", ("tls:failure",))
    number = driver.args[0] if driver.args else None
    words = str(driver.args[1]) if len(driver.args) > 1 else str(driver)
    if not isinstance(number, int):
        return Told("What answers there does not speak the protocol of MySQL", ("protocol:error",))
    cause = getattr(driver, "original_exception", None)
    if isinstance(cause, ssl.SSLError):
        return Told(f"TLS failed: {cause.reason or cause}", ("tls:failure",))
    if number in _LOST:
        return _lost(words, login=login)
    signal = _SIGNALS.get(number)
    if signal in _ABOUT_VALUES:
        # The server quotes the value, which is nobody's business.
        words = _VALUE.sub("'…'", words)
    return Told(words or f"Error {number}", (signal,) if signal else (f"mysql:{number}",))


def _lost(words: str, *, login: bool) -> Told:
    if "timed out" in words:
        return Told(
            "The server sent nothing for too long",
            ("errno:ETIMEDOUT" if login else "read:timeout",),
        )
    if "refused" in words:
        return Told("Connection refused", ("errno:ECONNREFUSED",))
    return Told("Connection lost", ("connection:lost",))
