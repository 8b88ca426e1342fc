// `bun run audit`: known vulnerabilities of what the program is made of, as the package registry knows them.
// Exit code 1 for one that is high or critical. A registry that cannot be asked (no network, a mirror without
// the service) fails nothing, but is said loudly.

const TIMEOUT_MS = 20_000;

interface Advisory {
  url: string;
  title: string;
  severity: string;
  vulnerable_versions: string;
}

async function audit(): Promise<number> {
  const child = Bun.spawn([process.execPath, 'audit', '--json', '--prod', '--audit-level=high'], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: TIMEOUT_MS,
  });
  const [output, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const found = parse(output);
  if (found === null) {
    const why = errors.trim() || `no answer within ${TIMEOUT_MS / 1000} s`;
    process.stderr.write(
      `\n*** SKIPPED: dependencies ARE NOT AUDITED, the registry does not say: ${why}\n\n`,
    );
    return 0;
  }
  for (const [name, advisories] of Object.entries(found))
    for (const { severity, title, url, vulnerable_versions: versions } of advisories)
      process.stderr.write(`audit: ${severity}: ${name} ${versions}: ${title} (${url})\n`);
  if (code === 0) process.stderr.write('audit: no dependency has a known vulnerability of level high\n');
  return code;
}

function parse(output: string): Record<string, Advisory[]> | null {
  try {
    return JSON.parse(output) as Record<string, Advisory[]>;
  } catch {
    return null;
  }
}

void audit().then((code) => process.exit(code));
