"""procrastinate. usage: procrastinate_bench.py throughput URL COUNT HANDS | pickup URL RATE SECONDS HANDS"""

import asyncio
import json
import sys
import time

import procrastinate

done = 0
picked_up_ms = []


def app_of(url):
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, max_size=12))

    @app.task(name="noop", queue="bench")
    async def noop(at=None):
        global done
        done += 1
        if at is not None:
            picked_up_ms.append((time.time() - at) * 1000)

    return app, noop


async def succeeded(app):
    sql = "SELECT count(*) AS n FROM procrastinate_jobs WHERE status = 'succeeded'"
    return (await app.connector.execute_query_one_async(sql))["n"]


async def finished(app, total):
    while done < total:
        await asyncio.sleep(0.002)
    while await succeeded(app) < total:
        await asyncio.sleep(0.002)


async def enqueue(noop, count):
    while count > 0:
        some = min(count, 1000)
        await noop.batch_defer_async(*[{} for _ in range(some)])
        count -= some


async def throughput(app, noop, total):
    await enqueue(noop, 100)
    await finished(app, 100)
    began = time.perf_counter()
    await enqueue(noop, total)
    queued_s = time.perf_counter() - began
    await finished(app, 100 + total)
    wall_s = time.perf_counter() - began
    return {"jobs": total, "wall_s": wall_s, "queued_s": queued_s, "jobs_per_s": total / wall_s}


async def pickup(app, noop, rate, seconds):
    await enqueue(noop, 10)
    await finished(app, 10)
    began, queueing = time.perf_counter(), []
    for n in range(int(rate * seconds)):
        await asyncio.sleep(max(0, began + n / rate - time.perf_counter()))
        queueing.append(asyncio.create_task(noop.defer_async(at=time.time())))
    await asyncio.gather(*queueing)
    await finished(app, 10 + len(queueing))
    return {"rate": rate, "picked_up_ms": picked_up_ms}


async def main(mode, url, *numbers):
    app, noop = app_of(url)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        working = asyncio.create_task(
            app.run_worker_async(concurrency=int(numbers[-1]), install_signal_handlers=False)
        )
        if mode == "throughput":
            told = await throughput(app, noop, int(numbers[0]))
        else:
            told = await pickup(app, noop, float(numbers[0]), float(numbers[1]))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    print(json.dumps(told))


asyncio.run(main(*sys.argv[1:]))
