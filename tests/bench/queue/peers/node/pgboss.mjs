// pg-boss: batches of 100 fetched and completed by four loops, as its polling worker would pause between batches.
// usage: node pgboss.mjs throughput URL COUNT HANDS
import { PgBoss } from 'pg-boss'

const [, , , url, count, hands] = process.argv
const total = Number(count)
const boss = new PgBoss({ connectionString: url, max: 10, supervise: false, schedule: false })
boss.on('error', (error) => {
  throw error
})
await boss.start()
await boss.createQueue('bench')

let done = 0
let stopping = false
async function work() {
  while (!stopping) {
    const jobs = await boss.fetch('bench', { batchSize: Math.max(100, Number(hands)) })
    if (jobs.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 5))
      continue
    }
    await boss.complete('bench', jobs.map((job) => job.id))
    done += jobs.length
  }
}
async function enqueue(many) {
  for (let left = many; left > 0; left -= 1000) {
    const some = Math.min(left, 1000)
    await boss.insert('bench', Array.from({ length: some }, () => ({ data: {} })))
  }
}
const finished = async (all) => {
  while (done < all) await new Promise((resolve) => setTimeout(resolve, 2))
}

const working = [work(), work(), work(), work()]
await enqueue(100)
await finished(100)
const began = performance.now()
await enqueue(total)
const queuedS = (performance.now() - began) / 1000
await finished(100 + total)
const wallS = (performance.now() - began) / 1000
stopping = true
await Promise.all(working)
await boss.stop({ graceful: false })
console.log(JSON.stringify({ jobs: total, wall_s: wallS, queued_s: queuedS, jobs_per_s: total / wallS }))
process.exit(0)
