// Every place with imagery, from the archive's directory alone.
//
// Far out, a footprint is smaller than a pixel and the tiles leave most of them out. But a tile exists only where an
// image lies, and the directory lists the tiles from z0 on: the first pieces of it, some kilobytes, tell all places.

import { tileIdToZxy, zxyToTileId, type Entry, type PMTiles } from "pmtiles";
import type { Bounds } from "./bounds";
import { latitudeOf, longitudeOf } from "./grid";

const DEEPEST = 12; // 10 km at the equator: 2 pixels at z4
const MOST = 20_000; // tiles; a catalogue with more is shown by a coarser grid

/** A tile that holds imagery. */
export interface Place extends Bounds {
  longitude: number; // of its middle
  latitude: number;
}

/** The tiles of one zoom that hold imagery: z12, or the deepest zoom that has few enough of them. None of a mosaic that begins deeper. */
export async function places(archive: PMTiles): Promise<Place[]> {
  const header = await archive.getHeader();
  const { cache } = archive;
  const byZoom: [number, number][][] = [];
  const deepest = Math.min(DEEPEST, header.maxZoom);
  const end = zxyToTileId(deepest + 1, 0, 0);
  let found = 0;

  const take = async (entries: Entry[]): Promise<void> => {
    for (const entry of entries) {
      if (entry.tileId >= end || found > 2 * MOST) return;
      if (entry.runLength === 0) {
        await take(await cache.getDirectory(archive.source, header.leafDirectoryOffset + entry.offset, entry.length, header));
      }
      for (let id = entry.tileId; id < Math.min(end, entry.tileId + entry.runLength); id++) {
        const [zoom, x, y] = tileIdToZxy(id);
        (byZoom[zoom] ??= []).push([x, y]);
        found += 1;
      }
    }
  };
  await take(await cache.getDirectory(archive.source, header.rootDirectoryOffset, header.rootDirectoryLength, header));

  // where reading ended early, the last zoom is not all there
  const whole = found > 2 * MOST ? byZoom.length - 1 : byZoom.length;
  for (let zoom = whole - 1; zoom >= 0; zoom--) {
    const tiles = byZoom[zoom];
    if (tiles && (tiles.length <= MOST || zoom === 0)) return tiles.map(([x, y]) => placeOf(zoom, x, y));
  }
  return [];
}

function placeOf(zoom: number, x: number, y: number): Place {
  return {
    longitude: longitudeOf(x + 0.5, zoom), latitude: latitudeOf(y + 0.5, zoom),
    west: longitudeOf(x, zoom), south: latitudeOf(y + 1, zoom), east: longitudeOf(x + 1, zoom), north: latitudeOf(y, zoom),
  };
}
