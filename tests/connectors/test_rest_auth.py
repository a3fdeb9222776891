import base64
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote, unquote_plus

import pytest
from pydantic import ValidationError

from aiia_pipelines.connectors.base import (
    Reading,
    SourceFault,
    open_source,
    source_problems,
    stream_problems,
)
from aiia_pipelines.jobs.failures import classify

pytestmark = pytest.mark.integration
CANARY = "canary+S3cret/äß="
ASCII = "canary-S3cret-7f3a"
ROWS = [{"id": 1}]
Check = Callable[[Any], bool]


def basic(asked: Any) -> tuple[str, str]:
    kind, _, pair = asked.headers.get("Authorization", "").partition(" ")
    text = base64.b64decode(pair).decode() if kind == "Basic" else ""
    user, _, password = text.partition(":")
    return user, password


FORMS: list[tuple[str, dict[str, Any], Check]] = [
    (
        "api key in a header",
        {"auth": {"type": "api_key", "api_key": ASCII}},
        lambda asked: asked.headers.get("X-API-Key") == ASCII,
    ),
    (
        "api key in a header of another name",
        {"auth": {"type": "api_key", "api_key": f"Token {ASCII}", "name": "Authorization"}},
        lambda asked: asked.headers.get("Authorization") == f"Token {ASCII}",
    ),
    (
        "api key in the query",
        {"auth": {"type": "api_key", "api_key": ASCII, "in": "query", "name": "key"}},
        lambda asked: asked.query.get("key") == ASCII,
    ),
    (
        "user and password",
        {"auth": {"type": "basic", "user": "reader", "password": CANARY}},
        lambda asked: basic(asked) == ("reader", CANARY),
    ),
    (
        "bearer token",
        {"auth": {"type": "bearer", "token": ASCII}},
        lambda asked: asked.headers.get("Authorization") == f"Bearer {ASCII}",
    ),
    (
        "a header of one's own",
        {"headers": {"X-Tenant-Token": ASCII}},
        lambda asked: asked.headers.get("X-Tenant-Token") == ASCII,
    ),
]


def guarded(web: Any, allowed: Check) -> None:
    """Answer only those who may."""

    def answer(asked: Any) -> Any:
        if allowed(asked):
            return web.reply(ROWS)
        # Servers that repeat what they refuse exist.
        return web.reply({"error": f"bad key {asked.query} {asked.headers}"}, status=401)

    web.answers["/rows"] = answer


def wrong(options: Any) -> Any:
    """Exchange every secret for another."""
    if isinstance(options, dict):
        return {key: wrong(value) for key, value in options.items()}
    return options.replace("3cret", "tale") if isinstance(options, str) else options


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case[0])
def test_each_way_to_log_in_is_let_in(
    open_rest: Any, web: Any, stream: Any, case: tuple[str, dict[str, Any], Check]
) -> None:
    _, options, allowed = case
    guarded(web, allowed)
    source, rows = open_rest(options), stream(endpoint="/rows", options={"params": {"a": 1}})
    assert [column.name for column in source.columns(rows)] == ["id"]
    assert web.asked[-1].query["a"] == "1"


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case[0])
def test_wrong_credentials_fail_without_telling_them(
    open_rest: Any, web: Any, stream: Any, forgetful: None, case: tuple[str, dict[str, Any], Check]
) -> None:
    _, options, allowed = case
    guarded(web, allowed)
    source = open_rest(wrong(options))
    with pytest.raises(SourceFault) as caught:
        source.columns(stream(endpoint="/rows"))
    failure = classify(caught.value)
    assert (failure.code, failure.badge) == ("invalid-credentials", "Failed")
    told = (
        f"{caught.value} {caught.value!r} {source.describe()} {source.place()} {source._options!r}"
    )
    assert "canary" not in told
    assert quote(CANARY) not in told
    assert len(web.asked) == 1


# -- OAuth 2.0 ----------------------------------------------------------------------------------


class TokenServer:
    """Gives tokens to one client, and lets in who shows the last one."""

    def __init__(self, web: Any, **facts: Any) -> None:
        self.web, self.facts = web, facts
        self.given = 0
        web.answers["/token"] = self.token
        web.answers["/rows"] = self.rows

    def token(self, asked: Any) -> Any:
        form = {key: values[0] for key, values in parse_qs(asked.body.decode()).items()}
        user, password = map(unquote_plus, basic(asked))
        client = form.get("client_id", user), form.get("client_secret", password)
        if client != ("me:too", CANARY):
            return self.web.reply({"error": "invalid_client"}, status=400)
        self.form = form
        self.given += 1
        told = {"access_token": f"canary-token-{self.given}", "token_type": "Bearer"}
        return self.web.reply(told | self.facts)

    def rows(self, asked: Any) -> Any:
        good = asked.headers.get("Authorization") == f"Bearer canary-token-{self.given}"
        return self.web.reply(ROWS if good else {}, status=200 if good else 401)


def oauth(web: Any, **more: Any) -> dict[str, Any]:
    facts = {"token_url": f"{web.url}/token", "client_id": "me:too", "client_secret": CANARY}
    return {"auth": {"type": "oauth2", **facts, **more}}


@pytest.mark.parametrize("way", ["basic", "post"])
def test_a_token_is_fetched_once_and_used_for_all_requests(
    open_rest: Any, web: Any, stream: Any, way: str
) -> None:
    server = TokenServer(web, expires_in=3600)
    source = open_rest(oauth(web, client_auth=way, scope="read all", audience="https://x"))
    for _ in range(3):
        source.columns(stream(endpoint="/rows"))
    assert server.given == 1
    form = {"grant_type": "client_credentials", "scope": "read all", "audience": "https://x"}
    assert form.items() <= server.form.items()
    assert ("client_secret" in server.form) == (way == "post")


@pytest.mark.parametrize("lasts", [0, 1, "0"])
def test_a_token_is_fetched_again_before_it_expires(
    open_rest: Any, web: Any, stream: Any, lasts: Any
) -> None:
    server = TokenServer(web, expires_in=lasts)
    source = open_rest(oauth(web))
    source.columns(stream(endpoint="/rows"))
    if lasts == 1:
        time.sleep(0.9)
    before = server.given
    source.columns(stream(endpoint="/rows"))
    assert server.given == before + 1


def test_a_token_that_was_revoked_is_replaced_once(open_rest: Any, web: Any, stream: Any) -> None:
    server = TokenServer(web)
    source = open_rest(oauth(web))
    source.columns(stream(endpoint="/rows"))
    server.given = 10
    source.columns(stream(endpoint="/rows"))
    assert server.given == 11
    web.answers["/rows"] = [web.reply({}, status=401)]
    asked = len(web.asked)
    with pytest.raises(SourceFault) as caught:
        source.columns(stream(endpoint="/rows"))
    assert classify(caught.value).code == "invalid-credentials"
    assert len(web.asked) - asked == 3, "refused, another token, refused again"


REFUSALS: list[tuple[dict[str, Any], int, str]] = [
    ({"error": "invalid_client"}, 401, "login:credentials"),
    ({"error": "invalid_client"}, 400, "login:credentials"),
    ({"error": "unauthorized_client"}, 400, "login:credentials"),
    ({"error": "invalid_scope"}, 400, "http:400"),
    ({}, 403, "http:403"),
    ({}, 404, "source:not-found"),
    ({}, 200, "protocol:error"),
    ({"access_token": ""}, 200, "protocol:error"),
    ({"access_token": "a\nb"}, 200, "protocol:error"),
    ({"access_token": 5}, 200, "protocol:error"),
    ({"access_token": "x", "token_type": "mac"}, 200, "protocol:error"),
]


@pytest.mark.parametrize(("body", "status", "signal"), REFUSALS)
def test_what_a_token_server_refuses_or_garbles_is_told_at_once(
    open_rest: Any, web: Any, body: dict[str, Any], status: int, signal: str
) -> None:
    web.answers["/token"] = [web.reply(body, status=status)]
    source = open_rest(oauth(web), connect=False)
    with pytest.raises(SourceFault) as caught:
        source.connect()
    assert signal in caught.value.signals
    assert "canary" not in str(caught.value)
    assert len(web.asked) == 1


# -- what a file may say ------------------------------------------------------------------------

SOUND = {"kind": "rest", "url": "https://api.example.com/v1"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "ftp://x"}, "not a web address"),
        ({"url": "api.example.com"}, "not a web address"),
        ({"url": "https://u:p@h/"}, "under auth"),
        ({"url": "https://h/?key=1"}, "ends with its path"),
        ({"url": "https://h:99999/"}, "no port"),
        ({"headers": {"Host": "x"}}, "no header that can be set"),
        ({"headers": {"A\nB": "x"}}, "no header that can be set"),
        ({"headers": {"A": "x\r\nB: y"}}, "one line of ASCII"),
        ({"auth": {"type": "bearer", "token": "a\nb"}}, "one line of ASCII"),
        ({"auth": {"type": "digest"}}, "does not match any of the expected tags"),
        ({"auth": {"type": "basic", "user": "a:b", "password": "x"}}, "without a colon"),
        ({"speed": 1}, "unknown key"),
    ],
)
def test_mistakes_in_a_source_are_told(options: dict[str, Any], words: str) -> None:
    problems = source_problems("rest", SOUND | options)
    assert len(problems) == 1
    assert words in problems[0][1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"params": {"api_key": "x"}}, "looks like a secret"),
        ({"body": {}}, "needs method: POST"),
        ({"records": "a..b"}, "path of keys"),
        ({"fields": {"a": "number"}}, "unknown type"),
        ({"pagination": {"type": "cursor", "next": "a"}}, "needs param"),
        ({"pagination": {"type": "cursor", "param": "a"}}, "exactly one of"),
        ({"pagination": {"type": "page", "next": "a"}}, "counts by itself"),
        ({"pagination": {"type": "link", "last": "a"}}, "Link header"),
        ({"pagination": {"type": "page", "size_param": "n"}}, "needs size"),
        ({"pagination": {"type": "page", "stop": "short"}}, "needs size"),
        ({"pagination": {"type": "token", "param": "a", "next": "b", "send": "body"}}, "POST"),
        ({"pagination": {"type": "token", "param": "a b", "next": "b", "send": "header"}}, "no header"),
        ({"page": 1}, "unknown key"),
    ],
)  # fmt: skip
def test_mistakes_in_a_stream_are_told(options: dict[str, Any], words: str) -> None:
    problems = stream_problems("rest", options)
    assert len(problems) == 1
    assert words in problems[0][1]


def test_references_stand_wherever_secrets_do() -> None:
    for auth in (
        {"type": "api_key", "api_key": "${env:KEY}"},
        {"type": "basic", "user": "${env:U}", "password": "${env:KEY}"},
        {"type": "bearer", "token": "${file:/run/secrets/x}"},
    ):
        assert source_problems("rest", SOUND | {"auth": auth, "url": "${env:URL}"}) == []


def test_a_secret_is_not_repeated_by_a_complaint_about_it() -> None:
    with pytest.raises(ValidationError) as caught:
        open_source(SOUND | {"auth": {"type": "bearer", "token": f"{ASCII}\n"}})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["orders", "/a?b=1", "/a#b", "/../admin", "/a b", "/a\\b"])
def test_an_endpoint_is_a_path_below_the_url(open_rest: Any, stream: Any, endpoint: str) -> None:
    source = open_rest()
    with pytest.raises(SourceFault, match="needs endpoint"):
        source.columns(stream(endpoint=endpoint))


def test_another_place_than_an_endpoint_is_refused(open_rest: Any, stream: Any) -> None:
    source = open_rest()
    with pytest.raises(SourceFault, match="needs endpoint") as caught:
        source.columns(stream(table="orders"))
    assert classify(caught.value).code == "config-invalid"


# -- Connection Test ----------------------------------------------------------------------------


def stages(source: Any, *streams: Any) -> dict[str, str]:
    done: dict[str, str] = {}
    for name, stage in source.stages(streams):
        try:
            done[name] = stage()
        except SourceFault as fault:
            done[name] = classify(fault).code
            break
    return done


def test_a_connection_test_goes_from_the_name_to_the_first_page(
    open_rest: Any, secure_web: Any, stream: Any, certificate: Any
) -> None:
    secure_web.answers["/rows"] = [secure_web.reply(ROWS)]
    secure_web.answers["/more"] = [secure_web.reply(ROWS * 3)]
    options = {"url": secure_web.url, "ca_file": str(certificate), **oauth(secure_web)}
    TokenServer(secure_web)
    source = open_rest(options, connect=False)
    rows = [stream(endpoint="/rows"), stream(name="more", endpoint="/more")]
    done = stages(source, *rows)
    assert list(done)[:4] == ["dns", "tcp", "tls", "login"]
    assert "TLSv1.3, certificate CN=127.0.0.1 issued by CN=127.0.0.1" in done["tls"]
    assert done["login"] == "token for client me:too"
    assert done["permission more"] == "3 records in the first page"
    assert (done["query rows"], done["query more"]) == (
        "1 record of 1 column read",
        "3 records of 1 column read",
    )
    assert [asked.path for asked in secure_web.asked] == ["/token", "/rows", "/more"]


def test_a_connection_test_tells_where_it_stops(
    open_rest: Any, web: Any, secure_web: Any, stream: Any
) -> None:
    rows = stream(endpoint="/rows")
    web.answers["/rows"] = [web.reply({}, status=401)]
    assert stages(open_rest(connect=False), rows)["login"] == "invalid-credentials"
    web.answers["/rows"] = [web.reply({}, status=404)]
    done = stages(open_rest(connect=False), rows)
    assert (done["login"], done["permission rows"]) == ("without credentials", "source-not-found")
    untrusted = open_rest({"url": secure_web.url}, connect=False)
    assert stages(untrusted, rows)["tls"] == "tls-failure"
    unknown = open_rest({"url": "http://no-such-host.invalid"}, connect=False)
    assert list(stages(unknown, rows)) == ["dns"]


def test_the_reading_after_a_login_needs_no_more_than_the_pages(
    open_rest: Any, web: Any, stream: Any
) -> None:
    TokenServer(web)
    source, rows = open_rest(oauth(web)), stream(endpoint="/rows")
    source.columns(rows)
    [batch] = source.batches(rows, Reading(names=["id"]))
    assert batch.rows == [[1]]
    assert [asked.path for asked in web.asked] == ["/token", "/rows", "/rows"]


def test_a_key_that_an_api_repeats_in_its_links_is_neither_kept_nor_told(
    open_rest: Any, web: Any, stream: Any, forgetful: None
) -> None:
    web.answers["/rows"] = [web.reply({"items": ROWS, "next": f"/more?key={ASCII}&page=2"})]
    web.answers["/more"] = [web.reply({"items": ROWS, "next": f"/last?key={ASCII}&page=3"})]
    web.answers["/last"] = [web.reply(body=b"[")]
    auth = {"type": "api_key", "api_key": ASCII, "in": "query", "name": "key"}
    options = {"records": "items", "pagination": {"type": "link", "next": "next"}}
    source, rows = open_rest({"auth": auth}), stream(endpoint="/rows", options=options)
    source.columns(rows)
    batches = source.batches(rows, Reading(names=["id"]))
    marks = [next(batches).checkpoint, next(batches).checkpoint]
    with pytest.raises(SourceFault) as caught:
        next(batches)
    assert [asked.query for asked in web.asked[-2:]] == [
        {"key": ASCII, "page": "2"},
        {"key": ASCII, "page": "3"},
    ]
    assert marks[1]["after"]["next"] == f"{web.url}/last?page=3"
    assert "canary" not in f"{marks} {caught.value}"
    assert f"The answer of {web.url}/last is no JSON" in str(caught.value)


def test_definitions_load_without_the_clients() -> None:
    heavy = "{'httpx', 'boto3', 'botocore', 'pyarrow', 'certifi', 'pandas'}"
    kinds = "aiia_pipelines.connectors.rest, aiia_pipelines.connectors.s3"
    code = f"import sys, {kinds}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
