// Drives a real Chromium through pages as a person would, and tells what they saw.
//
//   node drive.mjs '{"steps": […], "screenshots": FOLDER, "javaScript": false}'
//
// Steps, in order: {"open": URL} · {"fill": [LABEL, TEXT]} · {"click": NAME of a button or link} · {"keys": [KEY, …]} ·
// {"await": TEXT} · {"shot": NAME} · {"judge": true} for axe's findings · {"fresh": true} for a browser without cookies.
// Prints {"url", "title", "text", "status", "headers", "hosts", "cookies", "findings", "focused"} of the last page as JSON.

import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const { steps, screenshots, javaScript = false } = JSON.parse(process.argv[2]);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
mkdirSync(screenshots, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const findings = [];
const hosts = new Set();
let page;
let response;

// Certificates are judged by tests of their own; here a person has said yes to them.
const fresh = async () => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, javaScriptEnabled: javaScript, viewport: { width: 900, height: 900 } });
  context.setDefaultTimeout(20_000);
  page = await context.newPage();
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  page.on('response', (answer) => { if (answer.request().isNavigationRequest()) response = answer; });
};

const act = {
  open: (url) => page.goto(url),
  fill: ([label, text]) => page.getByLabel(label).or(page.getByPlaceholder(label)).first().fill(text),
  click: async (name) => {
    const target = page.getByRole('button', { name }).or(page.getByRole('link', { name })).first();
    await target.click();
    await page.waitForLoadState();
  },
  keys: async (keys) => { for (const key of keys) await page.keyboard.press(key); await page.waitForLoadState(); },
  await: (text) => page.getByText(text).first().waitFor({ timeout: 30_000 }),
  shot: (name) => page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true }),
  judge: async () => {
    // Beside the page's own policy, which permits no script: in a world of its own.
    const judged = await browser.newContext({ bypassCSP: true, ignoreHTTPSErrors: true });
    const copy = await judged.newPage();
    await copy.setContent(await page.content());
    await copy.addScriptTag({ content: axe });
    const result = await copy.evaluate(() => globalThis.axe.run());
    findings.push(...result.violations.map(({ id, help, nodes }) => `${id}: ${help} (${nodes.map((node) => node.html).join(' ')})`));
    await judged.close();
  },
  fresh,
};

try {
  await fresh();
  for (const step of steps) {
    const [[name, argument]] = Object.entries(step);
    await act[name](argument);
  }
  const focused = await page.evaluate(() => document.activeElement?.outerHTML ?? '').catch(() => '');
  console.log(JSON.stringify({
    url: page.url(),
    title: await page.title(),
    text: await page.innerText('body'),
    status: response?.status(),
    headers: await response?.allHeaders(),
    hosts: [...hosts],
    cookies: await page.context().cookies(),
    findings,
    focused,
  }));
} catch (error) {
  await page?.screenshot({ path: `${screenshots}/failed.png` }).catch(() => {});
  console.error(`at ${page?.url()}: ${await page?.innerText('body').catch(() => '')}`);
  throw error;
} finally {
  await browser.close();
}
