// A part of the world, which may lie on both sides of the antimeridian: then its east is beyond 180 degrees.

export interface Bounds { west: number; south: number; east: number; north: number }

/** The smallest bounds around some places; there must be one. */
export function around(longitudes: readonly number[], latitudes: readonly number[]): Bounds {
  const order = longitudes.map((each) => ((((each + 180) % 360) + 360) % 360) - 180).sort((one, other) => one - other);
  const [south, north] = [Math.min(...latitudes), Math.max(...latitudes)];
  if (order[0] === order.at(-1) && Math.max(...longitudes) > Math.min(...longitudes)) return { west: -180, east: 180, south, north };
  // all places lie outside of the widest gap between neighbours
  let west = 0;
  let widest = order[0]! + 360 - order.at(-1)!;
  for (let index = 1; index < order.length; index++) {
    const gap = order[index]! - order[index - 1]!;
    if (gap > widest) [west, widest] = [index, gap];
  }
  const east = order.at(west - 1)! + (west > 0 ? 360 : 0);
  return { west: order[west]!, east, south, north };
}

/** Whether a place is in view; a view may be beyond 180 degrees. */
export function sees({ west, south, east, north }: Bounds, longitude: number, latitude: number): boolean {
  const turned = longitude + 360 * Math.ceil((west - longitude) / 360);
  return latitude >= south && latitude <= north && turned <= east;
}
