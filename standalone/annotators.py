"""Scripted annotators: users of Argilla with their own accuracy, pace and habits, for demos and tests.

Their names say what they are (``scripted_ana``, "Ana (scripted)"). They answer as the page does, with keys of their
own: list their pending records, submit or discard, now and then correct an answer. What they know is the demo's answer
key; they see neither suggestions nor models. What a person answers depends on nothing but the seed, the record and the
person, and Argilla refuses a second answer of one person to a record: a run may be killed and repeated at any time.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import httpx
import yaml

from include.errors import LabelwheelError
from include.lake.keys import uniform
from standalone.demo_data.stream import Answer
from standalone.demo_data.upload import FIRST_WEEKS_UNTIL, read_answers
from standalone.errors import ServiceError
from standalone.home import REPO, write_private
from standalone.stack import Stack

_ACCOUNTS = threading.Lock()  # runs for several projects share the accounts and their file
PAGE_RECORDS = 10  # as many as Argilla's page loads at once
POLL_SECONDS = 2.0
OUTAGE_SECONDS = 300  # how long a person waits for Argilla to come back
BACK_OFF_SECONDS = (0.2, 0.5, 1, 2, 5)
# What the page asks for: no answer of this person yet, and not completed by others.
PENDING = {
    "filters": {
        "type": "and",
        "and": [
            {"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": ["pending"]},
            {"type": "terms", "scope": {"entity": "record", "property": "status"}, "values": ["pending"]},
        ],
    }
}


@dataclass(frozen=True)
class Persona:
    """How one scripted annotator works.

    :param accuracy: share of answers equal to the answer key.
    :param pace: times the run's ``pace_seconds`` for each answer.
    :param habit: where half of this person's mistakes go.
    :param discard_share: records this person gives no answer to.
    :param slip_share: answers that are wrong at first and corrected at the end of the pass.
    """

    name: str
    accuracy: float
    pace: float
    habit: str
    discard_share: float = 0.0
    slip_share: float = 0.0

    @property
    def username(self) -> str:
        """The account's name; the prefix keeps scripted and real people apart."""
        return f"scripted_{self.name.lower()}"


# At most two of the three discard, so a record is left without its two answers only when both do (1 in 5,000).
PERSONAS = (
    Persona("Ana", accuracy=0.95, pace=1.4, habit="other_personal", slip_share=0.02),
    Persona("Ben", accuracy=0.92, pace=1.0, habit="spam", discard_share=0.02),
    Persona("Chen", accuracy=0.88, pace=0.7, habit="chatter_fork", discard_share=0.01, slip_share=0.03),
)

# What a label is taken for by mistake, likeliest first. Labels that are not listed are taken for any other.
CONFUSED_WITH: dict[str, tuple[str, ...]] = {
    "spam": ("newsletter", "other_personal"),
    "newsletter": ("spam", "news_feed"),
    "news_feed": ("odd_news_zzzteana", "newsletter", "chatter_fork"),
    "chatter_fork": ("other_personal", "odd_news_zzzteana", "linux_users_ie"),
    "linux_users_ie": ("rpm_packaging", "chatter_fork", "other_personal"),
    "antispam_dev": ("spam", "linux_users_ie", "other_personal"),
    "rpm_packaging": ("linux_users_ie", "exmh_mail_client"),
    "exmh_mail_client": ("linux_users_ie", "antispam_dev"),
    "odd_news_zzzteana": ("news_feed", "chatter_fork"),
    "other_personal": ("chatter_fork", "newsletter"),
    "house_number": ("zip_code", "unit"),
    "street": ("city", "recipient"),
    "unit": ("house_number", "recipient"),
    "po_box": ("unit", "street"),
    "city": ("street", "state"),
    "state": ("city", "country"),
    "zip_code": ("house_number", "state"),
    "country": ("state",),
    "recipient": ("street", "unit"),
}


# ---- what a person answers ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """What one person does with one record. ``answer`` is None when the record is discarded."""

    answer: Answer | None
    first: Answer | None = None  # the slip that is submitted before it is corrected


def decide(persona: Persona, record_id: str, truth: Answer, labels: Sequence[str], text: str, seed: int) -> Decision:
    """The person's answer to a record: always the same for the same seed, record and person.

    :param labels: the labels of the question.
    :param text: the text that is marked; only span questions need it.
    """

    def coin(purpose: str) -> float:
        return uniform("annotator", seed, persona.username, record_id, purpose)

    if coin("discard") < persona.discard_share:
        return Decision(None)
    wrong = _mistaken(persona, truth, labels, text, coin("which"), coin("habit"))
    answer = truth if coin("accuracy") < persona.accuracy else wrong
    if answer == truth and coin("slip") < persona.slip_share:
        return Decision(answer, first=wrong)
    return Decision(answer)


def _mistaken(persona: Persona, truth: Answer, labels: Sequence[str], text: str, which: float, habit: float) -> Answer:
    if isinstance(truth, str):
        if habit < 0.5 and persona.habit != truth and persona.habit in labels:
            return persona.habit
        return _confuse(truth, labels, which)
    spans = [dict(span) for span in truth]
    position = int(which * len(spans))
    span = spans[position]
    if habit < 0.3 and len(spans) > 1:  # overlooked
        del spans[position]
    elif habit < 0.7:  # marked one word short, or a character too far
        words = text[span["start"] : span["end"]].rsplit(" ", 1)
        room = spans[position + 1]["start"] if position + 1 < len(spans) else len(text)
        if len(words) == 2:
            span["end"] = span["start"] + len(words[0])
        elif span["end"] < room:
            span["end"] += 1
        else:
            span["label"] = _confuse(span["label"], labels, habit)
    else:
        span["label"] = _confuse(span["label"], labels, which)
    return spans


def _confuse(label: str, labels: Sequence[str], coin: float) -> str:
    others = [name for name in CONFUSED_WITH.get(label, ()) if name in labels] or [n for n in labels if n != label]
    return others[int(coin * coin * len(others))]  # squared: the first ones more often


# ---- Argilla as a person uses it ----------------------------------------------------------------------------------


class Session:
    """One account's requests to Argilla, repeated while it is away.

    :raises ServiceError: when Argilla refuses a request, or stays away for ``OUTAGE_SECONDS``.
    """

    def __init__(self, url: str, api_key: str, stop: threading.Event | None = None) -> None:
        # No proxy: it is for the internet, not for a server of ours.
        self._client = httpx.Client(base_url=url, headers={"X-Argilla-Api-Key": api_key}, timeout=30, trust_env=False)
        self._stop = stop or threading.Event()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: Any = None, *, accept: Sequence[int] = ()) -> tuple[int, Any]:
        """Status and JSON of the answer.

        A request that failed half-way may have been carried out: callers name in ``accept`` the status Argilla gives
        to the repetition (409 for what exists already).
        """
        deadline = time.monotonic() + OUTAGE_SECONDS
        attempt = 0
        while True:
            try:
                response = self._client.request(method, f"/api/v1{path}", json=body)
                if response.is_success or response.status_code in accept:
                    return response.status_code, response.json()
                problem = f"{response.status_code} {response.text[:300]}"
                final = response.status_code < 500
            except httpx.TransportError as error:
                problem, final = f"{type(error).__name__} {error}", False
            if final or time.monotonic() > deadline or self._stop.is_set():
                raise ServiceError(f"Argilla refused {method} {path}: {problem}", remedy="See 'make status'.")
            self._stop.wait(BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)])
            attempt += 1


@dataclass
class Annotator:
    """One person at work on one dataset."""

    persona: Persona
    session: Session
    dataset_id: str
    question: str
    labels: list[str]
    field_name: str | None  # the field that is marked; None for a label question
    answers: Mapping[str, Answer]
    seed: int
    pace_seconds: float
    stop: threading.Event
    counts: Counter[str]
    slips: list[tuple[str, Answer]] = field(default_factory=list)  # response ids with their corrections
    unknown: set[str] = field(default_factory=set)  # records the answer key does not have: not ours to answer

    def work(self, leave: int) -> None:
        """Answer until no more than ``leave`` records are pending for this person, then correct the slips."""
        offset = 0
        while not self.stop.is_set():
            found = self._pending(offset)
            records = [item["record"] for item in found["items"]]
            if not records or found["total"] - len(self.unknown) <= leave:
                break
            new = [record for record in records if record["id"] not in self.unknown]
            for record in new[: found["total"] - len(self.unknown) - leave]:
                if self.stop.is_set():
                    break
                self._answer(record)
            offset = 0 if any(record["id"] not in self.unknown for record in new) else offset + len(records)
        self._correct()

    def _pending(self, offset: int) -> dict[str, Any]:
        path = f"/me/datasets/{self.dataset_id}/records/search?limit={PAGE_RECORDS}&offset={offset}"
        _, found = self.session.call("POST", path, PENDING)
        page: dict[str, Any] = found
        return page

    def _answer(self, record: dict[str, Any]) -> None:
        record_id = str(record["external_id"]).split("#", 1)[0]  # re-asks carry a suffix
        truth = self.answers.get(record_id)
        if truth is None:
            self.unknown.add(record["id"])
            self.counts["unknown"] += 1
            return
        text = record["fields"][self.field_name] if self.field_name else ""
        decision = decide(self.persona, record_id, truth, self.labels, text, self.seed)
        self.stop.wait(self.pace_seconds * self.persona.pace)
        if decision.answer is None:
            body: dict[str, Any] = {"status": "discarded", "values": {}}
        else:
            body = self._submission(decision.answer if decision.first is None else decision.first)
        # 409: answered already, by an attempt whose reply got lost. 404: the record was deleted while it was read.
        status, response = self.session.call("POST", f"/records/{record['id']}/responses", body, accept=(409, 404))
        if status == httpx.codes.NOT_FOUND:
            return
        self.counts[body["status"]] += 1
        if decision.first is not None and decision.answer is not None and status == httpx.codes.CREATED:
            self.slips.append((response["id"], decision.answer))

    def _correct(self) -> None:
        while self.slips:
            response_id, answer = self.slips[0]
            status, _ = self.session.call("PUT", f"/responses/{response_id}", self._submission(answer), accept=(404,))
            self.counts["corrected"] += status == httpx.codes.OK
            self.slips.pop(0)

    def _submission(self, answer: Answer) -> dict[str, Any]:
        return {"status": "submitted", "values": {self.question: {"value": answer}}}


# ---- accounts -----------------------------------------------------------------------------------------------------


def ensure_accounts(stack: Stack, workspace: str) -> dict[str, str]:
    """Create the annotators' accounts and their membership where missing; the API key of each by username.

    Passwords and keys are kept in ``annotators.json`` in the state folder, readable for this user only.
    """
    path = stack.home.path / "annotators.json"
    known: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    with Session(stack.urls["argilla"], stack.credentials.argilla_owner_api_key) as owner:
        users = {user["username"]: user for user in owner.call("GET", "/users")[1]["items"]}
        workspace_id = _ensure_workspace(owner, workspace)
        members = {user["username"] for user in owner.call("GET", f"/workspaces/{workspace_id}/users")[1]["items"]}
        for persona in PERSONAS:
            name = persona.username
            # The password is written down before it is used, so that it is never lost.
            password = known.setdefault(name, {}).setdefault("password", secrets.token_urlsafe(12))
            write_private(path, json.dumps(known, indent=2) + "\n")
            user = users.get(name) or _create_user(owner, persona, password)
            if known[name].get("api_key") != user["api_key"]:
                if "api_key" not in known[name] and name in users:  # made by a run that was killed, or by hand
                    owner.call("PATCH", f"/users/{user['id']}", {"password": password})
                known[name]["api_key"] = user["api_key"]
                write_private(path, json.dumps(known, indent=2) + "\n")
            if name not in members:
                owner.call("POST", f"/workspaces/{workspace_id}/users", {"user_id": user["id"]}, accept=(409,))
    return {persona.username: known[persona.username]["api_key"] for persona in PERSONAS}


def _create_user(owner: Session, persona: Persona, password: str) -> dict[str, Any]:
    account = {
        "username": persona.username,
        "first_name": f"{persona.name} (scripted)",
        "role": "annotator",
        "password": password,
    }
    status, user = owner.call("POST", "/users", account, accept=(409,))
    if status == httpx.codes.CONFLICT:  # the first attempt came through, its reply did not
        user = next(u for u in owner.call("GET", "/users")[1]["items"] if u["username"] == persona.username)
    found: dict[str, Any] = user
    return found


def _ensure_workspace(owner: Session, name: str) -> str:
    owner.call("POST", "/workspaces", {"name": name}, accept=(409,))
    workspaces = owner.call("GET", "/me/workspaces")[1]["items"]
    return str(next(one["id"] for one in workspaces if one["name"] == name))


def workspace_of(project: str) -> str:
    """The Argilla workspace a project file names (by default the project's own name)."""
    raw = yaml.safe_load((REPO / "include" / "projects" / f"{project}.yaml").read_text(encoding="utf-8"))
    return str(raw["labeling"].get("workspace") or project)


def find_dataset(session: Session, project: str) -> str | None:
    """The project's newest dataset that is open for answers; None when there is none (yet)."""
    pattern = re.compile(rf"{re.escape(project)}-v(\d+)")
    found = {
        int(match[1]): str(dataset["id"])
        for dataset in session.call("GET", "/me/datasets")[1]["items"]
        if dataset["status"] == "ready" and (match := pattern.fullmatch(dataset["name"]))
    }
    return found[max(found)] if found else None


# ---- running ------------------------------------------------------------------------------------------------------


def run_annotators(
    stack: Stack,
    project: str,
    *,
    pace_seconds: float = 0.05,
    watch: bool = False,
    leave: int = 0,
    seed: int = 17,
    workspace: str | None = None,
    stop: threading.Event | None = None,
) -> dict[str, int]:
    """Let the scripted annotators answer, all at once, until nothing is pending for any of them.

    :param pace_seconds: what an answer takes a person of average pace, beside the requests.
    :param watch: go on with later batches until ``stop`` is set.
    :param leave: stop when that many records are still pending for a person, for example for you.
    :param workspace: by default the one the project file names.
    :param stop: set it to end the run after the answer at hand.
    :returns: answers of this run: ``submitted``, ``discarded``, ``corrected``, ``unknown`` (records of other origin,
        left alone), and ``submitted.<username>`` for each.
    :raises ServiceError: when Argilla stays away or refuses, or (without ``watch``) nothing was ever sent to people.
    :raises StackError: when the demo data were never uploaded from this state folder.
    """
    stop = stop or threading.Event()
    answers = read_answers(project, stack.home)
    with _ACCOUNTS:
        keys = ensure_accounts(stack, workspace or workspace_of(project))
    with ThreadPoolExecutor(len(PERSONAS), thread_name_prefix="annotator") as pool:
        options = Options(seed, pace_seconds, leave, watch, stop)
        runs = [
            pool.submit(_run_one, persona, stack.urls["argilla"], keys[persona.username], project, answers, options)
            for persona in PERSONAS
        ]
        try:
            wait(runs, return_when=FIRST_EXCEPTION)
            if any(run.done() and run.exception() for run in runs):
                stop.set()  # the others would go on without the one that failed
        except KeyboardInterrupt:
            stop.set()
        totals: Counter[str] = Counter({"submitted": 0, "discarded": 0, "corrected": 0, "unknown": 0})
        for persona, run in zip(PERSONAS, runs, strict=True):
            totals.update(run.result())
            totals[f"submitted.{persona.username}"] = run.result()["submitted"]
    return dict(totals)


@dataclass(frozen=True)
class Options:
    """What the people of one run share."""

    seed: int
    pace_seconds: float
    leave: int
    watch: bool
    stop: threading.Event


def _run_one(
    persona: Persona, url: str, api_key: str, project: str, answers: Mapping[str, Answer], options: Options
) -> Counter[str]:
    counts: Counter[str] = Counter()
    person: Annotator | None = None
    with Session(url, api_key, options.stop) as session:
        while not options.stop.is_set():
            dataset_id = find_dataset(session, project)
            if dataset_id is not None:
                if person is None or person.dataset_id != dataset_id:
                    person = _at_work(persona, session, dataset_id, answers, counts, options)
                person.work(options.leave)
            elif not options.watch:
                raise ServiceError(
                    f"Argilla has no open dataset of project {project!r}",
                    remedy=f"Run the DAG {project}__sample first.",
                )
            if not options.watch:
                break
            options.stop.wait(POLL_SECONDS)
    return counts


def _at_work(
    persona: Persona,
    session: Session,
    dataset_id: str,
    answers: Mapping[str, Answer],
    counts: Counter[str],
    options: Options,
) -> Annotator:
    question = session.call("GET", f"/datasets/{dataset_id}/questions")[1]["items"][0]
    return Annotator(
        persona,
        session,
        dataset_id,
        question["name"],
        [option["value"] for option in question["settings"]["options"]],
        question["settings"].get("field"),
        answers,
        options.seed,
        options.pace_seconds,
        options.stop,
        counts,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run, print the counts; 1 with one sentence when that fails."""
    parser = argparse.ArgumentParser(prog="python -m standalone.annotators", description="Scripted annotators.")
    parser.add_argument("--project", choices=sorted(FIRST_WEEKS_UNTIL), default="email_triage")
    parser.add_argument("--pace-seconds", type=float, default=0.05, help="time for one answer (default %(default)s)")
    parser.add_argument("--leave", type=int, default=0, help="leave so many records pending, for you")
    parser.add_argument("--seed", type=int, default=17)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--until-done", action="store_true", help="end when nothing is pending (default)")
    mode.add_argument("--watch", action="store_true", help="go on with later batches; Ctrl-C ends")
    options = parser.parse_args(arguments)
    try:
        counts = run_annotators(
            Stack.load(),
            options.project,
            pace_seconds=options.pace_seconds,
            watch=options.watch,
            leave=options.leave,
            seed=options.seed,
        )
    except LabelwheelError as error:
        print(error, file=sys.stderr)
        return 1
    print(", ".join(f"{name} {value}" for name, value in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
