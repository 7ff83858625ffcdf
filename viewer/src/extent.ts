// How far an image reaches: the map has loaded only a part of one that is larger than the screen.

import type { PMTiles } from "pmtiles";
import { featuresOf } from "./archive";
import type { Bounds } from "./bounds";
import { columnOf, latitudeOf, longitudeOf, rowOf } from "./grid";

const ZOOMS = [9, 6]; // from z9 on every image is drawn; one of more tiles than these is drawn at z6 as well
const MOST_TILES = 9;

/** The bounds of an image, from the archive; null where it has too many tiles, or none at the place where it is looked for. */
export async function extentOf(archive: PMTiles, id: string, { west, south, east, north }: Bounds): Promise<Bounds | null> {
  for (const zoom of ZOOMS) {
    const found = await extentAt(archive, id, zoom, Math.floor(columnOf((west + east) / 2, zoom)), Math.floor(rowOf((south + north) / 2, zoom)));
    if (found) return found;
  }
  return null;
}

/** From one tile to its neighbours, as long as the image reaches their edges. */
async function extentAt(archive: PMTiles, id: string, zoom: number, column: number, row: number): Promise<Bounds | null> {
  const across = 2 ** zoom;
  const tiles: [number, number][] = [[column, row]];
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of tiles) { // it grows
    if (tiles.length > MOST_TILES) return null;
    const add = (otherX: number, otherY: number): void => {
      const isKnown = tiles.some(([knownX, knownY]) => knownX === otherX && knownY === otherY);
      if (!isKnown && otherY >= 0 && otherY < across) tiles.push([otherX, otherY]);
    };
    for (const feature of await featuresOf(archive, zoom, x, y)) {
      if (feature.properties["id"] !== id) continue;
      const [west, north, east, south] = feature.bbox() as [number, number, number, number];
      const { extent } = feature;
      [left, top] = [Math.min(left, x + west / extent), Math.min(top, y + north / extent)];
      [right, bottom] = [Math.max(right, x + east / extent), Math.max(bottom, y + south / extent)];
      if (west <= 0) add(x - 1, y);
      if (east >= extent) add(x + 1, y);
      if (north <= 0) add(x, y - 1);
      if (south >= extent) add(x, y + 1);
    }
  }
  if (left > right) return null;
  return { west: longitudeOf(left, zoom), south: latitudeOf(bottom, zoom), east: longitudeOf(right, zoom), north: latitudeOf(top, zoom) };
}
