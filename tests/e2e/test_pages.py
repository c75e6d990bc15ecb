"""What an engineer does in Airflow and an annotator in Argilla, by mouse and keyboard."""

from __future__ import annotations

import polars as pl
import pytest
from playwright.sync_api import Page, expect

from standalone.airflow_api import AirflowApi, await_value
from standalone.demo import MAIN
from standalone.lake_report import lake_of
from standalone.stack import Stack

pytestmark = pytest.mark.stack


def sign_in_to_airflow(page: Page, stack: Stack) -> None:
    page.goto(stack.urls["airflow"])
    page.fill('input[name="username"]', stack.credentials.airflow_admin_username)
    page.fill('input[name="password"]', stack.credentials.airflow_admin_password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "login" not in url)


def test_an_engineer_triggers_a_dag_and_sees_it_green(loop: Stack, airflow: AirflowApi, page: Page) -> None:
    dag_id = f"{MAIN}__monitor"
    before = {run["dag_run_id"] for run in airflow.runs(dag_id)}
    sign_in_to_airflow(page, loop)
    page.goto(f"{loop.urls['airflow']}/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    new = await_value(
        lambda: next(
            (r for r in airflow.runs(dag_id) if r["dag_run_id"] not in before and r["run_type"] == "manual"), None
        ),
        60,
        "the button started no run",
        "",
    )
    assert airflow.finish(dag_id, new["dag_run_id"]) == "success"
    page.goto(f"{loop.urls['airflow']}/dags/{dag_id}/runs/{new['dag_run_id']}")
    expect(page.get_by_text("Success").first).to_be_visible()
    assert airflow.task_states(dag_id, new["dag_run_id"])["accuracy"] == "success"


def test_the_manual_of_a_dag_opens_from_its_page(loop: Stack, page: Page) -> None:
    sign_in_to_airflow(page, loop)
    page.goto(f"{loop.urls['airflow']}/dags/{MAIN}__sample")
    page.get_by_role("button", name="Dag Docs").click()
    expect(page.get_by_text("Pick the records worth a person's time")).to_be_visible()


def test_an_annotator_labels_by_mouse_and_by_keyboard_and_both_are_collected(
    loop: Stack, airflow: AirflowApi, page: Page
) -> None:
    """The batch left by the demo waits; two answers of the person at the browser reach the lake."""
    who = loop.credentials.argilla_annotator_username
    page.goto(f"{loop.urls['argilla']}/sign-in")
    page.fill('input[name="Username"]', who)
    page.fill('input[name="Password"]', loop.credentials.argilla_annotator_password)
    page.keyboard.press("Enter")
    page.get_by_text(f"{MAIN}-v1").first.click()
    page.wait_for_url("**/annotation-mode**")
    # Two classes no model has learned from the first weeks: choosing a suggested one again would take it back.
    page.get_by_text("Odd news", exact=True).click()
    page.get_by_role("button", name="Submit").click()
    await_value(lambda: answers(loop) >= 1 or None, 30, "the first answer was not stored", "")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    page.wait_for_timeout(1000)  # the page fades to the next record and ignores keys meanwhile
    page.keyboard.press("3")  # News feed item
    page.keyboard.press("Enter")
    await_value(lambda: answers(loop) >= 2 or None, 30, "the second answer was not stored", "")
    journal = await_value(
        lambda: frame if (frame := collected(loop, who)).height >= 2 else None,
        180,
        "the answers were not collected by the loop itself",
        "",
    )
    assert {'"odd_news_zzzteana"', '"news_feed"'} <= set(journal["value_json"])


def answers(stack: Stack) -> int:
    """Submitted answers of the person at the browser, by Argilla's own count."""
    with stack.argilla("annotator") as argilla:
        datasets = argilla.get("/api/v1/me/datasets").json()["items"]
        (dataset,) = [d for d in datasets if d["name"] == f"{MAIN}-v1"]
        metrics = argilla.get(f"/api/v1/me/datasets/{dataset['id']}/metrics").json()
    return int(metrics["responses"]["submitted"])


def collected(stack: Stack, username: str) -> pl.DataFrame:
    """Answers of a person in the lake."""
    rows = lake_of(stack).read("responses", MAIN, where=pl.col("annotator") == username)
    return rows.filter(pl.col("status") == "submitted")
