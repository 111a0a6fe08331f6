// A person looks at the hall, an asset and a run: everything is there, nothing complains, axe finds nothing.
//
//   BASE_URL=http://127.0.0.1:8600 TOKEN=… RUN=… ASSET=… [OUT=dir] [CHROMIUM=/usr/bin/chromium] node tests/dashboard.mjs
//
// Leaves heatmap.png, asset.png and run.png in OUT. Ends 0, or 1 with a line for each thing that is wrong.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';

const { BASE_URL, TOKEN = '', RUN, ASSET, OUT = 'test-results' } = process.env;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const PATIENCE_MS = 20_000;
const FIRST_LOAD_BYTES = 100_000;

const WIDE = { width: 1400, height: 900 };
const PHONE = { width: 390, height: 844 };

const problems = [];
/** Notes what is wrong and goes on, so that one look tells everything. */
const wrong = (where, what) => problems.push(`${where}: ${what}`);

for (const [name, value] of Object.entries({ BASE_URL, RUN, ASSET })) {
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(2);
  }
}

/** Notes everything a page complains about. Requests that a page gives up itself are no complaint. */
function listen(page, where) {
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') wrong(where(), `console: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong(where(), `script: ${error.message}`));
  page.on('requestfailed', (request) => {
    const why = request.failure()?.errorText ?? '';
    if (why !== 'net::ERR_ABORTED') wrong(where(), `request ${request.url()} failed: ${why}`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) wrong(where(), `request ${response.url()} was answered ${response.status()}`);
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    const ours = url.origin === new URL(BASE_URL).origin || url.protocol === 'blob:' || url.protocol === 'data:';
    if (!ours) wrong(where(), `request to a stranger: ${request.url()}`);
  });
}

async function sees(page, where, texts) {
  for (const text of texts) {
    const found = page.getByText(text).first();
    await found.waitFor({ state: 'attached', timeout: PATIENCE_MS }).catch(() => wrong(where, `does not say ${text}`));
  }
}

async function checkAccess(page, where) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  for (const violation of violations) {
    const at = violation.nodes.map((node) => `${node.target.join(' ')} (${node.any[0]?.message ?? ''})`);
    wrong(where, `axe ${violation.id}: ${violation.help}: ${at.slice(0, 3).join('; ')}`);
  }
}

/** What a first visit fetches before anything is asked for stays light. */
async function checkWeight(page, where) {
  const bytes = await page.evaluate(() => {
    const files = performance.getEntriesByType('resource').filter(({ initiatorType }) => initiatorType === 'script' || initiatorType === 'link');
    return [...performance.getEntriesByType('navigation'), ...files].reduce((sum, entry) => sum + entry.encodedBodySize, 0);
  });
  if (bytes === 0 || bytes > FIRST_LOAD_BYTES) wrong(where, `the first load is ${bytes} bytes, ${FIRST_LOAD_BYTES} are allowed`);
}

/** Nothing is wider than the screen, except what scrolls by itself. */
async function checkWidth(page, where) {
  const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  if (wide > screen) wrong(where, `is ${wide} px wide on a screen of ${screen} px`);
}

/** Asks the server for a change, as the person who looks. */
async function ask(page, method, path, body) {
  const headers = { authorization: `Bearer ${TOKEN}` };
  const answer = await page.request.fetch(`${BASE_URL}${path}`, { method, headers, ...(body === undefined ? {} : { data: body }) });
  if (!answer.ok()) throw new Error(`${method} ${path} was answered ${answer.status()}: ${await answer.text()}`);
  return answer;
}

/** Stores a workflow, starts a run of it, and waits until it stands so. */
async function begin(page, name, source, state) {
  await ask(page, 'POST', '/api/v1/workflows', { name, source });
  const { id } = await (await ask(page, 'POST', '/api/v1/runs', { workflow: name, event: {} })).json();
  const until = Date.now() + PATIENCE_MS;
  for (let run = {}; run.state !== state; ) {
    if (Date.now() > until) throw new Error(`the run of ${name} is ${run.state}, not ${state}`);
    await page.waitForTimeout(200);
    run = await (await ask(page, 'GET', `/api/v1/runs/${id}`)).json();
  }
  return id;
}

/** A draft is replayed, kept, asked as a shadow, and retired again; the source that serves is never touched. */
async function checkLife(page, where, draft, source) {
  await draft.fill(source.replace('THRESHOLD = 0.2', 'THRESHOLD = 0.95'));
  await page.getByRole('button', { name: 'Check' }).click();
  await sees(page, where, [/✓ Nothing was found/]);
  await page.getByRole('button', { name: 'Replay' }).click();
  await sees(page, where, [/Actions per day/, /^start replace part$/, /Decisions that flip/]);
  await confirm(page, 'Keep as draft', 'Keep it');
  const revisions = page.getByRole('region', { name: 'Every revision' });
  const mine = revisions.getByRole('row').filter({ hasText: 'shown' });
  await mine.getByText('draft').waitFor({ timeout: PATIENCE_MS });
  await confirm(mine, 'Shadow', 'Begin');
  await sees(page, where, [/would change$/, /decisions come out otherwise/]);
  await confirm(mine, 'Retire', 'Retire');
  await mine.getByText('retired').waitFor({ timeout: PATIENCE_MS }).catch(() => wrong(where, 'the shadow is not retired'));
  if (await page.getByRole('button', { name: 'Dry run' }).isVisible()) {
    await confirm(page, 'Dry run', 'Begin the dry run');
    await confirm(page, 'End the dry run', 'End the dry run');
  }
}

/** While the kill switch is on, every page says so. */
async function checkKillSwitch(page, where) {
  await page.getByRole('button', { name: 'Stop all new runs' }).click();
  await page.getByLabel('Why').fill('a test of the switch');
  await page.getByRole('button', { name: 'Turn the kill switch on' }).click();
  await sees(page, where, [/The kill switch is on/]);
  await page.goto(`${BASE_URL}/#/cells`);
  await sees(page, where, [/^Builds$/, /The kill switch is on/, /a test of the switch/]);
  await checkAccess(page, `${where} with the kill switch on`);
  await confirm(page, 'Turn it off', 'Turn it off');
  await page.getByText('The kill switch is on').first().waitFor({ state: 'detached', timeout: PATIENCE_MS }).catch(() => wrong(where, 'the switch stays on'));
  await page.goto(`${BASE_URL}/#/policies`);
  await sees(page, where, [/Policies decide/]);
}

/** Presses a button and says yes to what it asks. */
async function confirm(place, button, yes) {
  await place.getByRole('button', { name: button, exact: true }).click();
  await place.getByRole('dialog').getByRole('button', { name: yes, exact: true }).click();
  await place.getByRole('dialog').waitFor({ state: 'hidden', timeout: PATIENCE_MS });
}

/** The timeline has a bar for each call that took time, goes by keyboard, and says the same as a table. */
async function checkTimeline(page, where) {
  const chart = page.getByRole('region', { name: /Timeline as a chart/ });
  const bars = await chart.locator('.track .working').count();
  if (bars < 10) wrong(where, `the timeline shows ${bars} stretches of work`);
  if ((await chart.locator('.fold').count()) === 0) wrong(where, 'hours of waiting are not folded');
  await chart.focus();
  await page.keyboard.press('ArrowDown');
  await sees(page, where, [/Predict, line \d+: .* at work; done\. Asked/]);
  const narrow = await chart.evaluate((frame) => frame.scrollWidth);
  await page.keyboard.press('+');
  await page.waitForFunction(([frame, before]) => frame.scrollWidth > before * 1.5, [await chart.elementHandle(), narrow]).catch(() => wrong(where, 'plus does not zoom'));
  await page.keyboard.press('0');
  await page.getByRole('button', { name: 'Table', exact: true }).click();
  await page.getByRole('region', { name: 'Timeline as a table' }).getByRole('cell', { name: /Redesign the part/ }).waitFor({ timeout: PATIENCE_MS });
  await page.getByRole('button', { name: 'Table', exact: true }).click();
}

/** The journal can be narrowed down and opened. */
async function checkJournal(page, where) {
  const journal = page.getByRole('region', { name: 'Journal', exact: true });
  await journal.getByRole('combobox').selectOption('verify');
  const lines = await journal.locator('tbody tr').count();
  if (lines < 2) wrong(where, `the journal shows ${lines} verdicts`);
  await journal.getByRole('button', { name: /Input and answer of Measure and judge/ }).first().click();
  await journal.getByText(/"disposition": "reject"/).waitFor({ timeout: PATIENCE_MS }).catch(() => wrong(where, 'the answer does not open'));
  await journal.getByRole('combobox').selectOption('');
}

const SIGHTS = [
  {
    name: 'heatmap',
    everywhere: true,
    at: '/',
    texts: [/^The hall$/, /Failure risk/, /Utilisation/, /Maintenance/, /50 % and more/, /As of/, ASSET],
    async more(page, where) {
      const hall = page.getByRole('application');
      await hall.focus();
      await page.keyboard.press('Home');
      await page.keyboard.press('ArrowRight');
      await page.keyboard.press('ArrowDown');
      await sees(page, where, [/Open the asset/]);
      await page.keyboard.press('Escape');
      await hall.blur();
      const drawn = await page.evaluate(() => {
        const canvas = document.querySelector('canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(new Uint32Array(pixels.buffer)).size;
      });
      if (drawn < 20) wrong(where, `the picture has ${drawn} colours: nothing was drawn`);
    },
  },
  {
    name: 'asset',
    everywhere: true,
    at: `/assets/${encodeURIComponent(ASSET)}`,
    texts: [ASSET, /Failure prediction/, /within 7 days/, /Remaining life/, /Telemetry and forecast/, /Decisions/, /Depend on it/],
    async more(page, where) {
      await page.locator('.u-over').first().waitFor({ timeout: PATIENCE_MS }).catch(() => wrong(where, 'no chart'));
    },
  },
  {
    name: 'run',
    everywhere: true,
    at: `/runs/${encodeURIComponent(RUN)}`,
    texts: [RUN, /^Timeline$/, /at work/, /^Steps$/, /^Predict$/, /Redesign the part/, /Measure and judge/, /Builds and verdicts/, /Journal/],
    async more(page, where) {
      for (const name of [/The redesigned part/, /Deviations of build 1/]) {
        const picture = page.getByRole('img', { name }).first();
        await picture.waitFor({ timeout: PATIENCE_MS }).catch(() => wrong(where, `no picture ${name}`));
        await page
          .waitForFunction((all) => all.every((img) => img.complete && img.naturalWidth > 0), await page.$$('main img'), { timeout: PATIENCE_MS })
          .catch(() => wrong(where, 'a picture did not load'));
      }
      await page.locator('.u-over').first().waitFor({ timeout: PATIENCE_MS }).catch(() => wrong(where, 'no plot'));
      await checkTimeline(page, where);
      await checkJournal(page, where);
    },
  },
  { name: 'utilisation', at: '/heatmap/utilisation', texts: [/share of capacity in use/] },
  { name: 'maintenance', at: '/heatmap/maintenance', texts: [/nothing planned/] },
  {
    name: 'runs',
    at: '/runs',
    everywhere: true,
    texts: [RUN],
    async more(page, where) {
      await page.getByLabel('Asset', { exact: true }).fill('no-such-asset');
      await page.getByRole('button', { name: 'Find' }).click();
      await sees(page, where, [/There is no such run/]);
      await page.getByLabel('Asset', { exact: true }).fill(ASSET);
      await page.getByRole('button', { name: 'Find' }).click();
      await sees(page, where, [RUN]);
    },
  },
  { name: 'queues', at: '/queues', everywhere: true, texts: [/^Queues$/, /^Oldest ready$/, /^cad$/, /^runs$/] },
  {
    name: 'waiting',
    at: '/runs',
    texts: [RUN],
    async more(page, where) {
      const id = await begin(page, 'dashboard_waits', 'fn run(event) {\n    sleep("9h");\n}\n', 'waiting');
      await page.goto(`${BASE_URL}/#/runs/${id}`);
      await sees(page, where, [/Why it is where it is/, /waits for time/, /it sleeps/i, /^now$/]);
      await page.getByText('The script, and how far it came').click();
      await sees(page, where, [/waits: Sleep/]);
      await confirm(page, 'Cancel the run', 'Cancel the run');
      await page.locator('h1 + *').getByText('cancelled').waitFor({ timeout: PATIENCE_MS }).catch(() => wrong(where, 'the run is not cancelled'));
      await page.getByRole('button', { name: 'Begin again' }).waitFor({ timeout: PATIENCE_MS });
    },
  },
  {
    name: 'dead_letters',
    at: '/dead_letters',
    everywhere: true,
    texts: [/^Dead letters$/],
    async more(page, where) {
      // What changes the server is done once.
      if (where !== 'dead_letters') return;
      await begin(page, 'dashboard_fails', 'fn run(event) {\n    step("simulate", #{ design: "no-such-design" });\n}\n', 'failed');
      await page.reload();
      await sees(page, where, [/of a run of dashboard fails/, /no-such-design/]);
      await confirm(page, 'Redrive', 'Begin a new run');
      await page.getByText('Begun again as').getByRole('link').click();
      await sees(page, where, [/Dashboard fails/, /begun again from/]);
      await page.goto(`${BASE_URL}/#/dead_letters`);
      await page.getByLabel('also those begun again').check();
      await sees(page, where, [/begun again as this run/]);
    },
  },
  {
    name: 'triggers',
    at: '/triggers',
    everywhere: true,
    texts: [/The clock starts nothing/],
    async more(page, where) {
      const trigger = { cron: '30 2 * * mon-fri', time_zone: 'Europe/Berlin', workflow: 'train_model', event: { asset_kind: 'fan_tray' } };
      await ask(page, 'PUT', '/api/v1/triggers/nightly_training', trigger);
      await page.reload();
      await sees(page, where, [/nightly training/, /30 2 \* \* mon-fri/, /^Next in/]);
      await page.getByRole('button', { name: 'Pause' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Pause' }).click();
      await sees(page, where, [/paused/]);
      await page.getByRole('button', { name: /what became of its ticks/ }).click();
      await sees(page, where, [/There has been none yet/]);
      await page.getByRole('button', { name: 'Delete' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
      await sees(page, where, [/The clock starts nothing/]);
      await ask(page, 'PUT', '/api/v1/triggers/nightly_training', trigger);
      await page.reload();
      await sees(page, where, [/^Next in/]);
    },
    after: (page) => ask(page, 'DELETE', '/api/v1/triggers/nightly_training'),
  },
  {
    name: 'decisions',
    at: '/decisions',
    everywhere: true,
    texts: [/^Decisions$/],
    async more(page, where) {
      await page.getByLabel('Asset', { exact: true }).fill('no-such-asset');
      await page.getByRole('button', { name: 'Find' }).click();
      await sees(page, where, [/No decision is like that/]);
      await page.getByLabel('Asset', { exact: true }).fill(ASSET);
      await page.getByRole('button', { name: 'Find' }).click();
      await sees(page, where, [/replace part/]);
    },
  },
  {
    name: 'decision',
    at: `/decisions?asset=${encodeURIComponent(ASSET)}`,
    everywhere: true,
    texts: [/replace part/],
    async more(page, where) {
      await page.getByRole('link', { name: 'replace part' }).first().click();
      await sees(page, where, [/What it answered/, /a run of replace part/, /How it came to that/, /yes: .*critical_dependents = /]);
    },
  },
  { name: 'windows', at: '/windows', texts: [/^Maintenance$/] },
  {
    name: 'cells',
    at: '/cells',
    everywhere: true,
    texts: [/Builds/, /demo-cell/],
    async more(page, where) {
      // What changes the server is done once.
      if (where !== 'cells') return;
      const cell = page.getByRole('region', { name: 'Cell demo-cell' });
      await confirm(cell, 'Close for maintenance', 'Close it');
      await sees(cell, where, [/begins nothing/]);
      await confirm(cell, 'End maintenance', 'End maintenance');
      await cell.getByText('begins nothing').waitFor({ state: 'detached', timeout: PATIENCE_MS }).catch(() => wrong(where, 'maintenance does not end'));
    },
  },
  {
    name: 'policies',
    at: '/policies',
    texts: [/Policies decide/, /The allocation rule/],
    more: checkKillSwitch,
  },
  {
    name: 'policy',
    at: '/policies/allocation',
    everywhere: true,
    texts: [/^Allocation$/, /fn decide\(facts\)/],
    async more(page, where) {
      await page.getByText('Write a draft').click();
      const draft = page.getByRole('textbox', { name: /Draft of allocation/ });
      const source = await draft.inputValue();
      await draft.fill(source.replace('facts.fps.contains', 'facts.fbs.contains'));
      await page.getByRole('button', { name: 'Check' }).click();
      await sees(page, where, [/✕ 1 found/, /line \d+, column \d+/, /Did you mean/]);
      // What changes the server is done once.
      if (where === 'policy') await checkLife(page, where, draft, source);
    },
  },
  { name: 'workflow', at: '/workflows/replace_part', texts: [/^Replace part$/, /fn run\(event\)/] },
  { name: 'models', at: '/models', texts: [/^Models$/] },
  { name: 'plugins', at: '/plugins', texts: [/^Plugins$/, /There are no plugins/] },
];

/** Those looked at in the dark and on a phone too. */
const EVERYWHERE = SIGHTS.filter((sight) => sight.everywhere);

/** Looks at every sight in one browser context. */
async function look(browser, label, settings, sights) {
  const context = await browser.newContext({ reducedMotion: 'reduce', timezoneId: 'UTC', locale: 'en-GB', ...settings });
  const page = await context.newPage();
  let current = label;
  listen(page, () => current);
  for (const [number, sight] of sights.entries()) {
    const where = `${sight.name}${label}`;
    current = where;
    const hash = number === 0 ? `#token=${encodeURIComponent(TOKEN)}&at=${encodeURIComponent(sight.at)}` : `#${sight.at}`;
    await page.goto(`${BASE_URL}/${hash}`);
    await sees(page, where, sight.texts);
    await sight.more?.(page, where);
    // Whatever was still loading has its place by now.
    await page.waitForTimeout(400);
    // The development server sends sources, which weigh what they weigh.
    if (number === 0 && process.env.SOURCES === undefined) await checkWeight(page, where);
    if (TOKEN !== '' && page.url().includes(TOKEN)) wrong(where, 'the token is still in the address');
    await checkWidth(page, where);
    await checkAccess(page, where);
    await page.screenshot({ path: join(OUT, `${where}.png`), fullPage: label !== '' || sight.name !== 'heatmap' });
    await sight.after?.(page);
  }
  await context.close();
}

await mkdir(OUT, { recursive: true });
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
});
try {
  await look(browser, '', { viewport: WIDE, colorScheme: 'light' }, SIGHTS);
  await look(browser, '-dark', { viewport: WIDE, colorScheme: 'dark' }, EVERYWHERE);
  await look(browser, '-phone', { viewport: PHONE, colorScheme: 'light', hasTouch: true, isMobile: true }, EVERYWHERE);
} catch (error) {
  wrong('the story', error.message);
} finally {
  await browser.close();
}
if (problems.length > 0) {
  for (const problem of problems) console.error(problem);
  console.error(`dashboard: ${problems.length} things are wrong`);
  process.exit(1);
}
console.log(`dashboard: ${SIGHTS.length} pages looked at, also in the dark and on a phone; pictures in ${OUT}`);
