"""What the error numbers of MySQL and MariaDB mean: their SQLSTATEs tell too little apart."""

import re
import socket
import ssl
from collections.abc import Mapping

from aiia_pipelines.connectors._sql_wanted import Told

_NUMBERS: Mapping[str, tuple[int, ...]] = {
    "login:credentials": (1045, 1251, 1275, 1524, 1698, 2049, 2059, 2061),
    "login:expired": (1820, 1862),
    "login:not-allowed": (1042, 1129, 1130, 3118, 3955, 4151),
    "sqlstate:42501": (1044, 1141, 1142, 1143, 1147, 1227, 1345, 1356, 1370, 1446, 1447, 1448, 1449),
    "source:not-found": (1049, 1046, 1102, 1431),
    "login:too-many": (1040, 1203),
    "source:quota": (1226,),
    "source:unavailable": (1077, 1079, 1081, 1135, 1152, 1184, 1296, 1297, 4095),
    "connection:lost": (
        1053, 1080, 1154, 1155, 1158, 1159, 1160, 1161, 1927, 1429, 1430, 2006, 2013, 2014, 2055,
        3169, 4031,
    ),
    "errno:ECONNREFUSED": (2002,),
    "dns:not-found": (2005,),
    "protocol:error": (1043, 1047, 1153, 1156, 1157, 1193, 1231, 1232, 2007, 2012, 2027),
    "tls:failure": (2026, 1274, 3159),
    "query:timeout": (1969, 3024),
    "query:cancelled": (1028, 1317),
    "sqlstate:40001": (1015, 1020, 1027, 1099, 1205, 1206, 1213, 1412, 3572),
    "sqlstate:53100": (
        1004, 1013, 1014, 1018, 1019, 1021, 1023, 1024, 1025, 1026, 1114, 3,
    ),
    "sqlstate:53200": (5, 1037, 1038, 1041, 1257, 2008),
    "sqlstate:54000": (1097, 1104, 1116, 1117, 1118, 1119, 1162, 1301, 1436, 1456, 1461),
    "sqlstate:42P01": (1051, 1109, 1146, 1932, 1177),
    "sqlstate:42703": (1054, 1247),
    "sqlstate:42883": (1122, 1128, 1305, 1630),
    "sqlstate:XX001": (
        126, 127, 144, 145, 1012, 1016, 1017, 1029, 1030, 1032, 1033, 1034, 1035, 1039, 1194, 1195,
        1256, 1258, 1259, 1340, 1341, 1342, 1343, 1344, 1455, 1457, 1459, 1712,
    ),
    "sqlstate:22021": (1300, 1366, 3854, 1267, 1270, 1271),
    "sqlstate:22000": (
        1242, 1264, 1265, 1292, 1365, 1367, 1406, 1411, 1416, 1441, 1525, 1690, 3140, 3141, 3143,
        3156,
    ),
    "sqlstate:23000": (1022, 1048, 1062, 1169, 1216, 1217, 1369, 1451, 1452, 4025),
    "query:invalid": (
        1031, 1052, 1055, 1056, 1057, 1058, 1059, 1060, 1063, 1064, 1065, 1066, 1072, 1074, 1082,
        1096, 1103, 1106, 1107, 1108, 1110, 1111, 1112, 1115, 1120, 1123, 1126, 1127, 1136, 1137,
        1138, 1139, 1140, 1148, 1149, 1172, 1176, 1191, 1210, 1214, 1221, 1222, 1224, 1235, 1241,
        1243, 1248, 1250, 1253, 1272, 1273, 1286, 1289, 1295, 1298, 1347, 1382, 1424, 1425, 1426,
        1427, 1432, 1433, 1460, 1462, 1463, 1582, 1583, 1584,
        # A routine that the query calls.
        1312, 1314, 1318, 1321, 1325, 1326, 1327, 1328, 1329, 1336, 1339, 1415, 1422,
        # A query that writes: the snapshot is read-only.
        1036, 1086, 1207, 1223, 1288, 1290, 1792, 1836,
    ),
}  # fmt: skip
_SIGNALS = {number: signal for signal, numbers in _NUMBERS.items() for number in numbers}
_ABOUT_VALUES = {"sqlstate:22000", "sqlstate:22021", "sqlstate:23000"}
_LOST = {2003, 2006, 2013}
_SESSIONS = "max_user_connections"
_NO_SPACE = re.compile(r"(?:Errcode|[Ee]rror|errno):? 28\b|No space left")
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
    if isinstance(cause, socket.gaierror):
        return Told(f"Host not found: {cause.strerror}", ("dns:not-found",))
    if number in _LOST:
        return _lost(words, login=login)
    signal = _SIGNALS.get(number)
    if signal == "source:quota" and _SESSIONS in words:
        # One number for all that a user may use up: sessions come free again by themselves.
        signal = "login:too-many"
    elif signal == "sqlstate:XX001" and _NO_SPACE.search(words):
        signal = "sqlstate:53100"
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
