"""What an annotator sees: why the record is shown, a suggestion, filters, similar records, guidelines.

With ``LABELWHEEL_SCREENSHOT`` naming a file, the page is kept there: docs/images/annotator.png is such a picture.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from include.project import load_project
from standalone.demo import MAIN, queue_url
from standalone.home import REPO
from standalone.stack import Stack

pytestmark = pytest.mark.stack
MOST_RECORDS = 40


def test_the_queue_shows_reason_suggestion_filters_and_guidelines(loop: Stack, page: Page) -> None:
    project = load_project(REPO / "include" / "projects" / f"{MAIN}.yaml")
    page.set_viewport_size({"width": 1440, "height": 1250})
    page.goto(f"{loop.urls['argilla']}/sign-in")
    page.fill('input[name="Username"]', loop.credentials.argilla_annotator_username)
    page.fill('input[name="Password"]', loop.credentials.argilla_annotator_password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "sign-in" not in url)
    page.goto(f"{queue_url(loop, MAIN)}&metadata=has_html.no")
    expect(page.get_by_text("Sort (1)")).to_be_visible()  # by priority: the same order for everyone
    for _ in range(MOST_RECORDS):  # in their order, some are shown blind and some were chosen at random
        expect(page.get_by_text("Why you see this", exact=True)).to_be_visible()
        if page.get_by_text("The model is unsure: ").count() and page.locator(".label-text__suggestion").count():
            break
        page.locator(".pagination__button").last.click()
        page.wait_for_timeout(1000)  # the page fades to the next record
    expect(page.get_by_text("The model is unsure: ")).to_be_visible()
    expect(page.locator(".label-text__suggestion").first).to_be_visible()
    expect(page.locator(".label-active")).to_have_count(1)  # chosen beforehand, but nobody's answer before a submit
    page.get_by_text("Filters", exact=True).click()
    expect(page.get_by_text("Has an HTML part")).to_be_visible()
    expect(page.get_by_text("Find similar")).to_be_visible()
    page.get_by_text("Guidelines", exact=True).first.click()
    title = project.labeling.guidelines.splitlines()[0].lstrip("# ")
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    if kept := os.environ.get("LABELWHEEL_SCREENSHOT"):
        page.wait_for_timeout(1500)  # panels slide into place
        page.screenshot(path=Path(kept))
