// What is public: config.json beside the page says where, mosaic/latest.json says which build.

import { within } from "./patience";

export interface Config {
  root: string; // address of the store's keys, from the page
  public: string | null; // the same for others; null where it is `root`
  pointer: string;
  builds: string; // what the keys of builds begin with
  archive: string;
  tilejson: string;
  coverage_archive: string;
  imagery_archive: string;
  details: string; // name of the archive with the details, beside a build's own
  coverage: string; // of the one with the raster coverage
  imagery: string; // of the one with the images themselves
  vector_tiles: string | null; // a template with {z}, {x}, {y}
  raster_tiles: string | null;
  raster_shows: "coverage" | "imagery";
  stac_item: string | null; // a template with {id}
  preview: string | null;
  zoom_min: number; // the first of the vector tiles and of the raster coverage
  zoom_max: number; // the last of both
  fresh_warn_hours: number;
  fresh_fail_hours: number;
}

export interface Pointer {
  build: string;
  checked_at: string;
  source?: string; // what the images were read from
  images: number;
  archive: string;
  products?: Products;
  format: number;
}

type Products = Record<string, { key?: string } | undefined>; // by name

interface Manifest {
  source?: string;
  images: number;
  products?: Products;
  archive: { key: string };
  snapshot: { taken_at: string };
}

export interface Mosaic {
  config: Config;
  pointer: Pointer;
  archive: string; // addresses that this page reads
  details: string;
  coverage: string | null; // where the build has one
  imagery: string | null;
  isChosen: boolean; // by the page's address, and perhaps not what is public now
}

export type Trouble = "no-config" | "nothing-public" | "no-such-build" | "unreachable" | "not-understood";

/** Why there is nothing to show. */
export class NoMosaic extends Error {
  constructor(readonly trouble: Trouble, readonly told: string) {
    super(told);
  }
}

const FORMAT = 1;
const BUILD = /^\d{8}T\d{6}Z-[0-9a-f]{12}$/;
const PATIENCE_MS = 20_000;

export async function readConfig(): Promise<Config> {
  return (await read(new URL("config.json", document.baseURI), "no-config")) as Config;
}

/** The mosaic that is public, or the build that the page's address names. Throws NoMosaic. */
export async function readMosaic(config: Config): Promise<Mosaic> {
  const root = new URL(config.root, document.baseURI);
  const build = new URLSearchParams(location.search).get("build");
  const pointer = build === null ? await readPointer(config, root) : await readManifest(config, root, build);
  const isWhole = typeof pointer?.build === "string" && typeof pointer.archive === "string";
  if (!isWhole || pointer.format !== FORMAT || Number.isNaN(Date.parse(pointer.checked_at))) {
    throw new NoMosaic("not-understood", `format ${String(pointer?.format)}`);
  }
  const archive = new URL(pointer.archive, root).href;
  const product = (name: string): string | null => {
    const key = pointer.products?.[name]?.key;
    return typeof key === "string" ? new URL(key, root).href : null;
  };
  return {
    config,
    pointer,
    archive,
    details: new URL(config.details, archive).href,
    coverage: product(config.coverage),
    imagery: product(config.imagery),
    isChosen: build !== null,
  };
}

async function readPointer(config: Config, root: URL): Promise<Pointer> {
  return (await read(new URL(config.pointer, root), "nothing-public")) as Pointer;
}

async function readManifest(config: Config, root: URL, build: string): Promise<Pointer> {
  if (!BUILD.test(build)) throw new NoMosaic("no-such-build", "that is not a build's name");
  const manifest = (await read(new URL(`${config.builds}${build}/manifest.json`, root), "no-such-build")) as Manifest;
  const { source, images, archive, products, snapshot } = manifest;
  return { build, source, images, archive: archive?.key, products, checked_at: snapshot?.taken_at, format: FORMAT };
}

async function read(address: URL, absent: Trouble): Promise<unknown> {
  const answer = await ask(address);
  // where nobody may list, S3 says 403 of a key that is not there
  if (answer.status === 404 || answer.status === 403) throw new NoMosaic(absent, `${answer.status}`);
  if (!answer.ok) throw new NoMosaic("unreachable", `it answers ${answer.status}`);
  return json(answer);
}

/** The address under which others read a key of the store. */
export function publicAddress(config: Config, key: string): string {
  return new URL(key, config.public ?? new URL(config.root, document.baseURI)).href;
}

export type Age = "fresh" | "late" | "stale";

export function hoursSince(moment: string, now = Date.now()): number {
  return Math.max(0, now - Date.parse(moment)) / 3_600_000;
}

export function judge({ config, pointer }: Mosaic): Age {
  const hours = hoursSince(pointer.checked_at);
  if (hours >= config.fresh_fail_hours) return "stale";
  return hours >= config.fresh_warn_hours ? "late" : "fresh";
}

async function ask(address: URL): Promise<Response> {
  try {
    return await fetch(address, { cache: "no-cache", signal: within(PATIENCE_MS) });
  } catch (error) {
    throw unreachable(error);
  }
}

async function json(answer: Response): Promise<unknown> {
  try {
    return await answer.json();
  } catch (error) {
    // the connection may also break, or the time be up, when only a part of the answer has come
    if (!(error instanceof SyntaxError)) throw unreachable(error);
    throw new NoMosaic("not-understood", `${answer.url.split("/").pop()} is no JSON`);
  }
}

function unreachable(error: unknown): NoMosaic {
  return new NoMosaic("unreachable", error instanceof DOMException ? "no answer in time" : "no connection");
}
