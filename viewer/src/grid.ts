// Where tiles lie: columns from the west and rows from the north, both with fractions.

export const columnOf = (longitude: number, zoom: number): number => ((longitude + 180) / 360) * 2 ** zoom;

export function rowOf(latitude: number, zoom: number): number {
  const sine = Math.sin((Math.max(-85.05, Math.min(85.05, latitude)) * Math.PI) / 180);
  return (0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)) * 2 ** zoom;
}

export const longitudeOf = (column: number, zoom: number): number => (column / 2 ** zoom) * 360 - 180;

export function latitudeOf(row: number, zoom: number): number {
  return (Math.atan(Math.sinh(Math.PI * (1 - (2 * row) / 2 ** zoom))) * 180) / Math.PI;
}
