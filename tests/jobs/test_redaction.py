import base64
import json
import threading
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.jobs.redaction import MASK, Redactor


@given(st.text(st.characters(), min_size=4, max_size=40), st.text(max_size=20))
def test_a_known_secret_is_gone_in_every_form_it_is_printed_in(secret: str, around: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    raw = secret.encode(errors="surrogatepass")
    forms = [
        secret,
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
    ]
    for form in forms:
        assert MASK in redactor.clean(f"{around}{form}{around}")
        # A secret made of asterisks only would be found in the mask itself.
        assert form not in redactor.clean(f"<{form}>") or form in f"<{MASK}>"


def test_the_longer_of_two_secrets_goes_as_a_whole() -> None:
    redactor = Redactor()
    redactor.add("hunter")
    redactor.add("hunter-two")
    assert redactor.clean("it is hunter-two, not hunter") == "it is ***, not ***"


def test_a_secret_of_less_than_four_characters_is_too_ordinary_to_hide() -> None:
    redactor = Redactor()
    redactor.add("abc")
    redactor.add("")
    assert redactor.clean("abc") == "abc"


def test_adding_a_secret_again_changes_nothing() -> None:
    redactor = Redactor()
    redactor.add("opensesame")
    redactor.add("opensesame")
    assert redactor.clean("opensesame!") == "***!"


def test_each_long_line_of_a_key_file_is_a_secret_too() -> None:
    redactor = Redactor()
    redactor.add("head\nMIIEvQIBADANBgkqhkiG9w0BAQ\n")
    assert redactor.clean("read MIIEvQIBADANBgkqhkiG9w0BAQ, head") == "read ***, head"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://u:pw@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:p@w@h/d?x=1", "postgresql://u:***@h/d?x=1"),
        ("postgresql://u:p/w@h/d", "postgresql://u:***@h/d"),
        ("redis://:pw@h:6379", "redis://:***@h:6379"),
        ("host=h password=pw dbname=d", "host=h password=*** dbname=d"),
        ("password='two words' dbname=d", "password=*** dbname=d"),
        ("password='never closed dbname=d", "password=***"),
        ("pwd=x;UID=sa", "pwd=***;UID=sa"),
        ("https://h/?token=abc&page=2", "https://h/?token=***&page=2"),
        ("api_key=abc, next", "api_key=***, next"),
        ('{"password": "p\\"w", "user": "u"}', '{"password": ***, "user": "u"}'),
        ("{'client_secret': 'pw'}", "{'client_secret': ***}"),
        ("PGPASSWORD=pw psql", "PGPASSWORD=*** psql"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization=Basic dTpw", "authorization=Basic ***"),
        ("sent Bearer abcdefghijkl0123", "sent Bearer ***"),
        ("key AKIAIOSFODNN7EXAMPLE used", "key *** used"),
        ("ghp_abcdefghijklmnopqrst0", "***"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0", "***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END", "-----BEGIN RSA PRIVATE KEY-----***"),
    ],
)
def test_text_that_looks_like_a_secret_is_masked(text: str, clean: str) -> None:
    assert Redactor().clean(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Connecting to postgresql://sap_read@10.140.2.14:5432/production...",
        'FATAL: password authentication failed for user "rd"',
        "see http://h:3000/jobs, or write to me@example.org",
        "password: ${env:SAP_PASSWORD}",
        "password=${file:/run/pw}",
        "basic authentication, bearer authentication",
        "max_tokens=5",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert Redactor().clean(text) == text


@given(st.text(st.sampled_from("abtoken=:/@'\"\\ \n*password")))
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    clean = Redactor().clean(text)
    assert Redactor().clean(clean) == clean


@pytest.mark.parametrize("piece", ["://a:", "password='", "a", "Bearer ", "eyJ", "authorization: "])
def test_hostile_text_is_cleaned_in_time_that_grows_with_its_length(piece: str) -> None:
    # Work that grows with the square of the length would take many minutes.
    text = piece * (300_000 // len(piece))
    began = time.process_time()
    Redactor().clean(text)
    assert time.process_time() - began < 60


def test_secrets_can_be_added_while_others_clean() -> None:
    redactor = Redactor()
    secrets = [f"secret-number-{n}" for n in range(50)]
    threads = [threading.Thread(target=redactor.add, args=(secret,)) for secret in secrets]
    for thread in threads:
        thread.start()
        redactor.clean("nothing to hide")
    for thread in threads:
        thread.join()
    assert redactor.clean(" ".join(secrets)) == " ".join([MASK] * 50)
