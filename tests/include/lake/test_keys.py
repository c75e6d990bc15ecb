"""Natural keys: equal things get equal names, different things different ones, in every process and for ever."""

import pytest

from include.lake import keys


def test_canonical_json_ignores_order_and_keeps_unicode():
    assert keys.canonical_json({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'


def test_canonical_json_refuses_what_json_cannot_hold():
    with pytest.raises(ValueError, match="not JSON compliant"):
        keys.canonical_json({"a": float("nan")})


def test_digest_separates_its_parts():
    assert keys.digest("ab", "c") != keys.digest("a", "bc")
    assert keys.digest("a") != keys.digest("a", "")


def test_ids_are_frozen():
    """Stored data is keyed by these values: a change here orphans every label."""
    assert keys.record_id("mails", "1") == "19f258c9f934869d1a5c8aec66f84c40"
    assert keys.content_hash({"text": "x"}) == "fac20ea33e4675bda46cd66c3c172801"


def test_content_hash_ignores_the_order_of_fields():
    assert keys.content_hash({"a": "1", "b": "2"}) == keys.content_hash({"b": "2", "a": "1"})


def test_uniform_is_spread_evenly_within_the_open_interval():
    draws = [keys.uniform("seed", number) for number in range(4000)]
    assert min(draws) > 0
    assert max(draws) < 1
    tenths = [sum(1 for one in draws if int(one * 10) == tenth) for tenth in range(10)]
    assert all(320 <= count <= 480 for count in tenths)  # 400 expected, standard deviation 19
