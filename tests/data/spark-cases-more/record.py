#!/usr/bin/env python3
"""Records what Spark Structured Streaming does with a query, batch by batch.

    record.py CASES.py OUT [WORD]     the cases of a Python file (a list CASES) as folders under OUT
    record.py --again FOLDER OUT [WORD]  recorded cases once more, to see that this script is right

A case is a dict: name, shows, schema, sql, mode, files (texts of CSV with a header), and where
wanted watermark (column, delay), dedup (columns, within), static (view, schema, csv), arrival,
approx, ordered. What a folder then holds is said in tests/spark-cases/README.md. A second stream,
the view `other`: other (schema, watermark or None) and other_files; each list then has a text or
None for each step, and a step's files arrive together. Needs pyspark 4.2.0 and Java 17; the
settings are those of session().
"""

import json, logging, os, pathlib, shutil, struct, sys, tempfile, time, tomllib

os.environ["TZ"] = "UTC"
time.tzset()

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession, functions as F, types as T


# A field without quotes and letters is NULL, one with quotes is a text of no letters.
CSV = {"header": "true", "quote": '"', "escape": '"', "nullValue": "\u0001", "emptyValue": ""}


def session():
    of = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    for key, value in {
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.session.timeZone": "UTC",
        # So that it seldom looks between two files of a step.
        "spark.sql.streaming.pollingDelay": "100ms",
        # Else rows that the reader drops are not counted as input.
        "spark.sql.csv.filterPushdown.enabled": "false",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -Dlog4j2.level=OFF",
        "spark.driver.memory": "1g",
    }.items():
        of = of.config(key, value)
    spark = of.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    logging.getLogger("SQLQueryContextLogger").disabled = True
    return spark


# --- values -------------------------------------------------------------------------------------


def type_name(of):
    if isinstance(of, T.StructType):
        fields = ", ".join(f"{field.name}: {type_name(field.dataType)}" for field in of.fields)
        return f"STRUCT<{fields}>"
    if isinstance(of, T.ArrayType):
        return f"ARRAY<{type_name(of.elementType)}>"
    if isinstance(of, T.MapType):
        return f"MAP<{type_name(of.keyType)}, {type_name(of.valueType)}>"
    return of.simpleString().upper()


def column_name(name):
    plain = name.replace("_", "a").isalnum() and name.isascii()
    return name if plain else "`" + name.replace("`", "``") + "`"


def ddl(schema):
    return ", ".join(f"{column_name(f.name)} {type_name(f.dataType)}" for f in schema.fields)


def float32(value):
    if value != value or value in (float("inf"), float("-inf")):
        return double(value)
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            return java(repr(float(text)))
    return java(repr(value))


def java(text):
    """A shortest number as Java writes it."""
    import decimal
    sign, digits, exponent = decimal.Decimal(text).as_tuple()
    plain = abs(float(text))
    if plain == 0 or 1e-3 <= plain < 1e7:
        return format(decimal.Decimal(text), "f")
    digits = "".join(map(str, digits))
    exponent += len(digits) - 1
    digits = digits.rstrip("0") or "0"
    return f"{'-' if sign else ''}{digits[0]}.{digits[1:] or '0'}E{exponent}"


def double(value):
    names = {float("inf"): "Infinity", float("-inf"): "-Infinity"}
    return "NaN" if value != value else names.get(value, repr(value))


def moment(value, zone):
    fraction = value.microsecond
    digits = "" if not fraction else f".{fraction // 1000:03}" if fraction % 1000 == 0 else f".{fraction:06}"
    date = f"{value.year:04}-{value.month:02}-{value.day:02}"
    return f"{date}T{value.hour:02}:{value.minute:02}:{value.second:02}{digits}{zone}"


def text(of, value):
    """A value as the cases write it; none for NULL."""
    if value is None:
        return None
    if isinstance(of, T.BooleanType):
        return "true" if value else "false"
    if isinstance(of, T.DoubleType):
        return double(value)
    if isinstance(of, T.FloatType):
        return float32(value)
    if isinstance(of, T.DecimalType):
        return format(value, "f")
    if isinstance(of, T.TimestampType):
        return moment(value, "Z")
    if isinstance(of, T.TimestampNTZType):
        return moment(value, "")
    if isinstance(of, T.BinaryType):
        import base64
        return base64.b64encode(bytes(value)).decode()
    if isinstance(of, (T.StructType, T.ArrayType, T.MapType)):
        return nested(of, value)
    return str(value)


def nested(of, value):
    """JSON without blanks, as to_json: NULL fields of structs are left out."""
    if value is None:
        return "null"
    if isinstance(of, T.StructType):
        members = [(f.name, f.dataType, value[at]) for at, f in enumerate(of.fields)]
        members = [f"{quoted(n)}:{nested(t, v)}" for n, t, v in members if v is not None]
        return "{" + ",".join(members) + "}"
    if isinstance(of, T.ArrayType):
        return "[" + ",".join(nested(of.elementType, v) for v in value) + "]"
    if isinstance(of, T.MapType):
        members = [f"{quoted(text(of.keyType, k))}:{nested(of.valueType, v)}" for k, v in value.items()]
        return "{" + ",".join(members) + "}"
    plain = text(of, value)
    bare = isinstance(of, (T.BooleanType, T.NumericType)) and plain not in ("NaN", "Infinity", "-Infinity")
    return plain if bare else quoted(plain)


def quoted(value):
    return json.dumps(value, ensure_ascii=False)


def order(cell):
    of, value = cell
    if value is None:
        return (0,)
    if isinstance(of, (T.NumericType, T.BooleanType)):
        return (2,) if value != value else (1, value)
    return (1, text(of, value).encode())


def csv(schema, rows, ordered):
    types = [field.dataType for field in schema.fields]
    rows = [list(row) for row in rows]
    if not ordered:
        rows.sort(key=lambda row: [order(cell) for cell in zip(types, row)])

    def field(value):
        if value is None:
            return ""
        special = value == "" or any(c in value for c in ',"\n\r')
        return '"' + value.replace('"', '""') + '"' if special else value

    lines = [",".join(field(f.name) for f in schema.fields)]
    lines += [",".join(field(text(t, v)) for t, v in zip(types, row)) for row in rows]
    return "\n".join(lines) + "\n"


# --- one case -----------------------------------------------------------------------------------


def said(error):
    """Class and first line of the innermost error."""
    inner, last = getattr(error, "_origin", None), None
    while inner is not None:
        if inner.getMessage():
            last = inner
        inner = inner.getCause()
    text = last.getMessage() if last is not None else str(error)
    text = text.strip().split("\n")[0].strip().rstrip(";")
    kind = error.getCondition() if last is not None else None
    return text if text.startswith("[") or not kind else f"[{kind}] {text}"


def file_name(step):
    return f"batch-{step:02}.csv"


def both(case):
    """The files of the first stream and of the second, by step."""
    return case["files"], case.get("other_files") or [None] * len(case["files"])


class Run:
    def __init__(self, spark, case, home):
        self.spark, self.case, self.home = spark, case, home
        self.rows, self.progress, self.schema, self.printed = {}, [], None, ""
        self.inboxes = [home / name for name in ("inbox", "other")]
        for inbox in self.inboxes:
            inbox.mkdir()
        self.placed, self.failure = 0, None

    def stream(self, schema, inbox):
        case = self.case
        return (
            self.spark.readStream.schema(schema)
            .options(**CSV)
            .option("multiLine", case.get("multiline", False))
            .option("maxFilesPerTrigger", 10**6 if case["arrival"] == "once" else 1)
            .csv(str(inbox))
        )

    def frame(self, view="input"):
        case = self.case
        frame = self.stream(case["schema"], self.inboxes[0])
        if "watermark" in case:
            frame = frame.withWatermark(*case["watermark"])
        if "dedup" in case:
            columns, within = case["dedup"]
            frame = frame.dropDuplicatesWithinWatermark(columns) if within else frame.dropDuplicates(columns)
        frame.createOrReplaceTempView(view)
        if "other" in case:
            schema, watermark = case["other"]
            other = self.stream(schema, self.inboxes[1])
            other = other.withWatermark(*watermark) if watermark else other
            other.createOrReplaceTempView("other")
        if "static" in case:
            name, schema, body = case["static"]
            path = self.home / "static.csv"
            path.write_text(body)
            table = self.spark.read.schema(schema).options(**CSV)
            table.csv(str(path)).createOrReplaceTempView(name)
        return self.spark.sql(case["sql"])

    def start(self):
        frame = self.frame()
        self.schema = frame.schema
        writer = frame.writeStream.outputMode(self.case["mode"])
        writer = writer.option("checkpointLocation", str(self.home / "checkpoint"))
        if self.case["arrival"] == "available-now":
            writer = writer.trigger(availableNow=True)
        if self.case["arrival"] == "once":
            writer = writer.trigger(once=True)

        def keep(batch, number):
            try:
                self.rows[number] = batch.collect()
            except PySparkException as error:
                self.failure = error
                raise
        return writer.foreachBatch(keep).start()

    def place(self):
        """A step's files, all but at once."""
        name = file_name(self.placed)
        for files, inbox in zip(both(self.case), self.inboxes):
            if files[self.placed] is None:
                continue
            path = self.home / name
            path.write_bytes(files[self.placed].encode())
            os.utime(path, (1.7e9 + self.placed, 1.7e9 + self.placed))
            path.rename(inbox / name)
        self.placed += 1

    def settle(self, query):
        query.processAllAvailable()

    def note(self, query):
        for progress in query.recentProgress:
            self.progress.append(json.loads(progress.json if hasattr(progress, "json") and isinstance(progress.json, str) else json.dumps(progress)))

    def go(self):
        """Runs all files; what Spark said where it stopped."""
        count, arrival = len(self.case["files"]), self.case["arrival"]
        query = None
        try:
            if arrival in ("each", "restart"):
                query = self.start()
                for at in range(count):
                    if at and arrival == "restart":
                        self.note(query)
                        query.stop()
                        query = self.start()
                    self.place()
                    self.settle(query)
            else:
                for _ in range(count):
                    self.place()
                query = self.start()
                self.settle(query) if arrival == "backlog" else query.awaitTermination()
            return None
        except PySparkException as error:
            return self.failure or error
        finally:
            if query is not None:
                self.note(query)
                query.stop()


def inputs_of(run, progress, stream):
    """The files of a stream that a batch took."""
    files = both(run.case)[stream]
    names = [file_name(at) for at, content in enumerate(files) if content is not None]
    if run.case["arrival"] == "once":
        return names
    inbox = str(run.inboxes[stream])
    source = next((of for of in progress["sources"] if inbox in of["description"]), None)
    if source is None:
        return []

    def offset(key):
        value = source.get(key)
        value = json.loads(value) if isinstance(value, str) else value
        return -1 if value is None else value["logOffset"]
    return names[offset("startOffset") + 1 : offset("endOffset") + 1]


def is_together(run):
    """Whether each step's files were taken by one batch: Spark may look between the two."""
    taken = [[], []]
    for progress in run.progress:
        for stream in (0, 1):
            taken[stream] += [(name, progress["batchId"]) for name in inputs_of(run, progress, stream)]
    first, second = map(dict, taken)
    return all(first[name] == second[name] for name in first.keys() & second.keys())


def batches(run):
    last = {}
    for progress in run.progress:
        if progress["batchId"] in run.rows:
            last[progress["batchId"]] = progress
    lines = []
    for number in sorted(run.rows):
        progress = last.get(number)
        if progress is None:
            continue
        operators = progress["stateOperators"]
        total = lambda key: sum(operator[key] for operator in operators)
        entry = f"id = {number}, inputs = {json.dumps(inputs_of(run, progress, 0))}"
        if "other" in run.case:
            entry += f", other_inputs = {json.dumps(inputs_of(run, progress, 1))}"
        entry += f", input_rows = {progress['numInputRows']}"
        if "watermark" in run.case or run.case.get("other", (None, None))[1]:
            watermark = progress.get("eventTime", {}).get("watermark")
            if watermark:
                entry += f', watermark = "{watermark}"'
        entry += f", rows_dropped_by_watermark = {total('numRowsDroppedByWatermark')}"
        entry += f", state_rows = {total('numRowsTotal')}"
        lines.append(f"  {{ {entry} }},")
    return "batches = [\n" + "\n".join(lines) + "\n]\n"


def toml_text(value):
    return json.dumps(value, ensure_ascii=False)


def write(run, error, out):
    case = run.case
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    head = [f"name = {toml_text(case['name'])}", f"shows = {toml_text(case['shows'])}",
            f"schema = {toml_text(case['schema'])}"]
    if "watermark" in case:
        column, delay = case["watermark"]
        head.append(f"watermark = {{ column = {toml_text(column)}, delay = {toml_text(delay)} }}")
    if "dedup" in case:
        columns, within = case["dedup"]
        head.append(f"dedup = {{ columns = {json.dumps(columns)}, within_watermark = {str(within).lower()} }}")
    if "other" in case:
        schema, watermark = case["other"]
        other = f"schema = {toml_text(schema)}"
        if watermark:
            column, delay = watermark
            other += f", watermark = {{ column = {toml_text(column)}, delay = {toml_text(delay)} }}"
        head.append(f"other = {{ {other} }}")
    if "static" in case:
        view, schema, body = case["static"]
        head.append(f"static = {{ view = {toml_text(view)}, schema = {toml_text(schema)} }}")
        (out / "static.csv").write_text(body)
    head += [f"mode = \"{case['mode']}\"", f"arrival = \"{case['arrival']}\""]
    if case.get("ordered"):
        head.append("ordered = true")
    if case.get("approx"):
        head.append(f"approx = {json.dumps(case['approx'])}")
    head.append(f"sql = {toml_text(case['sql'])}")
    body = "\n".join(head) + "\n"
    if error is not None:
        inner = said(error)
    if error is not None and not run.rows and is_of_plan(inner):
        body += f"refused = {toml_text(inner)}\n"
    else:
        body += f"out_schema = {toml_text(ddl(run.schema))}\n" + batches(run)
        if error is not None:
            at = max(run.rows, default=-1) + 1
            body += f"failed = {{ batch = {at}, error = {toml_text(inner)} }}\n"
        for folder, files in zip(("in", "other"), both(case)):
            for at, content in enumerate(files):
                if content is not None:
                    (out / folder).mkdir(exist_ok=True)
                    (out / folder / file_name(at)).write_bytes(content.encode())
        (out / "out").mkdir()
        for number, rows in run.rows.items():
            kept = csv(run.schema, rows, case.get("ordered"))
            (out / "out" / f"batch-{number:02}.csv").write_text(kept)
    (out / "case.toml").write_text(body)


def is_of_plan(inner):
    """Whether an error that came with the first batch is one of its plan, not of a row."""
    of_rows = ("OVERFLOW", "DIVIDE_BY_ZERO", "CAST_INVALID", "INVALID_ARRAY_INDEX", "MALFORMED", "CANNOT_PARSE",
               "INVALID_PARAMETER_VALUE", "USER_RAISED", "INVALID_FRACTION", "INVALID_URL", "OUT_OF_RANGE",
               "ARITHMETIC", "CAST_OVERFLOW", "MAP_KEY_DOES_NOT_EXIST", "INVALID_INDEX", "SCALAR_SUBQUERY",
               "DUPLICATED_MAP_KEY", "NULL_MAP_KEY", "DATETIME", "UnknownHost", "FAILED_READ", "BAD_RECORD")
    return inner is None or not any(word in inner for word in of_rows)


def record(spark, case, out):
    case.setdefault("arrival", "each")
    case.setdefault("mode", "append")
    for _ in range(20):
        home = pathlib.Path(tempfile.mkdtemp(prefix="spark-case-"))
        run = Run(spark, case, home)
        try:
            error = run.go()
            if case["arrival"] == "each" and not is_together(run):
                continue
            write(run, error, out / case["name"])
            return
        finally:
            shutil.rmtree(home, ignore_errors=True)
    raise RuntimeError("a step's files were never taken together")


def read(folder):
    table = tomllib.loads((folder / "case.toml").read_text())
    case = {key: table[key] for key in ("name", "shows", "schema", "mode", "arrival", "sql")}
    if "watermark" in table:
        case["watermark"] = (table["watermark"]["column"], table["watermark"]["delay"])
    if "dedup" in table:
        case["dedup"] = (table["dedup"]["columns"], table["dedup"]["within_watermark"])
    if "static" in table:
        of = table["static"]
        case["static"] = (of["view"], of["schema"], (folder / "static.csv").read_text())
    case["approx"], case["ordered"] = table.get("approx"), table.get("ordered")
    files = [
        {int(file.stem[-2:]): file.read_bytes().decode() for file in (folder / name).glob("batch-*.csv")}
        for name in ("in", "other")
    ]
    steps = range(max([*files[0], *files[1]], default=-1) + 1)
    case["files"] = [files[0].get(step) for step in steps]
    if "other" in table:
        of = table["other"]
        watermark = of.get("watermark")
        case["other"] = (of["schema"], (watermark["column"], watermark["delay"]) if watermark else None)
        case["other_files"] = [files[1].get(step) for step in steps]
    return case


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--again":
        folders = sorted(p for p in pathlib.Path(arguments[1]).iterdir() if p.is_dir())
        cases, rest = [read(folder) for folder in folders], arguments[2:]
    else:
        import runpy
        cases, rest = runpy.run_path(arguments[0])["CASES"], arguments[1:]
    out = pathlib.Path(rest[0])
    words = rest[1:]
    spark = session()
    for case in cases:
        if words and not any(word in case["name"] for word in words):
            continue
        began = time.time()
        try:
            record(spark, case, out)
            print(f"{case['name']} {time.time() - began:.1f} s", flush=True)
        except Exception as error:
            print(f"{case['name']} FAILED {type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
