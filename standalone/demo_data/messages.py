"""Raw e-mail → a triage record: readable text, no addresses, and nothing in it that gives the class away.

Twenty-year-old mail breaks every rule there is (wrong charsets, torn MIME, HTML without end tags), so each step falls
back to something readable rather than fail; what is still unusable comes back as None and is counted by the caller.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr, parsedate_to_datetime
from html.parser import HTMLParser

BODY_CHARACTERS = 4000
SUBJECT_CHARACTERS = 200


@dataclass(frozen=True)
class Email:
    """One e-mail as it is uploaded, plus its true class, which is not."""

    message_id: str
    received_at: datetime
    subject: str
    body: str
    sender_domain: str
    has_html: bool
    body_characters: int  # before trimming to BODY_CHARACTERS
    label: str


def parse_email(raw: bytes, group: str) -> Email | None:
    """One raw message of the corpus as a record, or None when nothing readable or no arrival time is left.

    :param group: the folder of the corpus (``easy-ham-1`` … ``spam-2``); part of the truth about the class.
    """
    message = message_from_bytes(raw[raw.index(b"\n") + 1 :] if raw.startswith(b"From ") else raw)
    received_at = arrival_time(message)
    text, has_html = readable_text(message)
    subject = clean_subject(header(message, "Subject"))
    body = clean_body(text)
    if received_at is None or not body:
        return None
    return Email(
        message_id=header(message, "Message-Id").strip("<> "),
        received_at=received_at,
        subject=subject[:SUBJECT_CHARACTERS] or "(no subject)",
        body=shorten(body, BODY_CHARACTERS),
        sender_domain=sender_domain(header(message, "From")),
        has_html=has_html,
        body_characters=len(body),
        label=triage_class(message, group),
    )


# ---- headers ----------------------------------------------------------------------------------------------------


def header(message: Message, name: str) -> str:
    """A header as one line of readable text; empty when it is missing."""
    value = str(message.get(name) or "")
    try:
        value = str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeDecodeError, ValueError):
        value = value.encode("utf-8", "replace").decode("utf-8")  # an encoded word nobody can decode stays as it is
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\ufffd]+", " ", value.encode("utf-8", "replace").decode("utf-8")).strip()


def arrival_time(message: Message) -> datetime | None:
    """When our own server took the mail: the top ``Received``; senders forge ``Date``, so it is not asked.

    A few mailing-list messages lack ``Received`` and have the ``Delivery-Date`` of the same server instead.
    """
    for name in ("Received", "Delivery-Date"):
        stamp = str(message.get(name) or "").rpartition(";")[2].strip()
        try:
            moment = parsedate_to_datetime(stamp)
        except (ValueError, TypeError):
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return None


def sender_domain(sender: str) -> str:
    """The domain of the From header, lower case; ``unknown`` when there is none."""
    domain = parseaddr(sender)[1].rpartition("@")[2].lower()
    return domain if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain) else "unknown"


# ---- class ------------------------------------------------------------------------------------------------------

_LISTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("chatter_fork", re.compile(r"\bfork(-\w+)?[.@]", re.I)),
    ("linux_users_ie", re.compile(r"\b(ilug|social|webdev)(-\w+)?[.@]linux\.ie|\biiu[.@]iiu\.", re.I)),
    ("rpm_packaging", re.compile(r"\brpm-(zzz)?list[.@]", re.I)),
    ("exmh_mail_client", re.compile(r"\bexmh-(users|workers)[.@]", re.I)),
    ("odd_news_zzzteana", re.compile(r"\bzzzzteana@|\[zzzzteana\]", re.I)),
    (
        "antispam_dev",
        re.compile(
            r"\bspamassassin-\w+[.@]|\brazor-\w+[.@]|\bspambayes[.@]|\[(SAtalk|SAdev|SACVS|Razor-users|Spambayes)\]",
            re.I,
        ),
    ),
)
CLASSES = ("spam", *(name for name, _ in _LISTS), "news_feed", "newsletter", "other_personal")


def triage_class(message: Message, group: str) -> str:
    """The true class: spam by folder, lists by their headers, newsletters by folder and sender, the rest is personal.

    Every list header is asked before any To header: people copy one list on answers to another.
    """
    sender = header(message, "From").lower()
    if group.startswith("spam"):
        return "spam"
    if "rssfeeds@" in sender:
        return "news_feed"
    by_list = " ".join(header(message, name) for name in ("List-Id", "X-BeenThere", "Mailing-List"))
    by_address = " ".join(header(message, name) for name in ("Subject", "To", "Cc"))
    for evidence in (by_list, by_address):
        for name, pattern in _LISTS:
            if pattern.search(evidence):
                return name
    if group.startswith("hard-ham") or "pudge@perl.org" in sender:
        return "newsletter"
    return "other_personal"


# ---- text -------------------------------------------------------------------------------------------------------


def readable_text(message: Message) -> tuple[str, bool]:
    """The text a person would read, and whether the mail had an HTML part; plain text wins where both exist."""
    plain: list[str] = []
    html: list[str] = []
    for part in message.walk():
        kind = part.get_content_type()
        if part.is_multipart() or kind not in ("text/plain", "text/html") or part.get_filename():
            continue
        (html if kind == "text/html" else plain).append(_decoded(part))
    body = "\n".join(plain)
    if not body.strip() and html:
        body = "\n".join(html_to_text(page) for page in html)
    elif re.search(r"<(html|body|table|font)\b", body, re.I):
        body = html_to_text(body)  # HTML that calls itself plain text
    return body, bool(html)


def _decoded(part: Message) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    declared = (part.get_content_charset() or "ascii").strip("\"' ")
    for charset in (declared, "utf-8"):
        try:
            return data.decode(charset)
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("windows-1252", "replace")


class _Text(HTMLParser):
    """Collects visible text; block elements become line breaks."""

    BREAKS = frozenset(
        ("p", "br", "div", "tr", "li", "ul", "ol", "hr", "table", "blockquote", "center", "title")
        + ("h1", "h2", "h3", "h4", "h5", "h6")
    )
    HIDDEN = frozenset(("script", "style", "head"))

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.HIDDEN and not self.hidden:
            self.hidden = tag
        elif tag == "body":
            self.hidden = ""  # mail without </head> must not vanish
        if tag in self.BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.hidden:
            self.hidden = ""

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(re.sub(r"\s+", " ", data))


def html_to_text(page: str) -> str:
    """The visible text of an HTML page, however broken."""
    parser = _Text()
    try:
        parser.feed(page)
        parser.close()
    except AssertionError:  # html.parser raises it for some malformed declarations
        return re.sub(r"<[^>]*>", " ", page)
    return "".join(parser.parts)


# ---- cleaning ---------------------------------------------------------------------------------------------------

ADDRESS = re.compile(r"(?:mailto:)?[\w.+=*'/-]*\w@[\w-]+(?:\.[\w-]+)*", re.ASCII)
_SUBJECT_TAG = re.compile(r"\[[^\]\[]{2,30}\]\s*")
LIST_TAG = re.compile(
    r"\[(?:ilug(?:-\w+)?|iiu|social|webdev|sa-?talk|sa-?dev|sacvs|razor-users|spambayes(?:-\w+)?|zzzzteana"
    r"|spamassassin-\w+|exmh(?:-\w+)?|rpm-list|fork|vulnwatch)\]\s*",
    re.I,
)
# A line that only a list server, a list's advertising or a feed reader writes; quoted copies ("> …") included.
_LIST_LINE_START = re.compile(
    r"""[>|\s:]*(?:
        welcome[ ]to[ ]geek[ ]heaven\.?$
      | cell[ ]phone\?[ ]+get[ ]a[ ]new[ ]here[ ]for[ ]free!$
      | real-time[ ]communications[ ]platform!
      | for[ ]high-tech[ ]professionals\.[ ]search[ ]and[ ]apply
      | to[ ]unsubscribe[ ]from[ ]this[ ]group,
      | (?:url|date):[ ]           # what the feed reader writes above every item
      | x-[\w-]+:                  # forwarded headers
    )""",
    re.I | re.X,
)
_LIST_LINE_PART = re.compile(
    r"""[ ]mailing[ ]list\s*(?:<.*>|\[email\])?\s*$
      | /mailman/\w | /lists/listinfo\b
      | [ ]maintainer:
      | irish[ ]linux[ ]users'[ ]group\b.*:
      | \(un\)subscription
      | this[ ](?:sf\.net|sourceforge)[ ]?e?mail[ ]is[ ]sponsored
      | thinkgeek\.com/sf | refcode1=vs | osdn/xim | seeker\.dice\.com | osdn\.com/911
      | yahoo![ ]groups | docs\.yahoo\.com/info/terms | us\.click\.yahoo\.com | -unsubscribe@""",
    re.X,
)
_LIST_LINE_HINTS = ("list", "mail", "users' group", "(un)sub", "/sf", "refcode", "osdn", "dice.com", "yahoo", "-unsub")
_ADVERTISED = re.compile(r"-+[ ]Yahoo! Groups Sponsor[ ]-+~-->.*?-{20,}~->", re.S)
_SIGNATURE = re.compile(r"-----BEGIN PGP SIGNATURE-----.*?(?:-----END PGP SIGNATURE-----|\Z)", re.S)
# What is left of a footer: a ruler and perhaps the list's address, or a signature mark with nothing below.
_RULER = re.compile(r"^[>|\s]*_{20,}\s*\n(?:[>|\s]*\[email\]\s*$)", re.M)
_LOOSE_END = re.compile(r"^[>|\s]*(?:[_=-]{20,}|--|\[email\])?\s*$")


def clean_subject(subject: str) -> str:
    """Without ``[LIST]`` tags and addresses."""
    return re.sub(r"\s+", " ", mask_addresses(_SUBJECT_TAG.sub("", subject))).strip()


def clean_body(text: str) -> str:
    """Without list footers, list tags, signatures' armour and addresses; at most one blank line in a row."""
    text = re.sub("\r\n|[\r\x85\u2028\u2029]", "\n", text).replace("\xa0", " ")
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]", "", text).encode("utf-8", "replace").decode("utf-8")
    text = LIST_TAG.sub("", _SIGNATURE.sub("", _ADVERTISED.sub("", text))).replace("zzzzteana", "list")
    text = mask_addresses("\n".join(line.rstrip() for line in text.split("\n") if not is_list_line(line)))
    lines = _RULER.sub("", text).split("\n")
    while lines and _LOOSE_END.match(lines[-1]):
        lines.pop()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def is_list_line(line: str) -> bool:
    """True for a line that a list server, its advertising or a feed reader added."""
    if _LIST_LINE_START.match(line):
        return True
    lower = line.lower()
    return any(hint in lower for hint in _LIST_LINE_HINTS) and bool(_LIST_LINE_PART.search(lower))


def mask_addresses(text: str) -> str:
    """Every e-mail address becomes ``[email]``."""
    return ADDRESS.sub("[email]", text)


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters; a cut is shown."""
    return text if len(text) <= limit else text[: limit - 4].rstrip() + " […]"


_ADULT = re.compile(
    r"\b(?:porn\w*|x{3,}|sex\w*|nud(?:e|es|ity)|naked|erotic\w*|orgasm\w*|erect\w*|penis\w*|ejaculat\w*|viagra|libido"
    r"|slut\w*|whor\w*|cum|cock\w*|tits?|pussy|fuck\w*|teen(?:s|age)?|lolita\w*|incest\w*|rape\w*|virgins?|hardcore"
    r"|horny|hotties|webcams?|lesbian\w*|voyeur\w*|bestiality|adults?|breasts?|enlarge\w*|pheromone\w*|singles|lingerie"
    r"|mistress\w*|escorts?|fetish\w*|strip(?:pers?|tease)|live girls|hot girls|18\+)(?!\w)",
    re.I,
)


def is_adult_spam(email: Email) -> bool:
    """True for spam with sexual content, by a word list that would rather leave out too much."""
    return email.label == "spam" and bool(_ADULT.search(f"{email.subject}\n{email.body}"))
