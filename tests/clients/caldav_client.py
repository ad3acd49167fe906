"""Python's CalDAV client against Berth: discovery, calendars, and what takes place in a range. Takes the URL to begin at, an
address and a key."""

import sys
from datetime import datetime, timezone

import caldav
from caldav.lib import error

url, address, key = sys.argv[1:4]


def at(month, day, hour=0):
    return datetime(2026, month, day, hour, tzinfo=timezone.utc)


def shown(events):
    """Beginnings and titles of every event that was found, in their order."""
    found = []
    for event in events:
        for part in event.icalendar_instance.walk("VEVENT"):
            start = part["DTSTART"].dt.astimezone(timezone.utc)
            found.append(f"{start:%m-%d %H:%M} {part['SUMMARY']}")
    return sorted(found)


with caldav.DAVClient(url=url, username=address, password=key) as client:
    principal = client.principal()
    calendars = {calendar.get_display_name(): calendar for calendar in principal.calendars()}
    assert sorted(calendars) == ["Crew", "My events"], sorted(calendars)
    crew = calendars["Crew"]
    assert client.check_cdav_support()

    expected = ["03-02 09:00 Crew & mates", "03-09 10:00 Apart", "03-23 09:00 Crew & mates", "03-30 08:00 Crew & mates"]
    for how in ({"expand": True}, {"server_expand": True}):
        found = crew.search(event=True, start=at(3, 1), end=at(4, 1), **how)
        assert shown(found) == expected, (how, shown(found))
    found = crew.search(event=True, start=at(3, 23), end=at(3, 24))
    assert len(found) == 1 and "RRULE" in found[0].data, found
    assert crew.search(event=True, start=at(3, 16), end=at(3, 17)) == [], "it was left out"
    assert calendars["My events"].events() == []

    busy = crew.freebusy_request(at(3, 1), at(4, 1))
    assert busy.data.count("FREEBUSY:") == 4, busy.data

    whole = crew.events()
    assert len(whole) == 1, whole
    again = crew.event_by_url(whole[0].url)
    assert "RRULE:FREQ=WEEKLY;COUNT=5" in again.data, again.data
    known = crew.objects(load_objects=True)
    assert len(list(known)) == 1 and known.sync_token, known
    updated, deleted = known.sync()
    assert not list(updated) and not list(deleted), (updated, deleted)

    try:
        crew.save_event(dtstart=at(5, 1, 9), dtend=at(5, 1, 10), summary="No")
    except error.DAVError:
        pass
    else:
        raise AssertionError("something was written")

with caldav.DAVClient(url=url, username=address, password=key + "x") as client:
    try:
        client.principal().calendars()
    except error.AuthorizationError:
        pass
    else:
        raise AssertionError("a key that is none opened something")

print("all of it works")
