// Tables of ClickHouse's HTTP interface: status of an exception code, content type of a format.

// As in ClickHouse's own table of exception codes; every other exception is a 500.
const STATUS_BY_CODE: ReadonlyMap<number, number> = new Map(
  (
    [
      [
        400,
        [6, 8, 15, 25, 26, 27, 33, 38, 41, 43, 44, 53, 62, 72, 76, 117, 167, 168, 223, 321, 376, 456, 457],
      ],
      [404, [46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336]],
      [413, [229]],
      [501, [48]],
      [503, [209, 439]],
    ] as const
  ).flatMap(([status, codes]) => codes.map((code) => [code, status] as const)),
);

/** HTTP status for a ClickHouse exception code. */
export function statusOfException(exceptionCode: number): number {
  return STATUS_BY_CODE.get(exceptionCode) ?? 500;
}

/** Content type of a result in `format`. */
export function contentTypeOf(format: string): string {
  if (/^(TSV|TabSeparated)/.test(format)) return 'text/tab-separated-values; charset=UTF-8';
  if (/^CSV/.test(format))
    return `text/csv; charset=UTF-8; header=${format === 'CSV' ? 'absent' : 'present'}`;
  if (/^(JSON\w*EachRow|JSONLines|NDJSON)/.test(format)) return 'application/x-ndjson; charset=UTF-8';
  if (/^JSON/.test(format)) return 'application/json; charset=UTF-8';
  if (/^XML$/.test(format)) return 'application/xml; charset=UTF-8';
  if (/^(Pretty|Vertical|Values|SQLInsert|Markdown|Template|Custom|LineAsString|TSKV|Null)/.test(format)) {
    return 'text/plain; charset=UTF-8';
  }
  return 'application/octet-stream';
}
