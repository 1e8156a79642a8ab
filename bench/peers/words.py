"""The word count on DuckDB or Polars: `words.py ENGINE DATA OUT THREADS`.

Prints one JSON line {"engine", "version", "seconds"}; see sensors.py for what is timed. Columns: value, count;
order does not matter. A line is one field: the delimiter is a byte that the text does not hold.
"""

import json
import os
import sys
import time

engine, data, out, threads = sys.argv[1:]


def duckdb_run():
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET enable_progress_bar = false")
    query = """
        COPY (
            SELECT value, count(*) AS count
            FROM (
                SELECT unnest(string_split(line, ' ')) AS value
                FROM read_csv($data, header = false, auto_detect = false, delim = '\x01', quote = '', escape = '',
                              columns = {'line': 'VARCHAR'})
            )
            GROUP BY value
        ) TO $out (FORMAT csv, HEADER false)
    """.replace("$data", quoted(data)).replace("$out", quoted(out))
    began = time.perf_counter()
    connection.execute(query)
    return duckdb.__version__, time.perf_counter() - began


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def polars_run():
    os.environ["POLARS_MAX_THREADS"] = threads  # read when polars is imported
    import polars as pl

    began = time.perf_counter()
    frame = (
        pl.scan_csv(data, has_header=False, schema={"line": pl.String}, separator="\x01", quote_char=None)
        .select(pl.col("line").str.split(" ").alias("value"))
        .explode("value")
        .group_by("value")
        .agg(pl.len().alias("count"))
    )
    frame.sink_csv(out, include_header=False, engine="streaming")
    return pl.__version__, time.perf_counter() - began


version, seconds = {"duckdb": duckdb_run, "polars": polars_run}[engine]()
print(json.dumps({"engine": engine, "version": version, "seconds": seconds}))
