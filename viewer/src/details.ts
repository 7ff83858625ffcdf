// What is known of an image beyond its id: read from the archive of details, tile by tile, where a build has one.

import type { PMTiles } from "pmtiles";
import { featuresOf } from "./archive";
import type { Bounds } from "./bounds";
import { columnOf, rowOf } from "./grid";

const SHALLOWEST = 6; // where images are listed; at each zoom, tiles hold those that the mosaic draws as themselves
const MOST_TILES = 64; // a map on a screen of 3840 by 2160 pixels shows up to 48

export interface Image {
  id: string;
  title?: string;
  provider?: string;
  platform?: string;
  sensor?: string;
  license?: string;
  acquisition_end?: string;
  thumbnail?: string;
  uuid?: string;
  gsd?: number;
  file_size?: number;
  asset_name?: string;
  render_params?: string;
}

const TEXTS = ["title", "provider", "platform", "sensor", "license", "acquisition_end", "thumbnail", "uuid",
  "asset_name", "render_params"] as const;

export class Details {
  private readonly known = new Map<string, Image>();
  private readonly read = new Map<string, Promise<void>>();
  private there = true;

  constructor(private readonly archive: PMTiles) {}

  has(id: string): boolean {
    return this.known.has(id);
  }

  of(id: string): Image {
    return this.known.get(id) ?? { id };
  }

  /** Read what lies in a part of the world, as it is seen at a zoom. A part too large is left out. */
  async load(bounds: Bounds, zoom: number): Promise<void> {
    if (!this.there) return;
    try {
      const { maxZoom } = await this.archive.getHeader();
      const z = Math.min(maxZoom, Math.max(SHALLOWEST, Math.floor(zoom)));
      const [west, east] = [Math.floor(columnOf(bounds.west, z)), Math.floor(columnOf(bounds.east, z))];
      const [north, south] = [Math.floor(rowOf(bounds.north, z)), Math.floor(rowOf(bounds.south, z))];
      if ((east - west + 1) * (south - north + 1) > MOST_TILES) return;
      const asked: Promise<void>[] = [];
      for (let x = west; x <= east; x++) {
        for (let y = Math.max(0, north); y <= Math.min(2 ** z - 1, south); y++) asked.push(this.tile(z, ((x % 2 ** z) + 2 ** z) % 2 ** z, y));
      }
      await Promise.all(asked);
    } catch (error) {
      // ids are shown without details: for good where there is no such archive, else until the next attempt
      if (/\b40[34]$/.test(String(error))) this.there = false;
    }
  }

  private tile(z: number, x: number, y: number): Promise<void> {
    const name = `${z}/${x}/${y}`;
    const before = this.read.get(name);
    if (before) return before;
    const reading = this.readTile(z, x, y);
    this.read.set(name, reading);
    reading.catch(() => this.read.delete(name));
    return reading;
  }

  private async readTile(z: number, x: number, y: number): Promise<void> {
    for (const { properties } of await featuresOf(this.archive, z, x, y)) {
      const image = understand(properties);
      if (image) this.known.set(image.id, image);
    }
  }
}

function understand(properties: Record<string, unknown>): Image | null {
  const id = properties["_id"];
  if (typeof id !== "string" || !id) return null;
  const image: Image = { id };
  for (const name of TEXTS) {
    const value = properties[name];
    if (typeof value === "string" && value.trim()) image[name] = value.trim();
  }
  for (const name of ["gsd", "file_size"] as const) {
    const value = properties[name];
    if (typeof value === "number" && value > 0) image[name] = value;
  }
  return image;
}
