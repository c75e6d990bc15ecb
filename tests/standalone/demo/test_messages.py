"""Raw mail → triage record, on messages made by hand."""

from datetime import UTC, datetime

import pytest

from standalone.demo_data.messages import (
    BODY_CHARACTERS,
    CLASSES,
    clean_body,
    clean_subject,
    html_to_text,
    is_adult_spam,
    mask_addresses,
    parse_email,
)

RECEIVED = "Received: from a by b; Mon, 22 Jul 2002 18:00:00 +0100"


def mail(*headers: str, body: str = "Hello there, how are you?", received: str = RECEIVED) -> bytes:
    return "\n".join([h for h in (received, *headers) if h] + ["", body]).encode()


def parsed(raw: bytes, group: str = "easy-ham-1"):
    email = parse_email(raw, group)
    assert email is not None
    return email


@pytest.mark.parametrize(
    ("headers", "group", "label"),
    [
        (["List-Id: Friends <fork.xent.com>"], "easy-ham-1", "chatter_fork"),
        (["List-Id: Friends <fork.xent.com>"], "spam-2", "spam"),
        (["List-Id: <ilug.linux.ie>"], "easy-ham-2", "linux_users_ie"),
        (["X-BeenThere: exmh-users@example.org"], "easy-ham-1", "exmh_mail_client"),
        (["List-Id: RPM <rpm-zzzlist.freshrpms.net>"], "easy-ham-1", "rpm_packaging"),
        (["To: zzzzteana@yahoogroups.com"], "easy-ham-1", "odd_news_zzzteana"),
        (["Subject: [SAtalk] rules"], "easy-ham-2", "antispam_dev"),
        (["Subject: Re: [Spambayes] test sets"], "easy-ham-1", "antispam_dev"),
        (["List-Id: <ilug.linux.ie>", "Cc: fork@xent.com"], "easy-ham-1", "linux_users_ie"),
        (["From: boingboing <rssfeeds@example.org>"], "easy-ham-1", "news_feed"),
        (["From: pudge@perl.org"], "easy-ham-1", "newsletter"),
        (["From: news@shop.example"], "hard-ham-1", "newsletter"),
        (["From: Ann <ann@example.org>"], "easy-ham-1", "other_personal"),
    ],
)
def test_class_comes_from_folder_and_headers(headers, group, label):
    assert parsed(mail(*headers), group).label == label
    assert label in CLASSES


def test_arrival_is_the_top_received_header_and_not_the_forged_date():
    raw = mail(
        "Received: from x by y; Mon, 22 Jul 2002 09:00:00 +0000",
        "Date: Fri, 1 Jan 2038 00:00:00 +0000",
    )
    assert parsed(raw).received_at == datetime(2002, 7, 22, 17, tzinfo=UTC)


def test_arrival_falls_back_to_delivery_date_and_without_both_there_is_no_record():
    late = mail("Delivery-Date: Thu Sep  5 23:42:38 2002", received="")
    assert parsed(late).received_at == datetime(2002, 9, 5, 23, 42, 38, tzinfo=UTC)
    assert parse_email(mail("Date: Thu, 5 Sep 2002 15:42:38 -0700", received=""), "easy-ham-1") is None


def test_addresses_are_masked_everywhere():
    raw = mail(
        "Subject: mail bob.smith+x@example.co.uk now", body="Write to <ann@example.org> or mailto:joe@host today."
    )
    email = parsed(raw)
    assert email.subject == "mail [email] now"
    assert email.body == "Write to <[email]> or [email] today."


def test_masking_leaves_other_text_alone():
    assert mask_addresses("5 @ 3 EUR, *@*.example, C@t") == "5 @ 3 EUR, *@*.example, [email]"


def test_subject_loses_list_tags():
    assert clean_subject("Re: [ILUG] [some-list] Kernel") == "Re: Kernel"


@pytest.mark.parametrize(
    "footer",
    [
        "_______________________________________________\nExmh-users mailing list\nExmh-users@redhat.example\n"
        "https://listman.example/mailman/listinfo/exmh-users",
        "-- \nIrish Linux Users' Group: ilug@linux.example\nhttp://www.linux.example/mailman/listinfo/ilug for "
        "(un)subscription information.\nList maintainer: listmaster@linux.example",
        "-------------------------------------------------------\nThis sf.net email is sponsored by:ThinkGeek\n"
        "Welcome to geek heaven.\nhttp://thinkgeek.com/sf\n_______________________________________________\n"
        "Razor-users mailing list\nRazor-users@lists.example\nhttps://lists.example/lists/listinfo/razor-users",
        "------------------------ Yahoo! Groups Sponsor ---------------------~-->\nBuy a home\n"
        "---------------------------------------------------------------------~->\n\nTo unsubscribe from this group, "
        "send an email to:\nforteana-unsubscribe@example.com\n\nYour use of Yahoo! Groups is subject to "
        "http://docs.yahoo.com/info/terms/",
        "-----BEGIN PGP SIGNATURE-----\nComment: Exmh version 2.2\nabc=\n-----END PGP SIGNATURE-----",
    ],
    ids=["mailman", "ilug", "sourceforge", "yahoo", "pgp"],
)
def test_list_footers_are_stripped(footer):
    assert clean_body(f"The question is open.\n\n{footer}\n") == "The question is open."


def test_quoted_footers_and_feed_headers_are_stripped_too():
    quoted = "I agree.\n\n> So be it.\n> ____________________________\n> Exmh-users mailing list\n> a@b.example\n\nBye"
    assert "mailing list" not in clean_body(quoted)
    assert clean_body(quoted).endswith("Bye")
    assert clean_body("URL: http://example.org/1\nDate: Not supplied\n\nCat found.") == "Cat found."


def test_html_becomes_text():
    page = (
        "<html><head><title>no</title><style>b{}</style></head><body><p>One&nbsp;&amp; two<br>three<script>x()</script>"
    )
    assert clean_body(html_to_text(page)) == "One & two\nthree"


def test_html_only_mail_and_html_that_calls_itself_plain():
    html = parsed(mail("Content-Type: text/html", body="<html><body><b>Buy</b> this</body></html>"))
    assert (html.body, html.has_html) == ("Buy this", True)
    assert parsed(mail(body="<html><body><b>Buy</b> this</body></html>")).body == "Buy this"


def test_plain_part_wins_and_attachments_are_not_read():
    raw = mail(
        'Content-Type: multipart/mixed; boundary="x"',
        body="--x\nContent-Type: text/plain\n\nThe text\n--x\nContent-Type: text/html\n\n<b>The page</b>\n--x\n"
        'Content-Type: text/plain\nContent-Disposition: attachment; filename="notes.txt"\n\nNotes\n--x--',
    )
    email = parsed(raw)
    assert (email.body, email.has_html) == ("The text", True)


@pytest.mark.parametrize("charset", ["iso-8859-1", "no-such-charset", "utf-8"])
def test_wrong_charsets_still_give_text(charset):
    raw = mail(f"Content-Type: text/plain; charset={charset}").replace(b"Hello", "Café".encode("latin-1"))
    assert parsed(raw).body.startswith("Café there")


def test_undecodable_subject_is_kept_as_it_came():
    assert parsed(mail("Subject: =?no-such?B?SGk=?= x")).subject == "=?no-such?B?SGk=?= x"
    assert parsed(mail("Subject: =?iso-8859-1?Q?Caf=E9?=")).subject == "Café"


def test_long_bodies_are_cut_and_say_so():
    email = parsed(mail(body="word " * 2000))
    assert len(email.body) <= BODY_CHARACTERS
    assert email.body.endswith("[…]")
    assert email.body_characters == 9999


def test_a_mail_without_readable_text_is_no_record():
    assert parse_email(mail(body="\n \n"), "easy-ham-1") is None


def test_adult_filter_asks_for_spam_only():
    raw = mail("Subject: xxx pics")
    assert is_adult_spam(parsed(raw, "spam-1"))
    assert not is_adult_spam(parsed(raw, "easy-ham-1"))
    assert not is_adult_spam(parsed(mail("Subject: Sussex and Essex"), "spam-1"))
