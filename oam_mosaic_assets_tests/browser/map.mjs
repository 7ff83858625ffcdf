// Two MapLibre maps in a headless Chromium, one on the address of a release, one on the fixed key, until standard
// input ends; says when both show something, and in the end, in JSON, what they met.
//
//   node map.mjs '{"page": "http://…/map.html", "root": "http://…/", "places": [[longitude, latitude], …]}'

import { chromium } from "playwright-core";

const { page: address, ...task } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
});
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error(String(error)));
  await page.goto(address);
  const over = page.evaluate((stated) => wanderAll(stated), task);
  process.stdin.on("end", () => page.evaluate(() => { isOver = true; })).resume();
  await page.waitForFunction(() => met.release?.shown && met.fixed?.shown, null, { timeout: 120_000 });
  console.log("at work");
  console.log(JSON.stringify(await over));
} finally {
  await browser.close();
}
