from __future__ import annotations

import base64
import hashlib
import pickle

import pytest

from cocoindex.core.fingerprint import (
    Domain,
    Fingerprint,
    fingerprint_bytes,
    fingerprint_str,
)

RAW = bytes(range(16))


def test_a_fingerprint_shows_its_sixteen_bytes():
    fingerprint = Fingerprint(RAW)
    assert fingerprint.as_bytes() == bytes(fingerprint) == RAW
    assert base64.b64decode(fingerprint.to_base64()) == RAW
    assert str(fingerprint) == "#" + RAW.hex()
    assert repr(fingerprint) == f"Fingerprint(#{RAW.hex()})"


def test_equal_fingerprints_are_equal_and_hash_alike():
    assert Fingerprint(RAW) == Fingerprint(RAW)
    assert len({Fingerprint(RAW), Fingerprint(RAW)}) == 1
    assert Fingerprint(RAW) != Fingerprint(RAW[::-1])
    assert Fingerprint(RAW) != RAW


def test_a_fingerprint_survives_pickling():
    assert pickle.loads(pickle.dumps(Fingerprint(RAW))) == Fingerprint(RAW)


@pytest.mark.parametrize(("raw", "error"), [(b"short", ValueError), ("x" * 16, TypeError)])
def test_a_fingerprint_is_made_of_sixteen_bytes(raw, error):
    with pytest.raises(error):
        Fingerprint(raw)


def test_bytes_and_text_are_hashed_by_their_raw_content():
    expected = hashlib.blake2b(b"caf\xc3\xa9", digest_size=16).digest()
    assert fingerprint_bytes("café".encode()) == fingerprint_str("café") == expected


def test_a_digest_behind_a_prefix_is_that_of_both():
    make_hasher = Domain("one").hasher_behind(b"pre")

    def behind(data):
        hasher = make_hasher()
        hasher.update(data)
        return hasher.digest()

    assert [behind(b"x"), behind(b"")] == [
        Domain("one").digest(b"prex"),
        Domain("one").digest(b"pre"),
    ]


def test_domains_give_unrelated_digests():
    one, other = Domain("one"), Domain("other")
    assert len(one.digest(b"x")) == 16
    assert one.digest(b"x") == Domain("one").digest(b"x")
    assert one.digest(b"x") != other.digest(b"x")
