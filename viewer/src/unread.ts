// Tiles that could not be read. MapLibre counts them as loaded and leaves them: they are asked for again when the map is
// moved, or the connection is back.

import type { Map as MapLibreMap } from "maplibre-gl";

type TileId = { x: number; y: number; z: number };

interface Trouble {
  error: Error;
  sourceId?: string;
  tile?: { tileID: { canonical: TileId } };
}

/** Whether tiles of a source, or of any, could not be read since. */
export function unreadOf(map: MapLibreMap, tell: (trouble: Error) => void): (source?: string) => boolean {
  const tiles = new Map<string, TileId[]>();
  map.on("error", (event) => {
    const { error, sourceId, tile } = event as Trouble;
    if (error.name === "AbortError") return;
    if (sourceId && tile) tiles.set(sourceId, [...(tiles.get(sourceId) ?? []), tile.tileID.canonical]);
    tell(error);
  });
  const again = (): void => {
    const before = [...tiles];
    tiles.clear();
    for (const [source, ids] of before) map.refreshTiles(source, ids);
  };
  map.on("movestart", again);
  window.addEventListener("online", again);
  return (source) => (source ? tiles.has(source) : tiles.size > 0);
}
