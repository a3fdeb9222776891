"""What is said of a database that failed: the cause first, then the place, then the words of the server."""

import re

from aiia_pipelines.connectors._sql_wanted import Told

_SERVER_WORDS = re.compile(r"^.*\b(?:FATAL|ERROR):\s*")
_CREDENTIALS = "Invalid credentials for user {user} at {place}."
_NOT_ALLOWED = "Login not allowed. {place} does not let user {user} in: {words}."
_SENTENCES = {
    "sqlstate:28P01": _CREDENTIALS,
    "login:credentials": _CREDENTIALS,
    "login:expired": "Credentials expired. {place} wants a new password of user {user}.",
    "login:not-allowed": _NOT_ALLOWED,
    "sqlstate:28000": _NOT_ALLOWED,
    "login:too-many": "Too many connections. {place} takes no more: {words}.",
    "sqlstate:53300": "Too many connections. {place} takes no more: {words}.",
    "source:unavailable": "Source unavailable. {place} takes no work: {words}.",
    "sqlstate:57P03": "Source unavailable. {place} takes no work: {words}.",
    "protocol:error": "Protocol error. What answers at {place} speaks another protocol: {words}.",
    "errno:ECONNREFUSED": "Connection refused. Nothing listens on {place}, or a firewall rejects it.",
    "connection:lost": "Connection lost. {place} ended it: {words}.",
    "sqlstate:57P01": "Connection lost. {place} ended it: {words}.",
    "sqlstate:57P02": "Connection lost. {place} ended it: {words}.",
    "sqlstate:57P05": "Connection lost. {place} ended it: {words}.",
    "sqlstate:25P03": "Connection lost. {place} ended it: {words}.",
    "read:timeout": "Read timeout. {place}: {words}.",
    "query:timeout": "Query timeout. {place} stopped the query: {words}.",
    "sqlstate:57014": "Query timeout. {place} stopped the query: {words}.",
    "query:cancelled": "Query cancelled. Somebody at {place} stopped it: {words}.",
    "source:quota": "Quota exceeded. {place} grants no more for now: {words}.",
    "sqlstate:55P03": "Lock conflict. {place}: {words}.",
    "sqlstate:40001": "Lock conflict. {place}: {words}.",
    "sqlstate:40P01": "Lock conflict. {place}: {words}.",
    "sqlstate:53100": "Source disk full. {place}: {words}.",
    "sqlstate:53200": "Out of memory. {place}: {words}.",
    "sqlstate:53400": "Resource limit. {place}: {words}.",
    "sqlstate:42501": "Permission denied. {place}: {words}.",
}
# How words of our own begin that say no more than the sentence does.
_NOTHING_NEW = "What answers there"


def sentence(told: Told, place: str, user: str | None) -> str:
    """Say what a fault means; what has no sentence of its own is said in the words of the server."""
    form = next((_SENTENCES[signal] for signal in told.signals if signal in _SENTENCES), None)
    if form is None:
        said = first_sentence(told.sentence)
        return said if place in said else f"{said} At {place}."
    words = _words(told.sentence)
    if form.lower().startswith(words.lower()) or words.startswith(_NOTHING_NEW):
        form = form.replace(": {words}", "")
    return form.format(place=place, user=user, words=words)


def first_sentence(words: str) -> str:
    """Make a sentence of what a driver says, without what comes before and after it."""
    first = _words(words)
    return f"{first[:1].upper()}{first[1:]}."


def _words(said: str) -> str:
    first = _SERVER_WORDS.sub("", (said.strip().splitlines() or ["no message"])[0])
    return first.strip().rstrip(".")
