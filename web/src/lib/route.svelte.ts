// Which page is shown: the part of the address after `#`.

class Route {
  /** The parts of the path. */
  parts = $state<string[]>(parse());
  /** What stands after its question mark. */
  query = $state.raw(ask());

  /** Follows the address until the returned function is called. */
  follow(): () => void {
    const read = () => {
      this.parts = parse();
      this.query = ask();
    };
    read();
    addEventListener('hashchange', read);
    return () => removeEventListener('hashchange', read);
  }
}

export const route = new Route();

/** The address of a page. */
export function link(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

/** Goes to a page. */
export function go(...parts: string[]): void {
  location.hash = link(...parts);
}

function ask(): URLSearchParams {
  return new URLSearchParams(location.hash.split('?')[1] ?? '');
}

function parse(): string[] {
  const path = location.hash.replace(/^#\/?/, '').split('?')[0] ?? '';
  return path.split('/').filter((part) => part !== '').map(decodeURIComponent);
}
