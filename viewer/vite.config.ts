// Builds dist/: index.html, and assets/ with hashed names. Addresses are relative, so that the page works under any key.

import { defineConfig } from "vite";
import { licences } from "./licences";

export default defineConfig({
  base: "./",
  plugins: [licences()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the page's policy allows no data: scripts, and pictures are better cached
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200, // kilobytes: MapLibre alone, loaded after the page
    rollupOptions: {
      output: {
        manualChunks: (id) => (id.includes("node_modules/maplibre-gl") ? "maplibre" : undefined),
      },
    },
  },
});
