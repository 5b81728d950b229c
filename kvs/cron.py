"""Five cron fields as a trigger of APScheduler, with the meaning that cron gives them (crontab(5)).

APScheduler reads them in a way of its own: there 0 is Monday, and a day must fit both the day of the month and that of
the week. For cron 0 and 7 are Sunday, and where both fields name days, either is enough.
"""

from datetime import tzinfo
from typing import Any

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


def cron_trigger(text: str, timezone: tzinfo | None = None) -> Any:
    """A trigger of APScheduler, in the host's own time zone unless one is given. Raises ValueError."""
    from apscheduler.triggers.combining import OrTrigger  # slow to import, and needed for schedules only
    from apscheduler.triggers.cron import CronTrigger

    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"a schedule has five fields, not {len(fields)}")
    minute, hour, day, month, weekday = fields
    weekday = ",".join(_weekdays(part) for part in weekday.lower().split(","))
    if day.startswith("*") or weekday == "*":
        return CronTrigger.from_crontab(" ".join((minute, hour, day, month, weekday)), timezone)
    by_day = CronTrigger.from_crontab(" ".join((minute, hour, day, month, "*")), timezone)
    by_weekday = CronTrigger.from_crontab(" ".join((minute, hour, "*", month, weekday)), timezone)
    return OrTrigger([by_day, by_weekday])


def _weekdays(part: str) -> str:
    """`mon,wed,fri` for `1-5/2`."""
    days, _, step = part.partition("/")
    if part == "*":
        return part
    first, dash, last = ("0", "-", "6") if days == "*" else days.partition("-")
    if step and not dash:
        raise ValueError("a step needs a range of days")
    start, stop = _day(first), _day(last) if dash else _day(first)
    if stop < start or (step and not step.isdecimal()) or step == "0":
        raise ValueError(f"no days of the week: {part}")
    return ",".join(_DAYS[day] for day in range(start, stop + 1, int(step or 1)))


def _day(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) < len(_DAYS):
        return int(text)
    raise ValueError(f"no day of the week: {text}")
