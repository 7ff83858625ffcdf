// The map. MapLibre in its CSP build: its worker is a file of its own, so that the page's policy needs no blob.

import maplibregl from "maplibre-gl/dist/maplibre-gl-csp.js";
import workerUrl from "maplibre-gl/dist/maplibre-gl-csp-worker.js?url";
import "maplibre-gl/dist/maplibre-gl.css";
import type { ExpressionSpecification, FilterSpecification, LayerSpecification, Map as MapLibreMap, PointLike } from "maplibre-gl";
import { Protocol, type PMTiles } from "pmtiles";
import { around, sees, type Bounds } from "./bounds";
import { coarse, countryAt, fine, type Country, type Land } from "./land";
import { places, type Place } from "./places";
import { unreadOf } from "./unread";

export const OUTLINES_FROM = 6; // the zoom from which images are drawn and listed, the smallest only counted
const REACH_PX = 6; // of a finger, and of a dot

const PALETTES = {
  light: { sea: "#dfe6ea", land: "#f7f5f0", border: "#cfcabf", coast: "#b9c2c8", image: "#c2410c", chosen: "#0b4fb3", pointed: "#7c2d06" },
  dark: { sea: "#12171b", land: "#232a30", border: "#3a434b", coast: "#3f4a53", image: "#ff9a4d", chosen: "#6cb6ff", pointed: "#ffd0a8" },
};
type Palette = (typeof PALETTES)["light"];

export const PICTURES = ["coverage", "imagery"] as const;
export type Pictures = (typeof PICTURES)[number]; // a layer of pictures from an archive
export type Layer = "footprints" | Pictures;

export type Unreadable = "tiles" | "base" | "pictures";

export interface Stage {
  map: MapLibreMap;
  countries: () => readonly Country[] | null; // null while they are read, none where that failed
  places: () => readonly Place[] | null;
  arePlacesUnread: () => boolean; // whether they are none because that failed
  firstZoom: number; // of the mosaic's tiles
  pick: (point: { x: number; y: number }) => string[];
  inView: () => string[];
  small: (point?: { x: number; y: number }) => number; // images there or in view that are too small to be drawn as themselves
  show: (layer: Layer) => Promise<Layer>; // the one that is shown then; images are picked under each
  choose: (id: string | null) => void;
  pointAt: (id: string | null) => void;
  bounds: () => Bounds;
  boundsOf: (id: string) => Bounds | null;
  countryHere: () => string;
  isUnread: (source?: "mosaic") => boolean; // whether tiles could not be read
}

/** MapLibre would wait for ever, and say nothing, if the worker's script did not come; it takes it from the browser's cache. */
async function fetchWorker(): Promise<void> {
  const answer = await fetch(workerUrl);
  if (!answer.ok) throw new Error(`${answer.status}`);
  await answer.arrayBuffer();
}

/** Throws where the archive or the worker's script cannot be read, or the browser draws no WebGL. */
export async function stageOf(
  container: HTMLElement, archive: PMTiles, pictures: Partial<Record<Pictures, PMTiles>>, tell: (what: Unreadable, trouble: Error) => void,
): Promise<Stage> {
  maplibregl.setWorkerUrl(workerUrl);
  const explain = (what: string) => (error: Error): never => { throw new Error(`${what} (${error.message})`); };
  const [header] = await Promise.all([
    archive.getHeader().catch(explain("the archive of this build cannot be read")),
    fetchWorker().catch(explain("a script that draws it did not come")),
  ]);
  const protocol = new Protocol();
  protocol.add(archive);
  maplibregl.addProtocol("pmtiles", protocol.tile);

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const palette = (): Palette => PALETTES[dark.matches ? "dark" : "light"];
  let shown: Layer = "footprints";
  const wide = Math.max(container.clientWidth, 1);
  const map = new maplibregl.Map({
    container,
    hash: "map",
    center: [10, 18],
    zoom: Math.min(2, Math.max(0, Math.log2(wide / 512))),
    maxZoom: 20,
    dragRotate: false,
    pitchWithRotate: false,
    touchPitch: false,
    attributionControl: false,
    style: {
      version: 8,
      sources: {
        land: { type: "geojson", data: empty() },
        borders: { type: "geojson", data: empty() },
        places: { type: "geojson", data: empty() },
        mosaic: {
          type: "vector",
          tiles: [`pmtiles://${archive.source.getKey()}/{z}/{x}/{y}`],
          minzoom: header.minZoom,
          maxzoom: header.maxZoom,
        },
      },
      layers: layersIn(palette(), shown),
    },
  });
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-right");
  map.addControl(new maplibregl.ScaleControl({ maxWidth: 110 }), "bottom-left");
  map.addControl(
    new maplibregl.AttributionControl({
      compact: false,
      customAttribution: "© OpenAerialMap contributors · Natural Earth · MapLibre",
    }),
    "bottom-right",
  );
  map.getCanvas().setAttribute("aria-label", "Map. Arrows move it, plus and minus zoom, Enter chooses the images in its middle.");
  const paint = (): void => {
    for (const layer of layersIn(palette(), shown)) {
      for (const [name, value] of Object.entries(layer.paint ?? {})) map.setPaintProperty(layer.id, name, value);
      map.setLayerZoomRange(layer.id, layer.minzoom ?? 0, layer.maxzoom ?? 24);
    }
  };
  dark.addEventListener("change", paint);
  const addPictures = async (layer: Pictures, read: PMTiles): Promise<void> => {
    const { minZoom, maxZoom, tileDataOffset } = await read.getHeader();
    // of coverage a PNG's width, which the first tile has as all others
    const tileSize = layer === "imagery" ? 256 : new DataView((await read.source.getBytes(tileDataOffset, 24)).data).getUint32(16);
    if (map.getSource(layer)) return;
    maplibregl.addProtocol(layer, async ({ url }, { signal }) => {
      const [z, x, y] = url.slice(`${layer}://`.length).split("/").map(Number) as [number, number, number];
      const tile = await read.getZxy(z, x, y, signal);
      // for a picture that is none MapLibre would wait for ever
      return { data: tile?.data ?? (await createImageBitmap(new ImageData(1, 1))) };
    });
    map.addSource(layer, {
      type: "raster", tiles: [`${layer}://{z}/{x}/{y}`], tileSize, minzoom: minZoom, maxzoom: maxZoom,
      ...(layer === "imagery" && { attribution: "Images © their providers, each under its own open licence" }),
    });
    map.addLayer({ id: layer, type: "raster", source: layer, paint: PICTURES_PAINT[layer] }, "places");
  };
  const isUnread = unreadOf(map, (trouble) => tell("tiles", trouble));
  await new Promise<void>((done) => map.once("style.load", () => done()));

  let countries: readonly Country[] | null = null;
  let found: Place[] | null = null;
  let arePlacesUnread = false;
  const show = ({ land, borders, ...read }: Land): void => {
    countries = read.countries;
    setData(map, "land", land);
    setData(map, "borders", borders);
  };
  const failed = (trouble: Error): void => {
    tell("base", trouble);
    map.triggerRepaint(); // after which it is idle, and what is in view is looked at again
  };
  void coarse().then(show).then(fine, fine).then(show).catch((trouble: Error) => {
    countries ??= [];
    failed(trouble);
  });
  void places(archive).then((read) => {
    found = read;
    setData(map, "places", {
      type: "FeatureCollection",
      features: read.map(({ longitude, latitude }) => ({
        type: "Feature", properties: {}, geometry: { type: "Point", coordinates: [longitude, latitude] },
      })),
    });
  }).catch((trouble: Error) => {
    found = [];
    arePlacesUnread = true;
    failed(trouble);
  });

  const boundsOfView = (): Bounds => {
    const seen = map.getBounds();
    return { west: seen.getWest(), south: seen.getSouth(), east: seen.getEast(), north: seen.getNorth() };
  };
  const around = ({ x, y }: { x: number; y: number }): [PointLike, PointLike] => [[x - REACH_PX, y - REACH_PX], [x + REACH_PX, y + REACH_PX]];
  const query = (where?: PointLike | [PointLike, PointLike]): string[] => {
    const options = { layers: ["outlines-fill", "outlines-corners"] };
    const features = where ? map.queryRenderedFeatures(where, options) : map.queryRenderedFeatures(options);
    return [...new Set(features.map((each) => each.properties["id"]).filter((id): id is string => typeof id === "string"))];
  };
  const only = (layers: string[], id: string | null): void => {
    for (const layer of layers) map.setFilter(layer, isImage(id));
  };
  return {
    map,
    countries: () => countries,
    places: () => found,
    arePlacesUnread: () => arePlacesUnread,
    firstZoom: header.minZoom,
    pick: (point) => {
      if (map.getZoom() < OUTLINES_FROM) return [];
      const exact = query([point.x, point.y]);
      return exact.length ? exact : query(around(point));
    },
    inView: () => (map.getZoom() < OUTLINES_FROM ? [] : query()),
    small: (point) => {
      if (map.getZoom() < OUTLINES_FROM) return 0;
      if (!point) return smallIn(map, boundsOfView());
      const [from, to] = around(point).map((corner) => map.unproject(corner)) as [maplibregl.LngLat, maplibregl.LngLat];
      return smallIn(map, { west: from.lng, south: to.lat, east: to.lng, north: from.lat });
    },
    show: async (layer) => {
      shown = layer;
      const read = layer === "footprints" ? undefined : pictures[layer];
      if (layer !== "footprints" && read) {
        await addPictures(layer, read).catch((error: Error) => {
          tell("pictures", error);
          if (shown === layer) shown = "footprints";
        });
      }
      for (const each of PICTURES) {
        if (map.getLayer(each)) map.setLayoutProperty(each, "visibility", shown === each ? "visible" : "none");
      }
      paint();
      return shown;
    },
    choose: (id) => only(["chosen-fill", "chosen-line"], id),
    pointAt: (id) => only(["pointed"], id),
    bounds: boundsOfView,
    boundsOf: (id) => boundsOf(map, id),
    countryHere: () => {
      const { lng, lat } = map.getCenter();
      return countryAt(countries ?? [], lng, lat);
    },
    isUnread,
  };
}

/** Goes where all of it is in view, with a margin for which a small map has room. */
export function showWhole(map: MapLibreMap, { west, south, east, north }: Bounds, margin: number, maxZoom: number): void {
  const { clientWidth, clientHeight } = map.getCanvas();
  map.fitBounds([west, south, east, north], { padding: Math.min(margin, clientWidth / 6, clientHeight / 6), maxZoom });
}

const empty = () => ({ type: "FeatureCollection" as const, features: [] });

function setData(map: MapLibreMap, source: string, data: unknown): void {
  map.getSource<maplibregl.GeoJSONSource>(source)?.setData(data as GeoJSON.GeoJSON);
}

function isImage(id: string | null): FilterSpecification {
  return ["==", ["get", "id"], id ?? ""]; // no image has an empty id
}

function boundsOf(map: MapLibreMap, id: string): Bounds | null {
  const parts = map.querySourceFeatures("mosaic", { sourceLayer: "globalcoverage", filter: isImage(id) });
  const corners = parts.flatMap(({ geometry }) => ("coordinates" in geometry ? (geometry.coordinates.flat(Infinity) as unknown as number[]) : []));
  if (corners.length === 0) return null;
  return around(corners.filter((_, index) => index % 2 === 0), corners.filter((_, index) => index % 2 === 1));
}

/** How many images the squares in view count; each square is in one tile, and a feature has all of the same count. */
function smallIn(map: MapLibreMap, view: Bounds): number {
  const counts = new Map<string, number>();
  for (const { geometry, properties } of map.querySourceFeatures("mosaic", { sourceLayer: "globalcoverage", filter: ["has", "count"] })) {
    const squares = geometry.type === "MultiPolygon" ? geometry.coordinates : geometry.type === "Polygon" ? [geometry.coordinates] : [];
    for (const [[corner, , opposite] = []] of squares) {
      if (!corner || !opposite) continue;
      const longitude = (corner[0]! + opposite[0]!) / 2;
      const latitude = (corner[1]! + opposite[1]!) / 2;
      if (sees(view, longitude, latitude)) counts.set(`${longitude.toFixed(5)} ${latitude.toFixed(5)}`, properties["count"] as number);
    }
  }
  return [...counts.values()].reduce((sum, each) => sum + each, 0);
}

const byZoom = (...stops: (number | ExpressionSpecification)[]): ExpressionSpecification => ["interpolate", ["linear"], ["zoom"], ...stops] as unknown as ExpressionSpecification;

// of coverage its pixels as they are, and at once
const PICTURES_PAINT = {
  coverage: { "raster-resampling": "nearest", "raster-fade-duration": 0 },
  imagery: { "raster-resampling": "linear", "raster-fade-duration": 150 },
} as const;

/** Beside pictures the footprints are there all the same, to be picked, but are not seen. */
function layersIn(colour: Palette, shown: Layer): LayerSpecification[] {
  const images = { source: "mosaic", "source-layer": "globalcoverage" };
  const seen = (...stops: number[]): ExpressionSpecification | number => (shown === "footprints" ? byZoom(...stops) : 0);
  const fade = seen(OUTLINES_FROM - 0.5, 0, OUTLINES_FROM + 0.5, 1);
  return [
    { id: "sea", type: "background", paint: { "background-color": colour.sea } },
    { id: "land", type: "fill", source: "land", paint: { "fill-color": colour.land, "fill-outline-color": colour.coast } },
    { id: "borders", type: "line", source: "borders", paint: { "line-color": colour.border, "line-width": byZoom(0, 0.4, 6, 1.2) } },
    {
      id: "places", type: "circle", source: "places", maxzoom: OUTLINES_FROM + 0.5, // when outlines have faded in
      paint: {
        "circle-color": colour.image,
        "circle-radius": byZoom(0, 1.6, 3, 2.4, 7, 4),
        // imagery is not to be covered: what is too small to be seen in it has the dots of what is counted
        "circle-opacity": shown === "imagery" ? byZoom(3, 0.75, OUTLINES_FROM, 0) : seen(OUTLINES_FROM, 0.75, OUTLINES_FROM + 0.5, 0),
      },
    },
    { id: "outlines-fill", type: "fill", ...images, minzoom: OUTLINES_FROM - 0.5, paint: { "fill-color": colour.image, "fill-opacity": seen(6, 0.3, 14, 0.16) } },
    {
      id: "outlines-line", type: "line", ...images, minzoom: OUTLINES_FROM - 0.5, layout: { "line-join": "round" },
      paint: { "line-color": colour.image, "line-width": byZoom(6, 1.6, 8, 0.9, 14, 1.5), "line-opacity": fade },
    },
    {
      // a dot at each corner: what has no area left in a tile is seen all the same; in imagery only what is counted, to z9
      id: "outlines-corners", type: "circle", ...images, minzoom: shown === "imagery" ? 3 : OUTLINES_FROM - 0.5, maxzoom: 13,
      paint: {
        "circle-color": colour.image,
        "circle-radius": byZoom(6, 1.8, 13, 1),
        "circle-opacity": shown === "imagery" ? byZoom(3, 0, 4, ["case", ["has", "count"], 1, 0]) : fade,
      },
    },
    { id: "pointed", type: "line", ...images, filter: isImage(null), layout: { "line-join": "round" }, paint: { "line-color": colour.pointed, "line-width": 2.5 } },
    { id: "chosen-fill", type: "fill", ...images, filter: isImage(null), paint: { "fill-color": colour.chosen, "fill-opacity": 0.25 } },
    { id: "chosen-line", type: "line", ...images, filter: isImage(null), layout: { "line-join": "round" }, paint: { "line-color": colour.chosen, "line-width": 3.5 } },
  ];
}
