// A pg-boss worker as its documentation shows it, for the checker of histories: each job takes a fifth of a second.
// usage: node pgboss_work.mjs enqueue URL COUNT | work URL
import { PgBoss } from 'pg-boss'

const [, , mode, url, count] = process.argv
const boss = new PgBoss(url)
boss.on('error', (error) => console.error(error.message))
await boss.start()
await boss.createQueue('bench')
if (mode === 'enqueue') {
  await boss.insert('bench', Array.from({ length: Number(count) }, () => ({ data: {} })))
  await boss.stop({ graceful: false })
  process.exit(0)
}
for (let hand = 0; hand < 4; hand += 1) {
  await boss.work('bench', { pollingIntervalSeconds: 0.5 }, () => new Promise((resolve) => setTimeout(resolve, 200)))
}
