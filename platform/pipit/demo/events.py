"""Sample events that look like life: three customers of a small SaaS, their teams, and what people do.

A day of a customer is made from a seed, so the same day always has the same events: weekdays and weekends, a
daily curve in the customer's time zone, people who join, stay or leave (retention), paths through the product
(funnel), waiting times with a long tail, and one bad day (errors). Times are UTC. Pure functions; nothing
here talks to anyone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random

Event = dict[str, object]

HISTORY_DAYS = 60
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Team:
    name: str
    people: int


@dataclass(frozen=True, slots=True)
class Customer:
    id: str
    name: str
    plan: str
    teams: tuple[Team, ...]
    utc_offset: int  # hours
    joined_later: float  # the share of people who came during the history
    loyalty: float  # the chance that somebody who came this week is there the next
    base_price_cents: int
    included_events: int
    cents_per_extra_thousand: int
    bad_day: int = -1  # so many days ago, everything was slow; -1: never

    @property
    def seats(self) -> int:
        return sum(team.people for team in self.teams)


CUSTOMERS = (
    Customer(
        "acme", "Acme Corp", "enterprise",
        (
            Team("marketing", 90), Team("sales", 120), Team("product", 60), Team("support", 70),
            Team("finance", 20),
        ),
        utc_offset=-5, joined_later=0.45, loyalty=0.96,
        base_price_cents=490_000, included_events=50_000, cents_per_extra_thousand=1_200,
    ),
    Customer(
        "globex", "Globex", "business",
        (Team("research", 80), Team("operations", 65), Team("sales", 25)),
        utc_offset=1, joined_later=0.3, loyalty=0.93,
        base_price_cents=180_000, included_events=20_000, cents_per_extra_thousand=1_800, bad_day=9,
    ),
    Customer(
        "initech", "Initech", "starter",
        (Team("engineering", 30), Team("management", 12)),
        utc_offset=-8, joined_later=0.2, loyalty=0.85,
        base_price_cents=29_000, included_events=4_000, cents_per_extra_thousand=2_500,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Action:
    feature: str
    median_ms: float
    failure: float  # the chance of a 5xx
    then: tuple[tuple[str, float], ...]  # what comes next, and how often; the rest of the time: nothing


_ACTIONS = {
    "sign_in": _Action(
        "login", 180, 0.004, (("open_dashboard", 0.72), ("search", 0.14), ("open_report", 0.12))
    ),
    "open_dashboard": _Action(
        "dashboards", 260, 0.003,
        (("filter_dashboard", 0.44), ("open_report", 0.16), ("create_report", 0.17), ("export_csv", 0.07)),
    ),
    "filter_dashboard": _Action(
        "dashboards", 210, 0.003,
        (("filter_dashboard", 0.5), ("open_report", 0.14), ("create_report", 0.12), ("create_alert", 0.06)),
    ),
    "search": _Action(
        "search", 120, 0.002, (("open_report", 0.45), ("search", 0.25), ("open_dashboard", 0.2))
    ),
    "open_report": _Action(
        "reports", 340, 0.005,
        (("share_report", 0.12), ("export_csv", 0.14), ("open_report", 0.3), ("search", 0.12)),
    ),
    "create_report": _Action("reports", 520, 0.009, (("share_report", 0.42), ("open_report", 0.3))),
    "share_report": _Action("sharing", 230, 0.004, (("invite_user", 0.09), ("open_dashboard", 0.3))),
    "export_csv": _Action("exports", 1_450, 0.021, (("export_csv", 0.15), ("open_dashboard", 0.25))),
    "create_alert": _Action("alerts", 310, 0.006, (("open_dashboard", 0.5),)),
    "invite_user": _Action("people", 270, 0.004, (("invite_user", 0.2),)),
    "api_call": _Action("api", 65, 0.004, (("api_call", 0.9),)),
}  # fmt: skip

# How busy each hour of a working day is, local time.
_HOURS = (1, 1, 1, 1, 1, 2, 5, 14, 42, 80, 92, 84, 58, 70, 88, 82, 66, 44, 22, 12, 9, 7, 4, 2)
_HOURS_SUMMED = tuple(accumulate(_HOURS))

_FIRST_NAMES = (
    "ada", "amir", "ana", "ben", "bo", "carla", "chen", "dana", "diego", "ella", "emil", "eva", "farid",
    "finn", "grace", "hana", "hugo", "ines", "ivan", "jade", "jon", "kai", "lena", "leo", "lin", "luca",
    "maya", "mina", "nils", "noor", "olga", "omar", "paul", "pia", "rosa", "ravi", "sam", "sara",
    "tariq", "tom", "uma", "vera", "wei", "yara", "zoe",
)  # fmt: skip


_PLATFORMS = ("web",) * 7 + ("desktop",) * 2 + ("mobile",)


@dataclass(frozen=True, slots=True)
class _Person:
    id: str
    team: str
    first_day: int  # days after the start of the history; below zero: there before it
    last_day: int
    keenness: float  # the chance to be there on a working day
    machine: bool  # an integration that calls the API
    platform: str


def contracts() -> list[Event]:
    """What each customer pays: rows for the data source `contracts`."""
    return [
        {
            "customer_id": c.id,
            "plan": c.plan,
            "seats": c.seats,
            "base_price_cents": c.base_price_cents,
            "included_events": c.included_events,
            "cents_per_extra_thousand": c.cents_per_extra_thousand,
            "updated_at": "2026-01-01 00:00:00",
        }
        for c in CUSTOMERS
    ]


def history(since: datetime, until: datetime) -> Iterator[list[Event]]:
    """The events with `since` < time <= `until`, a list for each day, in order of time."""
    first = since.astimezone(UTC).date()
    last = until.astimezone(UTC).date()
    start = last - timedelta(days=HISTORY_DAYS)
    people = {c.id: _people(c) for c in CUSTOMERS}
    low, high = text_of(since), text_of(until)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        events = [e for c in CUSTOMERS for e in _day(c, people[c.id], day, start, last)]
        if day in (first, last):
            events = [e for e in events if low < str(e["timestamp"]) <= high]
        events.sort(key=_time_of)
        yield events


class Trickle:
    """Live events: a few people at work at a time, each going on where they were."""

    def __init__(self, seed: int = 0, sessions: int = 9) -> None:
        self._random = Random(f"live-{seed}")
        self._wanted = sessions
        self._people = {c.id: _people(c) for c in CUSTOMERS}
        self._open: list[tuple[Customer, _Person, str, str]] = []  # ..., session, last action
        self._sessions = 0

    def next(self, now: datetime) -> Event:
        random = self._random
        while len(self._open) < self._wanted:
            self._open.append(self._new_session())
        place = random.randrange(len(self._open))
        customer, person, session, action = self._open[place]
        event = _event(random, customer, person, session, action, text_of(now), slow=1.0)
        following = _following(random, action)
        if following:
            self._open[place] = (customer, person, session, following)
        else:
            del self._open[place]
        return event

    def _new_session(self) -> tuple[Customer, _Person, str, str]:
        random = self._random
        (customer,) = random.choices(CUSTOMERS, weights=[c.seats for c in CUSTOMERS])
        here = [p for p in self._people[customer.id] if p.last_day >= HISTORY_DAYS]
        person = random.choice(here)
        self._sessions += 1
        session = f"live-{self._sessions}-{random.getrandbits(32):08x}"
        return customer, person, session, "api_call" if person.machine else "sign_in"


def text_of(moment: datetime) -> str:
    """`2026-03-04 05:06:07.089`, UTC: what ClickHouse reads as a DateTime64(3)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _time_of(event: Event) -> str:
    return str(event["timestamp"])


def _people(customer: Customer) -> list[_Person]:
    random = Random(f"people-{customer.id}")
    people: list[_Person] = []
    for team in customer.teams:
        for _ in range(team.people):
            number = len(people)
            name = f"{_FIRST_NAMES[number % len(_FIRST_NAMES)]}{number // len(_FIRST_NAMES) or ''}"
            machine = random.random() < 0.035
            later = not machine and random.random() < customer.joined_later
            first_day = random.randrange(1, HISTORY_DAYS) if later else -random.randrange(1, 200)
            # A newcomer leaves early or hardly at all; who was there before has stayed for a reason.
            loyalty = customer.loyalty if later else min(0.995, customer.loyalty + 0.045)
            weeks = 1
            while weeks < 30 and random.random() < (loyalty if weeks > 1 else loyalty - 0.18 * later):
                weeks += 1
            people.append(
                _Person(
                    id=f"{name}@{customer.id}.example",
                    team=team.name,
                    first_day=first_day,
                    last_day=10_000 if machine else max(first_day, 0) + 7 * weeks - random.randrange(7),
                    keenness=0.95 if machine else 0.12 + 0.7 * random.betavariate(2, 2.2),
                    machine=machine,
                    platform="api" if machine else random.choice(_PLATFORMS),
                )
            )
    return people


def _day(customer: Customer, people: list[_Person], day: date, start: date, today: date) -> Iterator[Event]:
    number = (day - start).days
    random = Random(f"day-{customer.id}-{day.isoformat()}")
    presence = 0.14 if day.weekday() >= 5 else (1.0, 1.04, 1.02, 0.97, 0.82)[day.weekday()]
    bad = customer.bad_day == (today - day).days
    for person in people:
        if not person.first_day <= number <= person.last_day:
            continue
        newcomer = number == person.first_day
        if not newcomer and random.random() > person.keenness * (1.0 if person.machine else presence):
            continue
        yield from _session(random, customer, person, day, bad)
        while random.random() < (0.4 if newcomer else 0.76):
            yield from _session(random, customer, person, day, bad)


def _session(random: Random, customer: Customer, person: _Person, day: date, bad: bool) -> Iterator[Event]:
    if person.machine:
        hour = random.randrange(24)
    else:
        (local,) = random.choices(range(24), cum_weights=_HOURS_SUMMED)
        hour = (local - customer.utc_offset) % 24
    at = hour * 3_600_000 + random.randrange(3_600_000)
    session = f"{random.getrandbits(64):016x}"
    prefix = day.isoformat()
    action = "api_call" if person.machine else "sign_in"
    while action and at < _DAY_MS:
        slow = 6.0 if bad and 9 <= at // 3_600_000 < 15 else 1.0 + 0.25 * (13 <= at // 3_600_000 < 18)
        seconds, ms = divmod(at, 1000)
        minutes, second = divmod(seconds, 60)
        clock = f"{prefix} {minutes // 60:02d}:{minutes % 60:02d}:{second:02d}.{ms:03d}"
        yield _event(random, customer, person, session, action, clock, slow)
        at += int(random.expovariate(1.0) * (4_000 if person.machine else 38_000)) + 700
        action = _following(random, action)


def _event(
    random: Random, customer: Customer, person: _Person, session: str, action: str, time: str, slow: float
) -> Event:
    does = _ACTIONS[action]
    failure = does.failure * (12 if slow > 2 else 1)
    chance = random.random()
    status = 200
    if chance < failure:
        status = 503 if slow > 2 else 500
    elif chance < failure + 0.006:
        status = 404 if action == "open_report" else 422
    return {
        "timestamp": time,
        "customer_id": customer.id,
        "team": person.team,
        "user_id": person.id,
        "session": {"id": session, "platform": person.platform},
        "plan": customer.plan,
        "feature": does.feature,
        "action": action,
        "status": status,
        "latency_ms": round(does.median_ms * slow * math.exp(0.45 * random.gauss(0.0, 1.0)), 1),
    }


def _following(random: Random, action: str) -> str:
    chance = random.random()
    for name, share in _ACTIONS[action].then:
        chance -= share
        if chance < 0:
            return name
    return ""
