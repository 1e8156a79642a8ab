#!/usr/bin/env python3
"""Random queries over two streams as cases for record.py, one a seed.

    FUZZ=0:40 record.py fuzz_streams.py OUT    seeds 0 to 39 recorded as folders under OUT

A seed is the files of two streams (late rows, NULL, equal times, steps that bring nothing to one) and one
join with its conditions, and what stands above it; Spark may refuse it. Left out is what we do
otherwise on purpose (ARCHITECTURE.md): NULL keys under FULL JOIN, conditions of ON on the kept side,
outer joins with one watermark alone.
"""

import datetime as D, os, random

T0 = D.datetime(2024, 5, 1, 12, 0, 0)


class Fuzz:
    def __init__(self, seed):
        self.r = random.Random(seed * 104729 + 7)
        self.seed = seed

    def one(self, *of):
        return self.r.choice(of)

    def p(self, chance):
        return self.r.random() < chance

    # --- data ---
    def row(self, now, nulls):
        at = T0 + D.timedelta(seconds=now + self.r.randint(-30, 12))
        at += D.timedelta(milliseconds=self.one(0, 0, 0, 0, 500, 1, 999))
        if self.p(0.4):
            at = at.replace(microsecond=0, second=at.second // 5 * 5)
        text = at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{at.microsecond // 1000:03}" if at.microsecond else "") + "Z"
        null = lambda value: "" if nulls and self.p(0.08) else value
        return ",".join([null(text), null(self.one("a", "b", "c", "A", "a")), null(str(self.r.randint(0, 9)))])

    def files(self, nulls):
        now, both = 0.0, ([], [])
        for at in range(self.r.randint(3, 5)):
            skips = self.one(None, None, None, 0, 1)
            for stream, column in enumerate("vw"):
                if at and skips == stream:
                    both[stream].append(None)
                    continue
                rows = [self.row(now, nulls) for _ in range(self.r.randint(1, 6))]
                both[stream].append("\n".join([f"ts,k,{column}", *rows]) + "\n")
            now += self.one(5, 15, 30, 60)
        for stream, column in enumerate("vw"):
            for far in (300, 400):
                moment = (T0 + D.timedelta(seconds=far)).strftime("%Y-%m-%dT%H:%M:%SZ")
                both[stream].append(f"ts,k,{column}\n{moment},z{stream},{far // 100}\n")
        return both

    # --- conditions ---
    def range(self):
        low, high = self.r.randint(0, 8), self.r.randint(0, 12)
        own, other = self.one(("a", "b"), ("b", "a"))
        i = lambda n: f"INTERVAL '{n}' SECOND"
        return self.one(
            f"{own}.ts BETWEEN {other}.ts - {i(low)} AND {other}.ts + {i(high)}",
            f"{own}.ts >= {other}.ts - {i(low)} AND {own}.ts <= {other}.ts + {i(high)}",
            f"{own}.ts > {other}.ts AND {own}.ts < {other}.ts + {i(high + 1)}",
            f"{own}.ts + {i(low)} >= {other}.ts AND {other}.ts + {i(high)} >= {own}.ts",
            f"{own}.ts >= {other}.ts - {i(low)}",
            f"{own}.ts - {other}.ts BETWEEN INTERVAL '-{low}' SECOND AND {i(high)}",
        )

    def on(self, kind):
        keys = self.one("a.k = b.k", "a.k = b.k", "a.k = b.k AND v = w", "upper(a.k) = upper(b.k)", "b.k = a.k AND a.ts = b.ts",
                        "a.ts = b.ts", "a.k <=> b.k", "v = w", "a.win = b.win", "a.win = b.win AND a.k = b.k", "a.win.start = b.win.start AND a.k = b.k")
        parts = [keys]
        if "win" not in keys and "ts" not in keys and self.p(0.85):
            parts.append(self.range())
        if kind in ("INNER", "LEFT SEMI") and self.p(0.3):
            parts.append(self.one("v > 1", "w < 7", "v <> 4", "b.k <> 'c'", "a.k IN ('a', 'b')"))
        if kind == "LEFT" and self.p(0.2):
            parts.append(self.one("w < 7", "b.k <> 'c'"))
        if kind == "RIGHT" and self.p(0.2):
            parts.append(self.one("v > 1", "a.k <> 'c'"))
        if self.p(0.2):
            parts.append(self.one("v <= w", "v + w < 12", "v <> w", "coalesce(v, 0) < coalesce(w, 5)"))
        return " AND ".join(parts)

    def where(self, semi):
        one = ["v > 2", "v IS NOT NULL", "a.k <> 'b'", "coalesce(v, 3) < 8", "v IS NULL"]
        other = ["w > 2", "w IS NULL", "b.k = 'a'", "w IS NOT NULL", "coalesce(w, 3) < 8", "w BETWEEN 1 AND 8"]
        both = ["v < w", "v + w > 3", "v > 2 OR w > 2", "a.k = b.k", "coalesce(v, w) > 1"]
        return self.one(*one) if semi else self.one(*one, *other, *both)

    def case(self):
        kind = self.one("INNER", "INNER", "LEFT", "RIGHT", "FULL", "LEFT SEMI")
        on = self.on(kind)
        nulls = kind != "FULL"
        watermarks = [self.one("0 seconds", "5 seconds", "10 seconds", "30 seconds") for _ in range(2)]
        if kind == "INNER" and self.p(0.25):
            watermarks[self.one(0, 1)] = None
        sides = ["input", "other"]
        if "win" in on:
            size = self.one("10 seconds", "5 seconds", "1 minute")
            of = lambda name, value: f"(SELECT window(ts, '{size}') AS win, k, {value} FROM {name})"
            groups = self.p(0.4)
            if groups:
                slide = self.one("", "", ", '5 seconds'")
                window = f"window(ts, '{size}'{slide if size != '5 seconds' else ''})"
                of = lambda name, value: f"(SELECT {window} AS win, k, max({value}) AS {value}, count(*) AS n FROM {name} GROUP BY {window}, k)"
            sides = [of("input", "v"), of("other", "w")]
            if groups and self.p(0.2):
                sides[1] = f"(SELECT window(ts, '{size}') AS win, k, w, 1 AS n FROM other)"
        elif self.p(0.15):
            sides[0] = "(SELECT * FROM input WHERE v > 0)"
        semi, windows = kind == "LEFT SEMI", "win" in on
        where = f" WHERE {self.where(semi)}" if self.p(0.35) else ""
        of = f"FROM {sides[0]} a {kind} JOIN {sides[1]} b ON {on}{where}"
        mode = "append"
        if self.p(0.35) and not windows:
            side = "a" if semi or self.p(0.7) else "b"
            value = "" if semi else ", sum(w) AS w"
            window = self.one("window({}.ts, '10 seconds')", "window({}.ts, '10 seconds', '5 seconds')", "window({}.ts, '30 seconds')").format(side)
            key = self.one("", "", f", {side}.k")
            sql = f"SELECT {window}.start AS s{key}, count(*) AS n{value} {of} GROUP BY {window}{key}"
            mode = self.one("append", "append", "update") if kind in ("INNER", "LEFT SEMI") else "append"
        elif self.p(0.12) and kind in ("INNER", "LEFT SEMI"):
            sql, mode = f"SELECT a.k, count(*) AS n, max(v) AS v {of} GROUP BY a.k", "update"
        else:
            times = ("a.win.start AS s, ", "b.win.end AS e, ") if windows else ("a.ts, ", "b.ts AS bts, ")
            left = self.one("", times[0]) + "a.k, v"
            right = "" if semi else ", " + self.one("", times[1]) + "b.k AS bk, w"
            sql = f"SELECT {left}{right} {of}"
            mode = self.one("append", "append", "update") if kind in ("INNER", "LEFT SEMI") else "append"
        files, other = self.files(nulls)
        case = dict(name=f"fuzz-streams-{self.seed:05}", shows="random", schema="ts TIMESTAMP, k STRING, v INT", sql=sql, mode=mode,
                    files=files, other_files=other, other=("ts TIMESTAMP, k STRING, w INT", ("ts", watermarks[1]) if watermarks[1] else None))
        if watermarks[0]:
            case["watermark"] = ("ts", watermarks[0])
        return case


first, last = map(int, os.environ.get("FUZZ", "0:20").split(":"))
CASES = [Fuzz(seed).case() for seed in range(first, last)]

if __name__ == "__main__":
    for case in CASES:
        print(case["name"], case["mode"], case["sql"])
