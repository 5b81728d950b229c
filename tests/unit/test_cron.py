"""Schedules mean what they mean to cron."""

from datetime import UTC, datetime, timedelta

import pytest

from kvs.cron import cron_trigger

MONDAY = datetime(2026, 7, 13, 12, 0, tzinfo=UTC)


def next_times(schedule: str, number: int) -> list[str]:
    trigger, moment, times = cron_trigger(schedule, UTC), MONDAY, []
    for _ in range(number):
        found = trigger.get_next_fire_time(None, moment)
        times.append(found.strftime("%a %d %H:%M"))
        moment = found + timedelta(seconds=1)
    return times


@pytest.mark.parametrize(
    ("schedule", "times"),
    [
        ("0 0 * * *", ["Tue 14 00:00", "Wed 15 00:00"]),
        ("*/20 12 * * *", ["Mon 13 12:00", "Mon 13 12:20", "Mon 13 12:40", "Tue 14 12:00"]),
        ("0 0 * * 0", ["Sun 19 00:00", "Sun 26 00:00"]),
        ("0 0 * * 7", ["Sun 19 00:00", "Sun 26 00:00"]),
        ("0 0 * * SUN", ["Sun 19 00:00", "Sun 26 00:00"]),
        ("0 0 * * 1-5", ["Tue 14 00:00", "Wed 15 00:00", "Thu 16 00:00", "Fri 17 00:00", "Mon 20 00:00"]),
        ("0 0 * * 5-7", ["Fri 17 00:00", "Sat 18 00:00", "Sun 19 00:00", "Fri 24 00:00"]),
        ("0 0 * * 1,mon,3", ["Wed 15 00:00", "Mon 20 00:00", "Wed 22 00:00"]),
        ("0 0 * * */3", ["Wed 15 00:00", "Sat 18 00:00", "Sun 19 00:00"]),
        ("0 0 * * mon-fri/2", ["Wed 15 00:00", "Fri 17 00:00", "Mon 20 00:00"]),
        ("0 0 1 * 5", ["Fri 17 00:00", "Fri 24 00:00", "Fri 31 00:00", "Sat 01 00:00", "Fri 07 00:00"]),
        ("0 0 */2 * 3", ["Wed 15 00:00", "Wed 29 00:00"]),
        ("30 4 1 1 *", ["Fri 01 04:30", "Sat 01 04:30"]),
    ],
)
def test_the_next_times(schedule: str, times: list[str]) -> None:
    assert next_times(schedule, len(times)) == times


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "daily",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "0 0 * * 8",
        "0 0 * * 5-1",
        "0 0 * * mon-",
        "0 0 * * ,",
        "0 0 * * 1/2",
        "0 0 * * */0",
        "0 0 * * */x",
        "0 0 * * yesterday",
        "0 0 * * ²",
    ],
)
def test_what_is_no_schedule(schedule: str) -> None:
    with pytest.raises(ValueError):
        cron_trigger(schedule, UTC)
