#!/usr/bin/env python3
"""Records what Spark answers about times in zones whose clocks change.

    record.py FACTS OUT SEED ROWS [ZONE ...]   the expressions of FACTS anew, over other rows

A file of facts has for each zone its name, its rows (`row` and five values: two instants, a time
without a zone, a date, a number) and its expressions, each with its answers as texts in the order
of the rows, one a line, indented. Most instants and times lie near a change of the clock; half of the
times without a zone lie within one. What Spark refuses for any row is left out. Needs pyspark 4.2.0.
"""

import os, random, sys, time, zoneinfo
from datetime import date, datetime, timedelta, timezone

os.environ["TZ"] = "UTC"
time.tzset()

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

UTC = timezone.utc
YEARS = (1985, 2035)
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca"]


def changes(zone):
    """When its clock changes, to the second."""
    tz, out = zoneinfo.ZoneInfo(zone), []
    offset = lambda at: at.astimezone(tz).utcoffset()
    at, step = datetime(YEARS[0], 1, 1, tzinfo=UTC), timedelta(hours=6)
    while at.year < YEARS[1]:
        low, high = at, at + step
        if offset(low) != offset(high):
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            out.append(high)
        at += step
    return out


def rows(zone, count, dice):
    tz, known = zoneinfo.ZoneInfo(zone), changes(zone)

    def instant():
        near = [-86400, -7200, -3600, -1800, -1, 0, 1, 1800, 3599, 3600, 5400, 7200, 86400, 31 * 86400, -30 * 86400]
        near.append(dice.randrange(-200000, 200000))
        if dice.random() < 0.7:
            at = dice.choice(known) + timedelta(seconds=dice.choice(near))
        else:
            span = int((datetime(YEARS[1], 1, 1) - datetime(YEARS[0], 1, 1)).total_seconds())
            at = datetime(YEARS[0], 1, 1, tzinfo=UTC) + timedelta(seconds=dice.randrange(span))
        return at.replace(microsecond=dice.choice([0, 0, 0, 1, 999999, 123456]))

    def local():
        if dice.random() < 0.5:
            return instant().astimezone(tz).replace(tzinfo=None)
        before = (dice.choice(known) - timedelta(seconds=1)).astimezone(tz).replace(tzinfo=None)
        return before + timedelta(seconds=1 + dice.choice([0, 900, 1799, 1800, 3599]))

    for _ in range(count):
        n = dice.choice([-13, -1, 0, 1, 2, 11, 25, 24, -24, dice.randrange(-100, 100)])
        yield instant(), instant(), local(), instant().astimezone(tz).date(), n


def text(row):
    ts, ts2, ntz, day, n = row
    micros = lambda at: (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return f"row {micros(ts)} {micros(ts2)} {ntz:%Y-%m-%dT%H:%M:%S.%f} {day} {n}"


def answers(spark, expression):
    """Its values as texts; none where Spark refuses it, or one of them."""
    try:
        found = spark.sql(f"SELECT CAST({expression} AS STRING) FROM t ORDER BY id").collect()
    except PySparkException:
        return None
    return ["NULL" if value is None else value for (value,) in found]


def main():
    facts, out, seed, count, *zones = sys.argv[1:]
    # Answers are indented, rows and zones have a word before them.
    lines = dict.fromkeys(open(facts).read().splitlines())
    expressions = [of for of in lines if of and of[0] not in " #" and of.split()[0] not in ("row", "zone")]
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = spark.config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC -Dlog4j2.level=OFF").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    dice = random.Random(int(seed))
    with open(out, "w") as file:
        print("# What Spark 4.2.0 answers, recorded by record.py beside this file.", file=file)
        for zone in zones or ZONES:
            spark.conf.set("spark.sql.session.timeZone", zone)
            texts = [text(row) for row in rows(zone, int(count), dice)]
            print(f"\nzone {zone}", *texts, sep="\n", file=file)
            raw = [(at, *map(int, of[1:3]), of[3], of[4], int(of[5])) for at, of in enumerate(map(str.split, texts))]
            spark.createDataFrame(raw, "id INT, a LONG, b LONG, c STRING, d STRING, n INT").createOrReplaceTempView("raw")
            spark.sql(
                "SELECT id, timestamp_micros(a) ts, timestamp_micros(b) ts2, CAST(c AS TIMESTAMP_NTZ) ntz, "
                "CAST(d AS DATE) day, n FROM raw"
            ).createOrReplaceTempView("t")
            for expression in expressions:
                found = answers(spark, expression)
                if found is not None:
                    print(expression, *(f"  {value}" for value in found), sep="\n", file=file)
            print(zone, flush=True)


if __name__ == "__main__":
    main()
