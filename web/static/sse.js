// Decodes text/event-stream as WHATWG specifies it. Pure: bytes in, blocks out.

/**
 * @typedef {{id: string | null, data: string | null, retry: number | null}} Block
 *   The fields between two empty lines. A block with only an id moves the cursor.
 */

export class SseDecoder {
  // Without `ignoreBOM` the decoder drops one byte order mark at the start, as the standard requires.
  #utf8 = new TextDecoder();
  #rest = '';
  #endedWithCr = false;
  #block = emptyBlock();

  /** Decode the next bytes, cut anywhere, and return the blocks that they complete. @returns {Block[]} */
  push(bytes) {
    let text = this.#utf8.decode(bytes, { stream: true });
    if (text === '') return [];
    // A CR ends its line at once, so an LF at the start of the next chunk belongs to a line already parsed.
    if (this.#endedWithCr && text.startsWith('\n')) text = text.slice(1);
    this.#endedWithCr = text === '' ? false : text.endsWith('\r');
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#parseLine(line)).filter((block) => block !== null);
  }

  #parseLine(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return null; // a comment: a heartbeat
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    const block = this.#block;
    if (name === 'data') block.data = block.data === null ? value : `${block.data}\n${value}`;
    else if (name === 'id' && !value.includes('\0')) block.id = value;
    else if (name === 'retry' && /^[0-9]+$/.test(value)) block.retry = Number(value);
    return null;
  }

  #dispatch() {
    const block = this.#block;
    this.#block = emptyBlock();
    return block.id === null && block.data === null && block.retry === null ? null : block;
  }
}

function emptyBlock() {
  return { id: null, data: null, retry: null };
}
