#!/usr/bin/env python3
"""Makes what the corpus test compares with; needs icalendar, recurring-ical-events and python-dateutil.

    python3 generate.py            cases.json -> expected.json: how recurring-ical-events expands each case, checked
                                   against dateutil where a case is one rule without anything added
    python3 generate.py exported   exported.ics, which Berth has written -> exported.json: how it is expanded there

exported.ics is written by `BERTH_WRITE_CORPUS=1 cargo test -p calendar --test corpus`.
"""
import datetime as dt
import json
import pathlib
import sys
import zoneinfo

import dateutil.rrule
import icalendar
import recurring_ical_events

HERE = pathlib.Path(__file__).parent
UTC = dt.timezone.utc


def local(text, zone, all_day):
    if all_day:
        return dt.date.fromisoformat(text[:10])
    return dt.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone))


def moment(value, zone):
    if not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time(), zoneinfo.ZoneInfo(zone))
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def expand(calendar, case):
    start, end = (dt.datetime.fromisoformat(case[name]).replace(tzinfo=UTC) for name in ("from", "to"))
    # Whole days are compared by date there: ask for a little more and judge by the moment, as Berth does.
    margin = dt.timedelta(days=2)
    found = recurring_ical_events.of(calendar).between(start - margin, end + margin)
    spans = set()
    for event in found:
        first, last = event["DTSTART"].dt, event["DTEND"].dt
        if isinstance(first, dt.datetime) and last.astimezone(UTC) <= first.astimezone(UTC):
            # A beginning that the clock leaves out is moved on there and its end is not, so that it would be over before
            # it has begun: such an occurrence is as long as the event.
            length = dt.datetime.fromisoformat(case["end"]) - dt.datetime.fromisoformat(case["start"])
            last = first.astimezone(UTC) + length
        spans.add((moment(first, case["zone"]), moment(last, case["zone"])))
    low, high = (value.strftime("%Y-%m-%dT%H:%M:%S.000Z") for value in (start, end))
    return sorted(list(span) for span in spans if span[0] < high and span[1] > low)


def calendar_of(case):
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//Berth//corpus//EN")
    calendar.add("version", "2.0")
    zone, all_day = case["zone"], case.get("allDay", False)
    event = icalendar.Event()
    event.add("uid", case["name"])
    event.add("dtstart", local(case["start"], zone, all_day))
    event.add("dtend", local(case["end"], zone, all_day))
    if "rrule" in case:
        event.add("rrule", icalendar.vRecur.from_ical(case["rrule"]))
    for name in ("rdate", "exdate"):
        for text in case.get(name + "s", []):
            event.add(name, local(text, zone, all_day))
    calendar.add_component(event)
    for apart in case.get("overrides", []):
        event = icalendar.Event()
        event.add("uid", case["name"])
        event.add("recurrence-id", local(apart["at"], zone, all_day))
        event.add("dtstart", local(apart["start"], zone, all_day))
        event.add("dtend", local(apart["end"], zone, all_day))
        calendar.add_component(event)
    return calendar


def by_dateutil(case):
    """The same by dateutil alone: wall-clock times of the rule, made moments afterwards."""
    naive = dt.datetime.fromisoformat(case["start"])
    zone = zoneinfo.ZoneInfo(case["zone"])
    parts = dict(part.split("=") for part in case["rrule"].split(";"))
    if parts.get("UNTIL", "").endswith("Z"):
        until = dt.datetime.strptime(parts["UNTIL"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        parts["UNTIL"] = until.astimezone(zone).strftime("%Y%m%dT%H%M%S")
    rule = dateutil.rrule.rrulestr(";".join("=".join(part) for part in parts.items()), dtstart=naive)
    high = dt.datetime.fromisoformat(case["to"]).replace(tzinfo=UTC)
    low = dt.datetime.fromisoformat(case["from"]).replace(tzinfo=UTC)
    starts = []
    for start in rule:
        at = start.replace(tzinfo=zone).astimezone(UTC)
        if at >= high:
            break
        if at >= low:
            starts.append(at.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    return starts


def main():
    cases = json.loads((HERE / "cases.json").read_text())
    if sys.argv[1:] == ["exported"]:
        whole = icalendar.Calendar.from_ical((HERE / "exported.ics").read_bytes())
        result = {}
        for case in cases:
            one = icalendar.Calendar()
            for component in whole.subcomponents:
                if component.name == "VTIMEZONE" or str(component.get("uid")) == case["name"]:
                    one.add_component(component)
            result[case["name"]] = expand(one, case)
        target = HERE / "exported.json"
    else:
        result = {}
        for case in cases:
            result[case["name"]] = spans = expand(calendar_of(case), case)
            is_plain = "rrule" in case and not any(case.get(name) for name in ("rdates", "exdates", "overrides", "allDay"))
            if is_plain and not case.get("isOutOfStep"):
                starts = [start for start, _ in spans if start >= case["from"]]
                assert starts == by_dateutil(case), (case["name"], starts, by_dateutil(case))
        target = HERE / "expected.json"
    lines = [f"{json.dumps(name)}: {json.dumps(spans)}" for name, spans in result.items()]
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(target.name, len(result), "cases,", sum(map(len, result.values())), "occurrences")


main()
