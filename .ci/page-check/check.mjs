// Opens a report in headless Chromium, light, dark, on a phone and on paper: it renders, its links lead somewhere, nothing
// is logged or fetched, it does not scroll sideways, and axe finds nothing serious. Writes screenshots.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [page, shots = "page-check-shots"] = process.argv.slice(2);
if (!page) throw new Error("usage: page-check REPORT/index.html [SCREENSHOTS]");
mkdirSync(shots, { recursive: true });
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const failures = [];

const views = [
  { name: "light", width: 1280, height: 900, colorScheme: "light" },
  { name: "dark", width: 1280, height: 900, colorScheme: "dark" },
  { name: "phone", width: 390, height: 844, colorScheme: "light", isMobile: true, hasTouch: true },
  { name: "phone-dark", width: 390, height: 844, colorScheme: "dark", isMobile: true, hasTouch: true },
];
for (const { name, width, height, ...options } of views) {
  const context = await browser.newContext({ viewport: { width, height }, ...options });
  const tab = await context.newPage();
  tab.setDefaultTimeout(300_000);
  const fail = (what) => failures.push(`${name}: ${what}`);
  tab.on("console", (message) => ["error", "warning"].includes(message.type()) && fail(`console: ${message.text()}`));
  tab.on("pageerror", (error) => fail(`error: ${error.message}`));
  tab.on("request", (request) => request.url().startsWith("http") && fail(`fetches ${request.url()}`));
  await tab.goto(pathToFileURL(page).href);
  const paint = await tab.evaluate(
    () => new Promise((done) => new PerformanceObserver((list) => done(list.getEntriesByName("first-contentful-paint")[0]?.startTime))
      .observe({ type: "paint", buffered: true })),
  );
  const headline = await tab.locator("h1").innerText();
  if (!headline) fail("no headline");
  await tab.screenshot({ path: `${shots}/${name}.png` });
  for (const [part, selector] of [["placement", "section.placement"], ["claim", "article[id^=claim]"], ["brief", "#brief"], ["surprises", "#surprises"], ["wrong", "#wrong"], ["reading", "#reading"]]) {
    const there = await tab.evaluate((selector) => {
      const element = document.querySelector(selector);
      element?.scrollIntoView({ behavior: "instant" });
      return element !== null;
    }, selector);
    if (!there) continue;
    await tab.waitForTimeout(300);
    await tab.screenshot({ path: `${shots}/${name}-${part}.png` });
  }
  const broken = await tab.evaluate(() =>
    [...document.querySelectorAll('a[href^="#"]')].map((a) => a.getAttribute("href"))
      .filter((href) => !document.getElementById(decodeURIComponent(href.slice(1)))),
  );
  if (broken.length) fail(`links to nothing: ${[...new Set(broken)].slice(0, 5)}`);
  const twice = await tab.evaluate(() => {
    const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
    return ids.filter((id, i) => ids.indexOf(id) !== i);
  });
  if (twice.length) fail(`ids twice: ${twice.slice(0, 5)}`);
  // Everything laid out, details open, so that nothing hides what is too wide.
  await tab.addStyleTag({ content: "*{content-visibility:visible!important}" });
  await tab.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  const beyond = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (beyond > 0) fail(`scrolls sideways by ${beyond} pixels`);
  await tab.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = false)));
  await tab.evaluate(axe);
  // The contrast of every cell of a long page takes minutes; the first ones of each kind stand for the rest.
  const found = await tab.evaluate(() => {
    const parts = ["header", "#matrix", "#surprises", "#wrong", "#brief", "#placements > :nth-child(3)", "#placements > :nth-child(4)", "#claims > article:nth-of-type(1)", "#claims > article:nth-of-type(2)", "#reading", "footer"];
    const include = parts.filter((part) => document.querySelector(part)).map((part) => [part]);
    return window.axe.run({ include }, { resultTypes: ["violations"] });
  });
  for (const { id, impact, nodes } of found.violations) {
    const line = `axe ${impact}: ${id} at ${nodes.length} places, ${nodes[0].target}`;
    if (["serious", "critical"].includes(impact)) fail(line);
    else console.log(`${name}: ${line}`);
  }
  console.log(`${name}: "${headline}", first paint after ${Math.round(paint)} ms`);
  if (name === "light") await tab.pdf({ path: `${shots}/print.pdf`, format: "A4" });
  await context.close();
}
await browser.close();
for (const failure of failures) console.log(`FAILED ${failure}`);
process.exit(failures.length ? 1 : 0);
