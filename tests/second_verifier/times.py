"""RFC 3339 times as this format restricts them (format.md, "Conventions")."""

from __future__ import annotations

import calendar
import re

from errors import FormError

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII
)
NANOSECONDS = 1_000_000_000
_ZERO_TIME = -62135596800 * NANOSECONDS


def parse_time(text: str) -> int:
    """Return the nanoseconds since 1970 of a time, or raise `FormError`."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise FormError("not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (1 <= month <= 12 and 1 <= day <= calendar.monthrange(max(year, 1), month)[1]) or year == 0:
        raise FormError("not a date")
    if hour > 23 or minute > 59 or second > 59:
        raise FormError("not a time of day")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = match.group(8)
    if zone != "Z":
        zone_hours, zone_minutes = int(zone[1:3]), int(zone[4:6])
        if zone_hours > 23 or zone_minutes > 59:
            raise FormError("not an offset")
        offset = zone_hours * 3600 + zone_minutes * 60
        seconds += -offset if zone[0] == "+" else offset
    nanoseconds = seconds * NANOSECONDS + int((match.group(7) or "0").ljust(9, "0"))
    if nanoseconds == _ZERO_TIME:
        raise FormError("the zero time is not a valid time")
    return nanoseconds


def is_normal(text: str) -> bool:
    """Whether `text` is a time in UTC whose fraction has no trailing zero."""
    try:
        parse_time(text)
    except FormError:
        return False
    return text.endswith("Z") and not ("." in text and text.endswith("0Z"))


def time_or_none(text: object) -> int | None:
    """Return the nanoseconds since 1970, or `None` if `text` is not a time."""
    try:
        return parse_time(text) if isinstance(text, str) else None
    except FormError:
        return None


def most_back(times: list[int]) -> int:
    """Return the largest distance by which a time is earlier than the latest one before it."""
    most, latest = 0, None
    for time in times:
        if latest is not None:
            most = max(most, latest - time)
        latest = time if latest is None else max(latest, time)
    return most
