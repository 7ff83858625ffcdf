// pmtiles' reader under Node: says when it begins, reads tiles until standard input ends, then says in JSON what it met.
//
//   node read.mjs '{"address": …, "tiles": [[z, x, y], …], "follow": …}'
//
// address: of an archive, or of the pointer, whose archive is then opened anew after every `follow` tiles.

import { VectorTile } from "@mapbox/vector-tile";
import Pbf from "pbf";
import { EtagMismatch, FetchSource, PMTiles } from "pmtiles";

const { address, tiles, follow } = JSON.parse(process.argv[2]);
const met = { tiles: 0, mismatches: 0, errors: 0, mixed: 0, wrong: 0, said: [] };
let isOver = false;
process.stdin.on("end", () => { isOver = true; }).resume();

class Watched extends FetchSource {
  async getBytes(...range) {
    try {
      return await super.getBytes(...range);
    } catch (error) {
      if (error instanceof EtagMismatch) met.mismatches += 1;
      throw error;
    }
  }
}

async function open() {
  if (!follow) return [new PMTiles(new Watched(address)), ""];
  const pointer = await (await fetch(address, { cache: "no-store" })).json();
  const root = address.slice(0, address.indexOf("mosaic/latest.json"));
  return [new PMTiles(new Watched(root + pointer.archive)), pointer.digest[0]];
}

let [archive, letter] = await open();
console.log("at work");
while (!isOver) {
  if (follow && met.tiles % follow === follow - 1) [archive, letter] = await open();
  met.tiles += 1;
  try {
    const [z, x, y] = tiles[Math.floor(Math.random() * tiles.length)];
    const found = await archive.getZxy(z, x, y);
    const layer = new VectorTile(new Pbf(new Uint8Array(found.data))).layers.globalcoverage;
    const letters = new Set();
    for (let index = 0; index < layer.length; index++) {
      const { id } = layer.feature(index).properties;
      if (id) letters.add(id[0]);  // squares have none
    }
    if (letters.size > 1) met.mixed += 1;
    if (letter && !letters.has(letter)) met.wrong += 1;
  } catch (error) {
    met.errors += 1;
    if (met.said.length < 3) met.said.push(String(error));
  }
}
console.log(JSON.stringify(met));
