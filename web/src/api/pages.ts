// Long lists, page by page: as many pages as are wanted, each beginning where the one before ended.

interface Page<T> {
  items: T[];
  /** Where the list goes on; nothing at its end. */
  next?: string | null | undefined;
}

/** The first `count` pages of a list in one. */
export async function pages<T>(count: number, load: (after: { after?: string }) => Promise<Page<T>>): Promise<Page<T>> {
  const items: T[] = [];
  let next: string | null | undefined;
  for (let page = 0; page < count; page += 1) {
    const found = await load(next ? { after: next } : {});
    items.push(...found.items);
    next = found.next;
    if (!next) break;
  }
  return { items, next };
}
