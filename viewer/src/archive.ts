// How archives are read: what could not be read is asked for again, and nothing is waited for without end.

import { VectorTile, type VectorTileFeature } from "@mapbox/vector-tile";
import Pbf from "pbf";
import { FetchSource, PMTiles, ResolvedValueCache, type Entry, type Header, type RangeResponse, type Source } from "pmtiles";

const PATIENCE_MS = 60_000;

export const open = (address: string): PMTiles => new PMTiles(new Impatient(address), new Shared());

/** The features of a vector tile; the columns of the world repeat. */
export async function featuresOf(archive: PMTiles, zoom: number, column: number, row: number): Promise<VectorTileFeature[]> {
  const across = 2 ** zoom;
  const tile = await archive.getZxy(zoom, ((column % across) + across) % across, row);
  const layer = tile && new VectorTile(new Pbf(new Uint8Array(tile.data))).layers["globalcoverage"];
  return layer ? Array.from({ length: layer.length }, (_, index) => layer.feature(index)) : [];
}

class Impatient extends FetchSource {
  override async getBytes(offset: number, length: number, signal?: AbortSignal, etag?: string): Promise<RangeResponse> {
    signal?.throwIfAborted();
    const stop = new AbortController(); // AbortSignal.any is too new for many phones
    const passOn = (): void => stop.abort(signal?.reason);
    signal?.addEventListener("abort", passOn);
    const late = setTimeout(() => stop.abort(new DOMException("no answer in time", "TimeoutError")), PATIENCE_MS);
    try {
      return await super.getBytes(offset, length, stop.signal, etag);
    } catch (error) {
      stop.abort(); // pmtiles ends an answer that it refuses, such as the whole archive, only if it is given no signal
      throw error;
    } finally {
      clearTimeout(late);
      signal?.removeEventListener("abort", passOn);
    }
  }
}

/** Remembers what was read, not what failed; whoever asks meanwhile waits for the same answer. */
class Shared extends ResolvedValueCache {
  private readonly underWay = new Map<string, Promise<unknown>>();

  override getHeader(source: Source): Promise<Header> {
    return this.once("header", () => super.getHeader(source));
  }

  override getDirectory(source: Source, offset: number, length: number, header: Header): Promise<Entry[]> {
    return this.once(`${offset}`, () => super.getDirectory(source, offset, length, header));
  }

  private once<Found>(name: string, read: () => Promise<Found>): Promise<Found> {
    const before = this.underWay.get(name) as Promise<Found> | undefined;
    if (before) return before;
    const reading = read().finally(() => this.underWay.delete(name));
    this.underWay.set(name, reading);
    return reading;
  }
}
