// The one door to the server: typed by the published document, with the token, with problems as errors.
import type { components, paths } from './schema';
import { session } from './session.svelte';

/** Every shape the server publishes, by name. */
export type Schemas = components['schemas'];

type Json<R> = R extends { content: { 'application/json': infer Body } } ? Body : never;
type Got<P extends keyof paths> = paths[P] extends { get: { responses: { 200: infer R } } } ? Json<R> : never;
type GetPath = { [P in keyof paths]: [Got<P>] extends [never] ? never : P }[keyof paths];
type PostPath = { [P in keyof paths]: paths[P] extends { post: object } ? P : never }[keyof paths];
type QueryOf<P extends keyof paths> = paths[P] extends { get: { parameters: { query?: infer Q } } } ? NonNullable<Q> & object : never;
type PostQuery<P extends keyof paths> = paths[P] extends { post: { parameters: { query?: infer Q } } } ? NonNullable<Q> : never;
type PutPath = { [P in keyof paths]: paths[P] extends { put: object } ? P : never }[keyof paths];
type DeletePath = { [P in keyof paths]: paths[P] extends { delete: object } ? P : never }[keyof paths];
type Operation<P extends keyof paths, M extends 'post' | 'put'> = M extends keyof paths[P] ? paths[P][M] : never;
type BodyOf<P extends keyof paths, M extends 'post' | 'put'> =
  Operation<P, M> extends { requestBody: { content: { 'application/json': infer Body } } } ? Body : undefined;
type Answer<P extends keyof paths, M extends 'post' | 'put'> =
  Operation<P, M> extends { responses: infer R } ? Json<R[keyof R & (200 | 201 | 202)]> : never;

interface Options<P extends keyof paths> {
  /** What stands in the path's braces. */
  path?: Record<string, string>;
  query?: QueryOf<P>;
  signal?: AbortSignal;
}

/** What the server refused, in its own words. */
export class Refusal extends Error {
  readonly status: number;
  readonly title: string;
  readonly code: string;

  constructor(status: number, title: string, detail: string, code: string) {
    super(detail);
    this.name = 'Refusal';
    this.status = status;
    this.title = title;
    this.code = code;
  }
}

/** Reads one resource or list. */
export async function get<P extends GetPath>(path: P, options: Options<P> = {}): Promise<Got<P>> {
  const response = await send(address(path, options.path, options.query), { signal: options.signal ?? null });
  return (await response.json()) as Got<P>;
}

/** Asks for a change. */
export function post<P extends PostPath>(
  path: P,
  body: BodyOf<P, 'post'>,
  inPath: Record<string, string> = {},
  query?: PostQuery<P>,
): Promise<Answer<P, 'post'>> {
  return change('POST', address(path, inPath, query ?? {}), body);
}

/** Sets how something is to be. */
export function put<P extends PutPath>(path: P, body: BodyOf<P, 'put'>, inPath: Record<string, string> = {}): Promise<Answer<P, 'put'>> {
  return change('PUT', address(path, inPath), body);
}

/** Takes something away. */
export async function remove(path: DeletePath, inPath: Record<string, string>): Promise<void> {
  await send(address(path, inPath), { method: 'DELETE' });
}

/** Fetches the bytes of an artifact. */
export async function artifact(digest: string, signal?: AbortSignal): Promise<Blob> {
  const response = await send(address('/api/v1/artifacts/{digest}', { digest }), { signal: signal ?? null });
  return response.blob();
}

/** Opens a stream with the token, which an `EventSource` cannot carry. */
export function open(path: keyof paths, headers: Record<string, string>, signal: AbortSignal): Promise<Response> {
  return send(path, { headers, signal });
}

/** What a person is told of anything that went wrong. */
export function explain(error: unknown): { title: string; detail: string } {
  if (error instanceof Refusal) return { title: error.title, detail: error.message };
  if (error instanceof TypeError) {
    return { title: 'The server does not answer', detail: 'Nothing came back; the dashboard keeps trying.' };
  }
  return { title: 'Something went wrong', detail: error instanceof Error ? error.message : String(error) };
}

function address(path: string, inPath: Record<string, string> = {}, query: object = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(inPath[name] ?? ''));
  const asked = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const search = new URLSearchParams(asked.map(([name, value]) => [name, String(value)]));
  return asked.length > 0 ? `${filled}?${search}` : filled;
}

async function change<T>(method: string, url: string, body: unknown): Promise<T> {
  const init: RequestInit = { method };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { 'content-type': 'application/json' };
  }
  const response = await send(url, init);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

async function send(url: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (session.token !== '') headers.set('authorization', `Bearer ${session.token}`);
  const response = await fetch(url, { ...init, headers });
  if (response.ok) return response;
  const refusal = await read(response);
  if (response.status === 401) session.refuse(refusal.message);
  throw refusal;
}

async function read(response: Response): Promise<Refusal> {
  const fallback = { title: response.statusText || 'Refused', detail: `The server answered ${response.status}.`, code: '' };
  const told: Partial<Schemas['Problem']> = await response.json().catch(() => ({}));
  const { title, detail, code } = { ...fallback, ...told };
  return new Refusal(response.status, title, detail, code);
}
