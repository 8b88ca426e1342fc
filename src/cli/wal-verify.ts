// What `wal verify` found, as text or JSON.

import type { VerifyReport } from '../wal/verify.ts';
import { printLine, toJson } from './options.ts';

/** What a crash leaves at the end is no loss: nothing of it was ever acknowledged. */
function isLoss(kind: VerifyReport['damaged'][number]['kind']): boolean {
  return kind !== 'torn_tail' && kind !== 'unborn';
}

/** Prints what verify found; exit code 1 when rows are lost that nobody has accepted as lost. */
export function showVerify(report: VerifyReport, json: boolean): void {
  if (report.damaged.some(({ kind }) => isLoss(kind))) process.exitCode = 1;
  if (json) {
    printLine(toJson({ ...report, walId: report.walId?.toString(16) ?? null }));
    return;
  }
  for (const { segment, offset, endOffset, kind, reason, firstLsn, lastLsn } of report.damaged) {
    const rows = lastLsn < firstLsn ? 'no rows lost' : `rows ${firstLsn} to ${lastLsn}`;
    printLine(`${kind}: ${segment} bytes ${offset} to ${endOffset}: ${reason}, ${rows}`);
  }
  for (const { segment, reason, firstLsn, lastLsn } of report.accepted) {
    const rows = lastLsn < firstLsn ? 'no rows' : `rows ${firstLsn} to ${lastLsn}`;
    printLine(`stays lost: ${segment}: ${reason}, ${rows}`);
  }
  const { segments, blocks, rows, firstLsn, endLsn, inUse } = report;
  const scope = inUse ? ' (in use: up to the durable horizon)' : '';
  const verdict = report.damaged.length === 0 ? 'intact' : `${report.damaged.length} findings`;
  printLine(
    `${verdict}: ${segments} segments, ${blocks} blocks, ${rows} rows, LSN ${firstLsn} to ${endLsn}${scope}`,
  );
}
