// graphile-worker with its local queue and batched completion, its fastest mode.
// usage: node graphile.mjs throughput URL COUNT HANDS
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import pg from 'pg'

const [, , , url, count, hands] = process.argv
const total = Number(count)
const pool = new pg.Pool({ connectionString: url, max: 10 })
pool.on('error', () => {})
pool.on('connect', (client) => client.on('error', () => {}))
const utils = await makeWorkerUtils({ pgPool: pool })
let done = 0
const runner = await run({
  pgPool: pool,
  noHandleSignals: true,
  logger: new Logger(() => () => {}),
  preset: {
    worker: {
      concurrentJobs: Number(hands),
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      maxPoolSize: 10
    }
  },
  taskList: {
    noop: () => {
      done += 1
    }
  }
})
async function enqueue(many) {
  for (let left = many; left > 0; left -= 1000) {
    const some = Math.min(left, 1000)
    await utils.addJobs(Array.from({ length: some }, () => ({ identifier: 'noop', payload: {} })))
  }
}
// A job that is over is deleted.
const left = async () => (await pool.query('SELECT count(*)::int AS n FROM graphile_worker.jobs')).rows[0].n
const finished = async (all) => {
  while (done < all) await new Promise((resolve) => setTimeout(resolve, 2))
  while ((await left()) > 0) await new Promise((resolve) => setTimeout(resolve, 2))
}

await enqueue(100)
await finished(100)
const began = performance.now()
await enqueue(total)
const queuedS = (performance.now() - began) / 1000
await finished(100 + total)
const wallS = (performance.now() - began) / 1000
await runner.stop()
await utils.release()
await pool.end()
console.log(JSON.stringify({ jobs: total, wall_s: wallS, queued_s: queuedS, jobs_per_s: total / wallS }))
process.exit(0)
