"""The sensors query on DuckDB or Polars: `sensors.py ENGINE DATA OUT THREADS`.

Prints one JSON line {"engine", "version", "seconds"}. The time is the query's alone, from the open
file to the last row of the result written as CSV; starting Python and importing the engine is left out,
which favours the peer. Columns: window_start (ms since 1970), device, n, temperature, humidity_min,
humidity_max; order does not matter.
"""

import json
import os
import sys
import time

engine, data, out, threads = sys.argv[1:]
NAMES = ["ts", "device", "region", "temperature", "humidity", "status"]


def duckdb_run():
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET enable_progress_bar = false")
    query = """
        COPY (
            SELECT ts // 10000 * 10000 AS window_start, device, count(*) AS n, avg(temperature) AS temperature,
                   min(humidity) AS humidity_min, max(humidity) AS humidity_max
            FROM read_csv($data, header = false, auto_detect = false, delim = ',', quote = '"', escape = '"',
                          columns = {'ts': 'BIGINT', 'device': 'VARCHAR', 'region': 'VARCHAR', 'temperature': 'DOUBLE',
                                     'humidity': 'DOUBLE', 'status': 'INTEGER'})
            WHERE status <> 0
            GROUP BY window_start, device
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

    types = [pl.Int64, pl.String, pl.String, pl.Float64, pl.Float64, pl.Int32]
    began = time.perf_counter()
    frame = (
        pl.scan_csv(data, has_header=False, schema=dict(zip(NAMES, types)))
        .filter(pl.col("status") != 0)
        .group_by((pl.col("ts") // 10000 * 10000).alias("window_start"), "device")
        .agg(
            pl.len().alias("n"),
            pl.col("temperature").mean(),
            pl.col("humidity").min().alias("humidity_min"),
            pl.col("humidity").max().alias("humidity_max"),
        )
    )
    frame.sink_csv(out, include_header=False, engine="streaming")
    return pl.__version__, time.perf_counter() - began


version, seconds = {"duckdb": duckdb_run, "polars": polars_run}[engine]()
print(json.dumps({"engine": engine, "version": version, "seconds": seconds}))
