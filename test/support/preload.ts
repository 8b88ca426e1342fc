// Loaded before every test file. Tests must not inherit the settings of whoever runs them.
for (const name of Object.keys(process.env)) {
  if (name.startsWith('HFT_') && name !== 'HFT_LOG_LEVEL') delete process.env[name];
}
process.env['HFT_LOG_LEVEL'] ??= 'warn';
