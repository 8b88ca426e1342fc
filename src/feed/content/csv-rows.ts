import { parse } from 'csv-parse/sync';
import type { LineBlock } from './line-blocks.ts';

/** A record of a CSV file with the number of its line. */
export interface CsvRow {
  fields: string[];
  line: number;
}

/**
 * Splits a block of whole lines into records. Windows line ends, a byte order mark and blank lines are
 * taken as they come; a record of any number of fields is given on, for the importer to judge.
 */
export function csvRows(block: LineBlock): CsvRow[] {
  const records = parse(block.text, {
    bom: true,
    relax_column_count: true,
    quote: null,
    skip_empty_lines: true,
    trim: true,
    record_delimiter: ['\r\n', '\n'],
    info: true,
  }) as unknown as { record: string[]; info: { lines: number } }[];
  return records.map(({ record, info }) => ({ fields: record, line: block.firstLine + info.lines - 1 }));
}

/** Fields of one line, as `csvRows` gives them. */
export function csvFields(line: string): string[] {
  return csvRows({ text: line, firstLine: 1 })[0]?.fields ?? [];
}
