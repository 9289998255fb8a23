"""Makes the reference series and what numpy expects of each detector.

    python3 tests/reference/make.py           writes the CSV files beside this script
    python3 tests/reference/make.py --check   compares them with a fresh computation; exit code 1 on a difference

Every row is judged by the values before it, in batch: a mean is numpy's mean of a slice, not a running one.
Inputs are multiples of 1/1024, so that text and binary hold the same number. An empty cell is "not known".
Needs numpy; checked with 1.24 and 2.4.
"""

import csv
import math
import random
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TOLERANCE = 1e-12  # of the value; or of 1, where terms cancel out
BAND = ["expected", "lower", "upper", "score"]
UNKNOWN = [None] * 4

NOISE = 1e-12  # a spread below this share of the level is none
WINDOW, WINDOW_MIN = 60, 10
HOUR_MIN, WEEK_MS = 12, 7 * 24 * 3600 * 1000
TREND, TREND_MIN = 100, 10
DISK_LIMIT, HORIZONS = 5.0, (3600, 86400)
START_MS = 1_767_571_200_000  # Monday 2026-01-05 00:00 UTC


# --- inputs -----------------------------------------------------------------------------------------


def exact(value):
    return round(value * 1024) / 1024


def normal(rng):
    """Nearly normal, and the same on every platform and version: the sum of twelve uniforms."""
    return sum(rng.random() for _ in range(12)) - 6


def signal_series():
    """Trend, season, noise and spikes at an irregular 15 s scrape; constant and quantised stretches."""
    rng = random.Random(1962)
    now, rows = START_MS + 12_345, []
    for index in range(360):
        value = 100 + 0.05 * index + 12 * math.sin(index / 23) + 2 * normal(rng)
        if index < 14:
            value = 5.125
        elif 150 <= index < 220:
            value = 42.5
        elif 220 <= index < 270:
            value = float(rng.randrange(4))
        elif index % 71 == 33:
            value += rng.choice([-1, 1]) * 80
        elif index == 300:
            value = 1e6
        rows.append((now, exact(value)))
        now += 15_000 + rng.randrange(-400, 400) + (240_000 if rng.random() < 0.03 else 0)
    return rows


def hours_series():
    """Three and a half weeks, hourly; every five minutes on Monday and Saturday mornings; a silent Sunday hour."""
    rng = random.Random(168)
    rows = []
    for hour in range(24 * 24 + 12):
        weekday, clock = hour // 24 % 7, hour % 24
        dense = (weekday in (0, 5) and clock in (8, 9)) or (weekday == 6 and clock == 3)
        for minute in range(0, 60, 5 if dense else 60):
            if not dense and rng.random() < 0.04:
                continue
            now = START_MS + hour * 3_600_000 + minute * 60_000 + rng.randrange(60_000)
            level = 200 + 90 * math.sin((clock - 9) * math.pi / 12) - (120 if weekday >= 5 else 0)
            value = 0.0 if weekday == 6 and clock == 3 else level + 6 * normal(rng)
            value += 150 if rng.random() < 0.02 and value != 0.0 else 0
            rows.append((now, exact(value)))
    return rows


def disk_series():
    """Free space that drains, is cleaned up, stays, and drains again."""
    rng = random.Random(1795)
    now, free, rows = START_MS + 777, 40.0, []
    for index in range(320):
        if index == 130:
            free += 30
        drain = 0.0 if 150 <= index < 230 else 0.08
        free -= drain
        rows.append((now, exact(free + 0.3 * normal(rng))))
        now += 60_000 + rng.randrange(-900, 900) + (600_000 if rng.random() < 0.04 else 0)
    return rows


# --- expectations -----------------------------------------------------------------------------------


def verdict(value, expected, lower, upper):
    edge = upper if value >= expected else lower
    side = 1.0 if value >= expected else -1.0
    return [expected, lower, upper, side * abs(value - expected) / abs(edge - expected)]


def sigmas(past, value):
    mean, std = np.mean(past), np.std(past)
    if std <= NOISE * abs(mean):
        return UNKNOWN
    return verdict(value, mean, mean - 3 * std, mean + 3 * std)


def zscore(past, value):
    return sigmas(past, value) if len(past) >= 2 else UNKNOWN


def rolling_zscore(past, value):
    return sigmas(past[-WINDOW:], value) if len(past) >= WINDOW_MIN else UNKNOWN


def mad(past, value):
    if len(past) < WINDOW_MIN:
        return UNKNOWN
    median = np.median(past[-WINDOW:])
    deviation = np.median(np.abs(past[-WINDOW:] - median))
    if deviation <= NOISE * abs(median):
        return UNKNOWN
    modified = 0.6745 * (value - median) / deviation
    half = 3.5 * deviation / 0.6745
    return [median, median - half, median + half, modified / 3.5]


def iqr(past, value):
    if len(past) < WINDOW_MIN:
        return UNKNOWN
    q1, median, q3 = np.percentile(past[-WINDOW:], [25, 50, 75])
    if q3 - q1 <= NOISE * max(abs(q1), abs(q3)):
        return UNKNOWN
    return verdict(value, median, q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1))


def baseline(times, values, index):
    def hour(time):
        moment = datetime.fromtimestamp(time // 1000, tz=timezone.utc)
        return (moment.weekday(), moment.hour)

    past = values[:index]
    same = [value for time, value in zip(times[:index], past) if hour(time) == hour(times[index])]
    if len(same) >= HOUR_MIN and times[index] - times[0] >= WEEK_MS:
        past = np.array(same)
    return sigmas(past, values[index]) if len(past) >= HOUR_MIN else UNKNOWN


def trend(times, values, index):
    """The line through the last points, this one included, and what it says at the horizons."""
    if index + 1 < TREND_MIN:
        return [None] * 9
    window = slice(max(0, index + 1 - TREND), index + 1)
    seconds = (times[window] - times[index]) / 1000
    centre = seconds.mean()
    slope, level = np.polyfit(seconds - centre, values[window], 1)
    sigma = np.std(values[window] - (level + slope * (seconds - centre)))

    def line(after):
        return level + slope * (after - centre)

    cells = [slope]
    for horizon in HORIZONS:
        cells += [line(horizon), line(horizon) - 2 * sigma, line(horizon) + 2 * sigma]
    crossing = (DISK_LIMIT - line(0)) / slope
    breach = 0.0 if line(0) <= DISK_LIMIT else crossing if crossing > 0 else math.inf
    day = np.linspace(0, HORIZONS[-1], 1441)
    low = np.any(line(day) - 2 * sigma <= DISK_LIMIT)
    return cells + [breach, "high" if breach <= HORIZONS[-1] else "medium" if low else None]


# --- tables -----------------------------------------------------------------------------------------


def signal_table():
    methods = [zscore, rolling_zscore, mad, iqr]
    head = [f"{method.__name__}_{column}" for method in methods for column in BAND]
    rows = signal_series()
    values = np.array([value for _, value in rows])
    body = [sum((method(values[:i], values[i]) for method in methods), []) for i in range(len(rows))]
    return head, rows, body


def hours_table():
    rows = hours_series()
    times, values = [time for time, _ in rows], np.array([value for _, value in rows])
    return BAND, rows, [baseline(times, values, i) for i in range(len(rows))]


def disk_table():
    head = ["slope"] + [f"{column}_{horizon}" for horizon in HORIZONS for column in BAND[:3]]
    rows = disk_series()
    times, values = np.array([time for time, _ in rows]), np.array([value for _, value in rows])
    return head + ["breach_seconds", "confidence"], rows, [trend(times, values, i) for i in range(len(rows))]


def text(cell):
    return "" if cell is None else cell if isinstance(cell, str) else repr(float(cell))


def lines(table):
    head, rows, body = table
    yield ["timestamp", "value"] + head
    for (time, value), cells in zip(rows, body):
        yield [str(time), repr(value)] + [text(cell) for cell in cells]


def same(one, other):
    try:
        one, other = float(one), float(other)
    except ValueError:
        return one == other
    return one == other or math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def differences(path, fresh):
    with path.open(newline="") as file:
        stored = list(csv.reader(file))
    if [len(row) for row in stored] != [len(row) for row in fresh]:
        yield f"{path.name}: other rows or columns"
        return
    for number, (old, new) in enumerate(zip(stored, fresh), start=1):
        for name, one, other in zip(fresh[0], old, new):
            if not same(one, other):
                yield f"{path.name}:{number}: {name} is {one}, numpy says {other}"


def main():
    found = []
    for name, table in [("signal", signal_table()), ("hours", hours_table()), ("disk", disk_table())]:
        path, fresh = HERE / f"{name}.csv", list(lines(table))
        if "--check" in sys.argv[1:]:
            found += differences(path, fresh)
        else:
            with path.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(fresh)
    print("\n".join(found[:20]), end="\n" if found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
