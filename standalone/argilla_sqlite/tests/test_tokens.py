"""How texts are split into words."""

import pytest

from argilla_sqlite.tokens import tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Quick, brown", ["the", "quick", "brown"]),
        ("joe@example.com e-mail", ["joe", "example.com", "e", "mail"]),
        ("http://a.b/x?y=1", ["http", "a.b", "x", "y", "1"]),
        ("end. Start", ["end", "start"]),
        ("can't don’t 'quoted'", ["can’t", "don’t", "quoted"]),
        ("3.14 1,000 v2.0 file1.txt", ["3.14", "1,000", "v2.0", "file1", "txt"]),
        ("snake_case", ["snake_case"]),
        ("東京タワー ひら", ["東", "京", "タワー", "ひ", "ら"]),
        ("हिन्दी", ["हिन्दी"]),
        ("cafe\u0301", ["cafe\u0301"]),
        ("ok 😀!", ["ok", "😀"]),
        ("\ud800 \x00 \ue000", []),
        ("... --- !!!", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected
