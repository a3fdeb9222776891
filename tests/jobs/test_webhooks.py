import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiia_pipelines.jobs.store import JobStore
from aiia_pipelines.jobs.webhooks import (
    TOLERANCE,
    Call,
    Calls,
    WeakSecret,
    genuine,
    keys_of,
    run_id_of,
    sign,
)

KEY = b"a key of thirty-two bytes, or so"
NOW = 1_800_000_000.0
keys = st.binary(min_size=16, max_size=64)
ids = st.text("abcXYZ019_-", min_size=1, max_size=40)


def call(key: bytes = KEY, **changes: object) -> Call:
    facts = {"id": "msg_1", "timestamp": str(int(NOW)), "body": b'{"full": true}'}
    signature = sign(key, str(facts["id"]), str(facts["timestamp"]), bytes(facts["body"]))  # type: ignore[arg-type]
    return Call(**{"signature": signature, **facts, **changes})  # type: ignore[arg-type]


def test_the_signature_is_that_of_the_published_example() -> None:
    (key,) = keys_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(keys, ids, st.integers(0, 10**11), st.binary(max_size=200), st.floats(-TOLERANCE, TOLERANCE))
def test_what_was_signed_is_genuine_while_it_is_new(
    key: bytes, call_id: str, at: int, body: bytes, late: float
) -> None:
    signature = sign(key, call_id, at, body)
    found = Call(id=call_id, timestamp=str(at), signature=signature, body=body)
    assert genuine(found, [key], at + late)
    assert not genuine(found, [key], at + TOLERANCE + 1)
    assert not genuine(found, [key], at - TOLERANCE - 1)
    assert not genuine(found, [key + b"x"], at)


@given(st.integers(0, 10_000), st.sampled_from(["id", "timestamp", "body", "signature"]))
def test_nothing_of_a_call_can_be_changed(place: int, part: str) -> None:
    right = call()
    value = getattr(right, part)
    at = place % len(value)
    if isinstance(value, bytes):
        changed: object = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    else:
        changed = value[:at] + ("1" if value[at] != "1" else "2") + value[at + 1 :]
    assert not genuine(call(**{part: changed}), [KEY], NOW)


def test_any_of_several_keys_and_signatures_will_do() -> None:
    old, new = b"the old key of both sides", b"the new key of both sides"
    both = f"{call(old).signature} {call(new).signature}"
    assert genuine(call(signature=both), [new], NOW)
    assert genuine(call(old), [new, old], NOW)
    assert genuine(call(signature=f"v1a,AAAA v2,x {call().signature}"), [KEY], NOW)
    assert not genuine(call(signature="v1,é nonsense "), [KEY], NOW)
    assert not genuine(call(), [], NOW)


@pytest.mark.parametrize("call_id", ["", "a.b", "a b", "ä", "x" * 201, "a\nb"])
def test_an_id_that_can_be_read_in_two_ways_is_refused(call_id: str) -> None:
    signature = sign(KEY, call_id, int(NOW), b"")
    assert not genuine(call(id=call_id, signature=signature, body=b""), [KEY], NOW)


@pytest.mark.parametrize("timestamp", ["", "now", "1e9", "-1", "1" * 13, "1800000000.0", "१२३"])
def test_a_time_that_is_no_whole_number_is_refused(timestamp: str) -> None:
    signature = sign(KEY, "msg_1", timestamp, b"")
    assert not genuine(call(timestamp=timestamp, signature=signature, body=b""), [KEY], NOW)


def test_secrets_are_text_or_base64_and_several_while_one_is_replaced() -> None:
    encoded = base64.b64encode(KEY).decode()
    assert keys_of(f"whsec_{encoded}") == [KEY]
    assert keys_of("correct horse-battery-staple".replace(" ", "-")) == [
        b"correct-horse-battery-staple"
    ]
    assert keys_of(f" whsec_{encoded}\n0123456789abcdef ") == [KEY, b"0123456789abcdef"]


@pytest.mark.parametrize("secret", ["", "   ", "too-short", "whsec_####", "whsec_c2hvcnQ="])
def test_a_weak_secret_is_refused_without_telling_it(secret: str) -> None:
    with pytest.raises(WeakSecret) as caught:
        keys_of(secret)
    assert "short" not in str(caught.value)
    assert "####" not in str(caught.value)


@given(ids, ids, ids)
def test_a_call_always_means_the_same_run(connector: str, one: str, other: str) -> None:
    assert run_id_of(connector, one) == run_id_of(connector, one)
    assert str(UUID(run_id_of(connector, one))) == run_id_of(connector, one)
    assert (run_id_of(connector, one) == run_id_of(connector, other)) == (one == other)


@pytest.mark.integration
class TestCallsInTheStore:
    @pytest.fixture
    def calls(self, store: JobStore) -> Calls:
        with store.engine.begin() as db:
            db.exec_driver_sql("truncate aiia.webhook_calls")
        return Calls(store.engine)

    def test_a_call_is_carried_out_once(self, calls: Calls) -> None:
        with calls.once("shop", "msg_1") as first:
            assert first
        with calls.once("shop", "msg_1") as first:
            assert not first
        with calls.once("erp", "msg_1") as first:
            assert first

    def test_a_call_that_broke_off_may_come_again(self, calls: Calls) -> None:
        with pytest.raises(LookupError), calls.once("shop", "msg_1"):
            raise LookupError
        with calls.once("shop", "msg_1") as first:
            assert first

    def test_of_calls_at_the_same_time_one_is_the_first_and_the_others_wait(
        self, calls: Calls
    ) -> None:
        begun, done = threading.Event(), []

        def carry_out(number: int) -> bool:
            with calls.once("shop", "msg_1") as first:
                if first:
                    begun.set()
                    time.sleep(0.2)
                    done.append(number)
                else:
                    assert done, "it did not wait"
                return first

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(carry_out, range(4))) == [False, False, False, True]

    def test_old_calls_are_forgotten(self, calls: Calls, store: JobStore) -> None:
        with store.engine.begin() as db:
            db.exec_driver_sql(
                "insert into aiia.webhook_calls values ('shop', 'old', now() - interval '31 days'),"
                " ('shop', 'young', now() - interval '29 days')"
            )
        with calls.once("shop", "new"):
            pass
        with store.engine.connect() as db:
            found = db.exec_driver_sql("select call_id from aiia.webhook_calls order by 1").all()
        assert [row.call_id for row in found] == ["new", "young"]
