"""A strict parser of crontabs, by crontab(5)."""

from __future__ import annotations

import re

# minute, hour, day, month, weekday
RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def field_is_valid(field: str, low: int, high: int) -> bool:
    """Tell whether a field is a list of *, numbers and ranges, with steps or without."""
    for part in field.split(","):
        found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
        if found is None:
            return False
        first, last, _ = found.groups()
        ends = [int(end) for end in (first, last) if end is not None]
        if ends != sorted(ends) or any(not low <= end <= high for end in ends):
            return False
    return True


def command_of(line: str) -> str:
    """Return what cron hands to the shell: up to a % that is not escaped, which ends a command."""
    command = line.split(None, 5)[5]
    assert not re.search(r"(?<!\\)%", command), "what follows a % is standard input"
    return command.replace("\\%", "%")


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the settings and the lines with a command, of a crontab that is right."""
    settings, lines = {}, []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        setting = re.fullmatch(r"([A-Z_]+)\s*=\s*(\S+)", line)
        if setting:
            settings[setting[1]] = setting[2]
            continue
        fields = line.split(None, 5)
        assert len(fields) == 6, line
        for field, (low, high) in zip(fields, RANGES, strict=False):
            assert field_is_valid(field, low, high), f"{field} in {line}"
        lines.append(line)
    return settings, lines
