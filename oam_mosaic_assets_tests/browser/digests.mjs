// pmtiles' reader under Node: the SHA-256 of each tile of an archive, null where it finds none.
//
//   node digests.mjs ARCHIVE '[[z, x, y], …]'

import { openSync, readSync } from "node:fs";
import { createHash } from "node:crypto";
import { PMTiles } from "pmtiles";

const [, , path, tiles] = process.argv, file = openSync(path);
const source = {
  getKey: () => path,
  getBytes: async (offset, length) => {
    const data = Buffer.alloc(length);
    return { data: new Uint8Array(data.subarray(0, readSync(file, data, 0, length, offset))).buffer };
  },
};
const archive = new PMTiles(source), found = [];
for (const [z, x, y] of JSON.parse(tiles)) {
  const tile = await archive.getZxy(z, x, y);
  found.push(tile ? createHash("sha256").update(Buffer.from(tile.data)).digest("hex") : null);
}
console.log(JSON.stringify(found));
