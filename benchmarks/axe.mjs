// Pages of `repro site` in headless Chromium, at phone and desktop width, light and dark: what axe finds, and a
// screenshot of each. Exits with 1 where a finding is serious or critical.
//
//   repro site --to outputs/site
//   cd outputs && npm install --prefix node axe-core puppeteer-core && cd node
//   node ../../benchmarks/axe.mjs ../site ../screens [PAGE ...]
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { resolve } from "node:path";

const require = createRequire(resolve("package.json"));
const puppeteer = require("puppeteer-core");
const [site, screens, ...named] = process.argv.slice(2);
const PAGES = named.length ? named : [
  "index.html", "results/smoke/index.html", "results/smoke/table1_self_attention.html",
  "results/smoke/runs/attention_16/index.html", "docs/statistics.html"];
mkdirSync(screens, { recursive: true });
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"], protocolTimeout: 600000 });
let bad = 0;
for (const page of PAGES) for (const width of [390, 1280]) for (const scheme of ["light", "dark"]) {
  const tab = await browser.newPage();
  await tab.setViewport({ width, height: width === 390 ? 844 : 800 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await tab.goto(`file://${resolve(site, page)}`, { timeout: 0 });
  await tab.addScriptTag({ path: require.resolve("axe-core") });
  const { violations } = await tab.evaluate(() => axe.run());
  const [height, wide] = await tab.evaluate(() => [
    document.documentElement.scrollHeight / innerHeight, document.documentElement.scrollWidth > innerWidth]);
  console.log(`${page} ${width} ${scheme}: ${height.toFixed(1)} screens${wide ? ", wider than the screen" : ""}`);
  for (const { impact, id, nodes } of violations) {
    bad += ["serious", "critical"].includes(impact);
    console.log(`  ${impact} ${id} x${nodes.length}: ${nodes[0].html.slice(0, 160)}`);
  }
  await tab.screenshot({
    path: resolve(screens, `${page.replaceAll("/", "_")}-${width}-${scheme}.png`), fullPage: true });
  await tab.close();
}
await browser.close();
process.exit(bad ? 1 : 0);
