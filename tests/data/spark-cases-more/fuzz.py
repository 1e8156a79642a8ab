#!/usr/bin/env python3
"""Random streaming queries as cases for record.py, one a seed.

    FUZZ=0:40 record.py fuzz.py OUT    seeds 0 to 39 recorded as folders under OUT
    FUZZ=0:40 fuzz.py                  what they are

A seed is one schema, its files (late rows, NULL, rows of the far future, empty files, copies of
earlier rows) and one query, which Spark may refuse; same seed, same case. Where the order of rows
may show (lists, first, last) nothing is joined and no session merges them.
"""

import datetime as D, os, random

T0 = D.datetime(2024, 5, 1, 12, 0, 0)
KINDS = {
    "k": "STRING",
    "g": "INT",
    "v": "INT",
    "l": "BIGINT",
    "sm": "SMALLINT",
    "d": "DOUBLE",
    "f": "FLOAT",
    "x": "DECIMAL(10,2)",
    "y": "DECIMAL(18,4)",
    "b": "BOOLEAN",
    "dt": "DATE",
    "s": "STRING",
    "u": "TIMESTAMP",
}
NUM = ("INT", "BIGINT", "SMALLINT", "DOUBLE", "FLOAT", "DECIMAL(10,2)", "DECIMAL(18,4)")
INTS = ("INT", "BIGINT", "SMALLINT")


def stamp(t):
    text = t.strftime("%Y-%m-%dT%H:%M:%S")
    if t.microsecond:
        text += f".{t.microsecond // 1000:03}" if t.microsecond % 1000 == 0 else f".{t.microsecond:06}"
    return text + "Z"


class Fuzz:
    def __init__(self, seed):
        self.r = random.Random(seed * 7919 + 13)
        self.seed = seed

    def one(self, *of):
        return self.r.choice(of)

    def p(self, chance):
        return self.r.random() < chance

    # --- data ---
    def value(self, kind):
        r = self.r
        if self.p(0.1):
            return ""
        if kind == "k":
            return r.choice(["a", "b", "c", "a", "b", '""', "é", "A"])
        if kind == "s":
            return r.choice(["x y", "x", "y  z", '""', "z x y", "hello world", '"a,b"', " x"])
        if kind == "g":
            return str(r.randint(0, 3))
        if kind in ("v", "sm"):
            return str(r.randint(-5, 20))
        if kind == "l":
            return str(r.choice([r.randint(-9, 9), r.randint(-(10**10), 10**10)]))
        if kind in ("d", "f"):
            return r.choice(
                [str(r.randint(-40, 80) / 4), str(r.randint(-40, 80) / 4), "0.0", "-0.0", "NaN"]
                if self.p(0.2)
                else [str(r.randint(-40, 80) / 4)]
            )
        if kind == "x":
            return f"{r.randint(-999, 9999) / 100:.2f}"
        if kind == "y":
            return f"{r.randint(-99999, 9999999) / 10000:.4f}"
        if kind == "b":
            return r.choice(["true", "false"])
        if kind == "dt":
            return (D.date(2024, 4, 30) + D.timedelta(days=r.randint(0, 3))).isoformat()
        if kind == "u":
            return stamp(T0 + D.timedelta(seconds=r.randint(-50, 100)))

    def files(self):
        r, files, now, old = self.r, [], 0.0, []
        self.names = ["ts"] + self.cols
        for at in range(r.randint(3, 6)):
            rows = []
            for _ in range(0 if self.p(0.12) else r.randint(1, 7)):
                if old and self.p(0.15):
                    rows.append(r.choice(old))
                    continue
                t = now + r.randint(-35, 15)
                if self.p(0.02):
                    t += r.choice([600, 86400])
                fraction = r.choice([0, 0, 0, 0.5, 0.123, 0.000001, 0.999999])
                moment = T0 + D.timedelta(seconds=t) + D.timedelta(microseconds=round(fraction * 1e6))
                if self.p(0.4):
                    moment = moment.replace(microsecond=0, second=moment.second // 5 * 5)
                row = ["" if self.p(0.07) else stamp(moment)] + [self.value(c) for c in self.cols]
                old.append(row)
                rows.append(row)
            now += r.choice([3, 10, 20, 40])
            files.append(
                ",".join(self.order)
                + "\n"
                + "".join(",".join(row[self.names.index(n)] for n in self.order) + "\n" for row in rows)
            )
        return files

    # --- expressions over self.env: name -> (sql, type) ---
    def of(self, kinds):
        found = [e for e in self.env.values() if e[1] in kinds]
        return self.r.choice(found) if found else None

    def num(self, depth=0):
        c = self.of(NUM) or ("1", "INT")
        if depth > 1 or self.p(0.6):
            return c[0]
        a = self.num(depth + 1)
        return self.one(
            f"{a} + 1",
            f"{a} * 2",
            f"abs({a})",
            f"coalesce({a}, 0)",
            f"{a} / 4",
            f"({a}) - {self.num(depth + 1)}",
            f"CASE WHEN {self.cond()} THEN {a} ELSE 0 END",
            f"CASE WHEN {self.cond()} THEN {a} END",
            f"greatest({a}, 0)",
            f"if({self.cond()}, {a}, NULL)",
            f"-{a}",
            f"cast({a} AS DOUBLE)",
            f"nullif({a}, 1)",
            f"round({a}, 1)",
            f"cast({a} AS DECIMAL(20,3))",
        )

    def text(self):
        c = self.of(("STRING",))
        if not c:
            return "'t'"
        if self.p(0.6):
            return c[0]
        return self.one(
            f"upper({c[0]})",
            f"coalesce({c[0]}, '-')",
            f"concat({c[0]}, '!')",
            f"{c[0]} || '_'",
            f"substring({c[0]}, 1, 1)",
            f"trim({c[0]})",
            f"nullif({c[0]}, '')",
            f"concat_ws('-', {c[0]}, 'q')",
            f"lpad({c[0]}, 3, '*')",
        )

    def cond(self):
        n = (self.of(NUM) or ("1", "INT"))[0]
        t = (self.of(("STRING",)) or ("'t'", ""))[0]
        b = (self.of(("BOOLEAN",)) or ("true", ""))[0]
        return self.one(
            f"{n} > 3",
            f"{n} <= 5",
            f"{n} IS NOT NULL",
            f"{t} = 'a'",
            f"{t} <> 'a'",
            f"{t} IN ('a', 'b')",
            f"{t} IS NULL",
            b,
            f"NOT {b}",
            f"{n} BETWEEN 0 AND 8",
            f"{t} LIKE '%x%'",
            f"{n} > 0 OR {t} = 'b'",
            f"{n} <> 2 AND {t} IS NOT NULL",
            f"{t} <=> NULL",
            f"{n} NOT IN (1, 2)",
            f"length({t}) > 1",
            f"NOT ({n} > 0 AND {t} = 'a')",
        )

    def any(self):
        return self.r.choice(list(self.env.values()))[0]

    def comparable(self):
        e = [v for v in self.env.values() if not v[1].startswith(("STRUCT", "ARRAY"))]
        return self.r.choice(e)[0]

    def aggregate(self, session=False):
        """sql, whether approximate"""
        n, a = self.num(), self.comparable()
        plain = [
            ("count(*)", 0),
            (f"count({a})", 0),
            (f"sum({n})", 0),
            (f"avg({n})", 1),
            (f"min({a})", 0),
            (f"max({a})", 0),
            (f"min({n})", 0),
            (f"max({n})", 0),
            (f"count_if({self.cond()})", 0),
            (f"sum(CASE WHEN {self.cond()} THEN 1 ELSE 0 END)", 0),
            (f"sum({n})", 0),
            (f"max({n}) - min({n})", 0),
            (f"sum({n}) / count(*)", 1),
            (f"count(*) * 10 + 1", 0),
            (f"coalesce(sum({n}), 0)", 0),
            (f"sum({n} * 2)", 0),
            ("count(1)", 0),
        ]
        rare = [
            (f"stddev({n})", 1),
            (f"stddev_pop({n})", 1),
            (f"variance({n})", 1),
            (f"var_pop({n})", 1),
            (f"bool_and({self.cond()})", 0),
            (f"bool_or({self.cond()})", 0),
            (f"every({self.cond()})", 0),
            (f"sort_array(collect_set({a}))", 0),
            (f"sort_array(collect_list({a}))", 0),
            (f"size(collect_set({a}))", 0),
            (f"approx_count_distinct({a})", 0),
            (f"percentile({n}, 0.5)", 1),
            (f"median({n})", 1),
            (f"percentile_approx({n}, 0.5)", 0),
            (f"approx_percentile({n}, array(0.25, 0.75))", 0),
            (f"max({n} IS NULL)", 0),
            (f"corr({n}, {self.num()})", 1),
            (f"covar_pop({n}, {self.num()})", 1),
            (f"skewness({n})", 1),
            (f"kurtosis({n})", 1),
            (f"try_sum({n})", 0),
            (f"try_avg({n})", 1),
            (f"regr_count({n}, {self.num()})", 0),
            (f"min(-({n}))", 0),
            (f"count({a}, {n})", 0),
            (f"avg(cast({n} AS FLOAT))", 1),
            (f"cast(count({a}) AS INT)", 0),
            (f"round(avg({n}), 2)", 1),
            (f"sum(cast({n} AS DECIMAL(12,1)))", 0),
        ]
        i = self.of(INTS)
        if i:
            rare += [
                (f"bit_and({i[0]})", 0),
                (f"bit_or({i[0]})", 0),
                (f"bit_xor({i[0]})", 0),
                (f"sum({i[0]} % 3)", 0),
                (f"sum({i[0]} div 2)", 0),
            ]
        ordered = [
            (f"first({a})", 0),
            (f"last({a})", 0),
            (f"first({a}, true)", 0),
            (f"last({a}) IGNORE NULLS", 0),
            (f"any_value({a})", 0),
            (f"collect_list({a})", 0),
            (f"first_value({a})", 0),
            (f"last_value({a}) IGNORE NULLS", 0),
        ]
        pool = plain * 2 + rare + ([] if session or self.joined else ordered)
        sql, approx = self.r.choice(pool)
        if (
            self.p(0.12)
            and sql.endswith(")")
            and sql.count("(") >= 1
            and sql.split("(")[0]
            in ("count", "sum", "avg", "min", "max", "first", "stddev", "collect_list", "bool_or", "approx_count_distinct")
            and " - " not in sql
            and "/ count" not in sql
        ):
            sql += f" FILTER (WHERE {self.cond()})"
        return sql, approx

    # --- FROM ---
    def source(self):
        """(with, from, where conjuncts); sets self.env"""
        r = self.r
        self.joined, self.prefix = False, ""
        env = {n: (n, t) for n, t in self.schema}
        where, cte = [], ""
        self.env = dict(env)
        kind = r.choices(["plain", "sub", "cte", "union", "join", "in", "explode", "scalar"], [45, 8, 6, 6, 20, 8, 7, 3])[0]
        text = "input"
        if kind in ("sub", "cte", "union"):
            self.env = {n: e for n, e in env.items()}
            extra = f"{self.num()} AS w1, {self.text()} AS w2"
            inner = f"SELECT *, {extra} FROM input" + (f" WHERE {self.cond()}" if self.p(0.6) else "")
            if kind == "union":
                inner = inner + f" UNION ALL SELECT *, {extra} FROM input" + (f" WHERE {self.cond()}" if self.p(0.6) else "")
            self.env["w2"] = ("w2", "STRING")
            if kind == "cte" or kind == "union" and self.p(0.4):
                cte, text = f"WITH q AS ({inner}) ", "q"
            else:
                text = f"({inner}) AS q" if self.p(0.7) else f"({inner})"
        elif kind == "join" and self.static:
            self.joined = True
            how = r.choices(
                [
                    "JOIN",
                    "INNER JOIN",
                    "LEFT JOIN",
                    "LEFT SEMI JOIN",
                    "LEFT ANTI JOIN",
                    "RIGHTOF",
                    "RIGHT JOIN",
                    "FULL JOIN",
                    "CROSS JOIN",
                    "COMMA",
                    "USING",
                ],
                [20, 5, 20, 8, 8, 6, 2, 1, 3, 4, 12],
            )[0]
            on = self.one(
                "i.k = d.k",
                "i.k = d.k",
                "i.k = d.k AND i.v > d.w" if "v" in self.cols else "i.k = d.k",
                "i.k <=> d.k",
                "i.k = d.k AND d.w > 3",
                "upper(i.k) = upper(d.k)",
                "i.k = d.k AND i.k <> 'b'",
                "i.v > d.w" if "v" in self.cols else "i.k = d.k",
            )
            self.env = {n: (f"i.{n}", t) for n, t in self.schema}
            if how not in ("LEFT SEMI JOIN", "LEFT ANTI JOIN"):
                self.env.update(
                    {"name": ("d.name", "STRING"), "w": ("d.w", "INT"), "dk": ("d.k", "STRING"), "p": ("d.p", "DECIMAL(10,2)")}
                )
            if how == "RIGHTOF":
                text = f"dim d RIGHT JOIN input i ON {on}"
            elif how == "COMMA":
                text = "input i, dim d"
                where.append(on)
            elif how == "CROSS JOIN":
                text = "input i CROSS JOIN dim d"
            elif how == "USING":
                text = f"input i {self.one('JOIN', 'LEFT JOIN')} dim d USING (k)"
                self.env["k"] = ("k", "STRING")
                del self.env["dk"]
            else:
                text = f"input i {how} dim d ON {on}"
        elif kind == "in" and self.static:
            where.append(
                self.one(
                    "k IN (SELECT k FROM dim)",
                    "k NOT IN (SELECT k FROM dim WHERE k IS NOT NULL)",
                    "EXISTS (SELECT 1 FROM dim d WHERE d.k = input.k)",
                    "NOT EXISTS (SELECT 1 FROM dim d WHERE d.k = input.k AND d.w > 3)",
                    "k IN (SELECT k FROM dim WHERE w > 3)",
                    "k NOT IN (SELECT k FROM dim)",
                    "(k IN (SELECT k FROM dim WHERE w > 3) OR k = 'c')",
                    "k IN (SELECT k FROM dim GROUP BY k HAVING count(*) > 1)",
                )
            )
        elif kind == "explode" and "s" in self.cols:
            self.joined = False
            if self.p(0.6):
                text = f"input LATERAL VIEW {self.one('', 'OUTER ')}explode(split(s, ' ')) t AS word"
                self.env["word"] = ("word", "STRING")
            elif self.p(0.5):
                text = "input LATERAL VIEW posexplode(split(s, ' ')) t AS at, word"
                self.env["word"] = ("word", "STRING")
                self.env["at"] = ("at", "INT")
            else:
                text = "(SELECT *, explode(split(s, ' ')) AS word FROM input) AS q"
                self.env["word"] = ("word", "STRING")
        elif kind == "scalar" and self.static and "v" in self.cols:
            where.append(
                self.one(
                    "v > (SELECT min(w) FROM dim)",
                    "v < (SELECT max(w) FROM dim)",
                    "v > (SELECT max(w) FROM dim WHERE dim.k = input.k)",
                )
            )
        if self.p(0.35):
            where.append(self.cond())
        if self.p(0.06):
            where.append(f"{self.env['ts'][0]} > TIMESTAMP '2024-05-01 12:00:05'")
        return cte, text, where

    def select(self, cte, items, text, where, rest=""):
        return f"{cte}SELECT {', '.join(items)} FROM {text}" + (f" WHERE {' AND '.join(where)}" if where else "") + rest

    def key(self):
        e = self.env
        simple = [v[0] for n, v in e.items() if n in ("k", "g", "b", "dt", "name", "word", "k")]
        if simple and self.p(0.65):
            return self.r.choice(simple)
        c = self.comparable()
        return self.one(
            self.text(),
            f"{c} IS NULL",
            f"CASE WHEN {self.cond()} THEN 'p' ELSE 'q' END",
            self.num(),
            c,
            f"coalesce({self.text()}, 'none')",
            f"{(self.of(INTS) or ('1', ''))[0]} % 3",
            f"{(self.of(INTS) or ('1', ''))[0]} > 4",
            f"date_trunc('minute', {e['ts'][0]})",
        )

    def window(self):
        ts = self.env["ts"][0]
        size = self.one("5 seconds", "10 seconds", "10 seconds", "20 seconds", "1 minute", "7 seconds", "2500 milliseconds")
        if self.p(0.6):
            return f"window({ts}, '{size}')"
        size, slide = self.one(
            ("10 seconds", "5 seconds"),
            ("20 seconds", "10 seconds"),
            ("10 seconds", "4 seconds"),
            ("10 seconds", "3 seconds"),
            ("15 seconds", "10 seconds"),
            ("10 seconds", "10 seconds"),
        )
        if self.p(0.6):
            return f"window({ts}, '{size}', '{slide}')"
        return f"window({ts}, '{size}', '{slide}', '{self.one('1 second', '2 seconds', '-1 second', '2500 milliseconds')}')"

    def items(self, keys, aggregates):
        """select items, names of key outputs, approx names"""
        out, approx, names = [], [], []
        for at, key in enumerate(keys):
            out.append(f"{key} AS g{at}")
            names.append(f"g{at}")
        for at, (sql, near) in enumerate(aggregates):
            if self.p(0.12) and not near:
                out.append(sql)
            else:
                out.append(f"{sql} AS a{at}")
                if near:
                    approx.append(f"a{at}")
        return out, names, approx

    def aggregated(self, session=False):
        cte, text, where = self.source()
        group, keys = [], []
        with_window = session or self.p(0.72)
        if with_window:
            if session:
                ts = self.env["ts"][0]
                gap = self.one(
                    "'5 seconds'",
                    "'10 seconds'",
                    "'8 seconds'",
                    f"CASE WHEN {self.cond()} THEN '5 seconds' ELSE '12 seconds' END",
                    f"concat(cast({(self.of(INTS) or ('7', ''))[0]} AS STRING), ' seconds')",
                )
                group.append(f"session_window({ts}, {gap})")
                w = "session_window"
            else:
                group.append(self.window())
                w = "window"
            keys += self.one([f"{w}.start", f"{w}.end"], [f"{w}.start"], [w], [f"{w}.end"], [f"{w}.start", f"{w}.end"])
        more = [self.key() for _ in range(self.r.choices([0, 1, 2], [30, 55, 15])[0])]
        if session and not more:
            more = [self.key()]
        if not with_window and self.p(0.15):
            more.append(self.env["ts"][0])
        more = list(dict.fromkeys(more))
        group += more
        keys += more
        if self.p(0.1) and len(keys) > 1:
            keys.remove(self.r.choice(keys))
        self.r.shuffle(group)
        aggregates = [self.aggregate(session) for _ in range(self.r.randint(1, 4))]
        if self.p(0.05):
            aggregates = []
        items, names, approx = self.items(keys, aggregates)
        if not items:
            items = ["count(*) AS n"]
        rest = ""
        if group:
            rest = " GROUP BY " + ", ".join(group)
            if len(more) and self.p(0.06) and not with_window:
                rest = " GROUP BY " + self.one(f"ROLLUP ({', '.join(more)})", f"CUBE ({', '.join(more)})")
        if self.p(0.18):
            rest += " HAVING " + self.one(
                "count(*) > 1",
                f"max({self.num()}) > 3",
                f"sum({self.num()}) IS NOT NULL",
                "count(*) >= 1 AND count(*) < 4",
                f"min({self.comparable()}) IS NOT NULL",
            )
        complete = self.mode == "complete" or self.p(0.02)
        sql = self.select(cte, items, text, where, rest)
        self.approx = approx
        covers = set(keys) >= {g for g in more} and (
            not with_window or any(k.startswith(("window", "session_window")) for k in keys)
        )
        if complete and self.p(0.4) and covers and names:
            by = [n + self.one("", " DESC", " ASC NULLS LAST", " DESC NULLS FIRST") for n in names]
            self.r.shuffle(by)
            sql += " ORDER BY " + ", ".join(by) + (f" LIMIT {self.r.randint(1, 5)}" if self.p(0.5) else "")
            self.ordered = True
        elif self.p(0.08) and names:
            n = self.r.choice(names)
            sql = f"SELECT * FROM ({sql}) WHERE {n} IS NOT NULL" if not cte else sql
        return sql

    def chained(self):
        cte, text, where = self.source()
        more = [self.key()] if self.p(0.6) else []
        aggregates = [self.aggregate() for _ in range(self.r.randint(1, 2))]
        w = self.window() if self.p(0.8) else None
        how = self.r.choices(["direct", "time", "session", "key"], [5, 5, 1, 2])[0]
        inner_keys = ["window"] + [f"{m} AS kk" for m in more]
        items = inner_keys + ["count(*) AS c"] + [f"{s} AS b{i}" for i, (s, _) in enumerate(aggregates)]
        w = w or self.window()
        if how == "session":
            w, items[0] = (f"session_window({self.env['ts'][0]}, '5 seconds')", "session_window AS window")
        if how == "time":
            items[0] = "window_time(window) AS wt"
        inner = self.select("", items, text, where, " GROUP BY " + ", ".join([w] + more))
        outer_window = (
            "window(wt, '30 seconds')"
            if how == "time"
            else self.one("window(window, '20 seconds')", "window(window, '30 seconds', '15 seconds')")
        )
        if how == "key":
            outer_window = "window"
        group = [outer_window] + (["kk"] if more and self.p(0.5) else [])
        self.env = {"c": ("c", "BIGINT")}
        aggregates2 = self.one(["sum(c) AS s"], ["count(*) AS n", "max(c) AS m"], ["sum(c) AS s", "avg(c) AS a", "min(b0) AS mb"])
        select = ["window.start AS ws", "window.end AS we"] + group[1:] + aggregates2
        return f"{cte}SELECT {', '.join(select)} FROM ({inner}) AS o GROUP BY {', '.join(group)}"

    def stateless(self):
        cte, text, where = self.source()
        items = []
        for at in range(self.r.randint(1, 4)):
            e = self.one(self.num(), self.text(), self.any(), self.cond(), self.env["ts"][0])
            items.append(e if self.p(0.2) else f"{e} AS c{at}")
        if self.p(0.2) and not self.joined:
            items = ["*"]
        distinct = self.p(0.12)
        if "explode" not in text and "s" in self.cols and self.p(0.08) and items != ["*"]:
            items.append("explode(split(" + self.env["s"][0] + ", ' ')) AS word")
        sql = self.select(cte, items, text, where)
        if distinct:
            sql = sql.replace("SELECT ", "SELECT DISTINCT ", 1) if not cte else sql
        if self.p(0.06):
            sql += f" LIMIT {self.r.randint(1, 8)}" if self.p(0.3) else f" ORDER BY 1"
        return sql

    def case(self):
        r = self.r
        self.cols = ["k"] + r.sample([c for c in KINDS if c != "k"], r.randint(3, 7))
        if self.p(0.7) and "v" not in self.cols:
            self.cols.append("v")
        self.order = ["ts"] + self.cols
        r.shuffle(self.order)
        self.schema = [(n, "TIMESTAMP" if n == "ts" else KINDS[n]) for n in self.order]
        self.static = self.p(0.6)
        self.approx, self.ordered = [], False
        case = {"name": f"fuzz-{self.seed:05}", "schema": ", ".join(f"{n} {t}" for n, t in self.schema)}
        watermark = self.p(0.78)
        if watermark:
            case["watermark"] = (
                "ts",
                self.one("0 seconds", "5 seconds", "10 seconds", "10 seconds", "30 seconds", "1 minute", "2500 milliseconds"),
            )
        if self.p(0.12):
            columns = r.sample(["ts"] + self.cols, r.randint(1, 2))
            case["dedup"] = (columns, watermark and self.p(0.5))
        kind = r.choices(["aggregated", "session", "chained", "stateless"], [52, 14, 10, 24])[0]
        modes = {
            "aggregated": [40, 38, 22] if watermark else [6, 54, 40],
            "session": [70, 4, 26] if watermark else [4, 4, 92],
            "chained": [90, 5, 5] if watermark else [30, 30, 40],
            "stateless": [60, 36, 4],
        }[kind]
        self.mode = r.choices(["append", "update", "complete"], modes)[0]
        case["files"] = self.files()
        if self.static:
            lines = [
                f"{k},{n},{w},{p}"
                for k, n, w, p in r.sample(
                    [
                        ("a", "alpha", "5", "1.50"),
                        ("b", "beta", "20", ""),
                        ("b", "bis", "3", "2.25"),
                        ("", "none", "1", "0.00"),
                        ("x", "ex", "", "9.99"),
                        ("c", "", "-2", "-3.10"),
                        ('""', "empty", "7", "4.00"),
                    ],
                    r.randint(2, 6),
                )
            ]
            case["static"] = (
                "dim",
                "k STRING, name STRING, w INT, p DECIMAL(10,2)",
                "k,name,w,p\n" + "".join(l + "\n" for l in lines),
            )
        case["sql"] = {
            "aggregated": self.aggregated,
            "session": lambda: self.aggregated(True),
            "chained": self.chained,
            "stateless": self.stateless,
        }[kind]()
        case["mode"] = self.mode
        case["arrival"] = r.choices(["each", "backlog", "restart", "available-now", "once"], [42, 34, 3, 14, 7])[0]
        if case["arrival"] == "once" and (
            "dedup" in case or any(w in case["sql"] for w in ("first", "last", "any_value", "collect_list", "LIMIT"))
        ):
            case["arrival"] = "backlog"  # files of one batch are read in no order
        case["shows"] = f"{kind} {self.seed}"
        case["approx"], case["ordered"] = self.approx, self.ordered
        return case


first, last = map(int, os.environ.get("FUZZ", "0:10").split(":"))
CASES = [Fuzz(seed).case() for seed in range(first, last)]
if __name__ == "__main__":
    for c in CASES:
        print(c["name"], c["mode"], c["arrival"], c.get("watermark"), c.get("dedup"), "\n  ", c["sql"])
