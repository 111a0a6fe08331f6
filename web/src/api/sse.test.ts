// Events arrive whole, however the bytes were cut.
import { describe, expect, it } from 'vitest';
import { parseEvents } from './sse';

function streamOf(chunks: string[]): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(encoder.encode(chunk));
      controller.close();
    },
  });
}

async function read(chunks: string[]) {
  const events = [];
  for await (const event of parseEvents(streamOf(chunks))) events.push(event);
  return events;
}

const TEXT = ':\n\nid: 7\nevent: run.ended\ndata: {"a":1}\n\nid:8\ndata: one\ndata: two\n\nid: 9\ndata: cut off';

describe('a stream of events', () => {
  it('is read whole', async () => {
    expect(await read([TEXT])).toEqual([
      { id: '7', name: 'run.ended', data: '{"a":1}' },
      { id: '8', name: 'message', data: 'one\ntwo' },
    ]);
  });

  it('is read the same byte by byte, and with carriage returns', async () => {
    expect(await read([...TEXT])).toEqual(await read([TEXT]));
    expect(await read([TEXT.replaceAll('\n', '\r\n')])).toEqual(await read([TEXT]));
  });
});
