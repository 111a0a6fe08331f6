// Who is at the screen: a token from the address or the form, kept as long as the tab lives.
const KEY = 'forewright.token';

class Session {
  token = $state('');
  /** Whether the server wants another token. */
  refused = $state(false);
  /** What it said. */
  reason = $state('');

  /** Takes `#token=…` out of the address, so that it is never shared or bookmarked by accident. */
  begin(): void {
    const given = /^#token=([^&]+)(?:&at=(.*))?$/.exec(location.hash);
    if (given?.[1] !== undefined) {
      this.enter(decodeURIComponent(given[1]));
      const at = decodeURIComponent(given[2] ?? '/');
      history.replaceState(null, '', `#${at}`);
      return;
    }
    this.token = sessionStorage.getItem(KEY) ?? '';
  }

  enter(token: string): void {
    this.token = token.trim();
    this.refused = false;
    this.reason = '';
    sessionStorage.setItem(KEY, this.token);
  }

  /** The server did not take the token, or wants one. */
  refuse(reason: string): void {
    this.reason = this.token === '' ? '' : reason;
    this.refused = true;
  }

  leave(): void {
    sessionStorage.removeItem(KEY);
    this.token = '';
    this.reason = '';
    this.refused = true;
  }
}

export const session = new Session();
