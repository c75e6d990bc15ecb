"""Words of a text, split as Elasticsearch's standard analyzer splits them (Unicode UAX #29, lower case).

SQLite's own tokenizers split `example.com`, `can't` and `3.14` into pieces and never split Chinese or Japanese, so
texts and queries are both split here; the index only sees the words, joined by spaces.
"""

import re
import unicodedata
from typing import Final

# One token per character: Hiragana, CJK ideographs, emoji and symbols.
_SINGLE: Final = (
    "\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u2600-\u27bf\U0001f300-\U0001faff"
)
_KATAKANA: Final = "\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9f"
# Python's `\w` leaves out combining marks, which belong to the letter before them (Indic vowels, decomposed accents).
_MARKS: Final = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)).startswith("M"))
_WORD: Final = f"(?:(?![{_SINGLE}{_KATAKANA}])[\\w{_MARKS}])+"
_LETTER: Final = r"[^\W\d_]"
_INSIDE_A_WORD: Final = f"(?:(?<={_LETTER})[.:’·](?={_LETTER})|(?<=\\d)[.,;’](?=\\d))"

_TOKEN: Final = re.compile(f"[{_SINGLE}]|[{_KATAKANA}]+|{_WORD}(?:{_INSIDE_A_WORD}{_WORD})*")

# The ASCII characters besides letters and digits that a token may hold: the index must not split at them.
WORD_PUNCTUATION: Final = "_.,;:"
# A token no text or query can hold: keeps a phrase from matching across two messages of one chat.
BOUNDARY: Final = "\ue000"


def tokens(text: str) -> list[str]:
    """Return the words of `text` in order; punctuation alone gives none."""
    return _TOKEN.findall(normalize(text))


def normalize(text: str) -> str:
    """Return `text` in lower case with typewriter apostrophes curled: both kinds are one character for a search."""
    return text.lower().replace("'", "’")
