// Reads lcov's lines of src/, leaves out test code, and says how many ran: node coverage.mjs LCOV GOAL
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

const [lcov, goal] = process.argv.slice(2);

// What the feature `operator` gates: the shell.
const gated = (text) => new Set([...text.matchAll(/#\[cfg\(feature = "operator"\)\]\n\s*(?:pub )?mod (\w+);/g)].map((match) => match[1]));
const shell = gated(readFileSync('src/lib.rs', 'utf8'));
const effectful = gated(readFileSync('src/account/mod.rs', 'utf8'));
const isCore = (file) => {
  const [, folder, name = ''] = file.split('/');
  return !shell.has(folder.replace('.rs', '')) && folder !== 'bin' && !(folder === 'account' && effectful.has(name.replace('.rs', '')));
};

const files = new Map();
let lines;
let end;
for (const line of readFileSync(lcov, 'utf8').split('\n')) {
  if (line.startsWith('SF:')) {
    const file = relative('.', line.slice(3));
    const text = readFileSync(file, 'utf8').split('\n');
    // Test modules stand at the end of their files, or in files of their own.
    const tests = text.findIndex((each, at) => each === '#[cfg(test)]' && /mod tests/.test(text.slice(at, at + 3).join(' ')));
    end = file.includes('_tests') ? 0 : tests < 0 ? Infinity : tests + 1;
    lines = [];
    if (file.startsWith('src/')) files.set(file, lines);
  } else if (line.startsWith('DA:')) {
    const [number, count] = line.slice(3).split(',').map(Number);
    if (number < end) lines.push(count > 0);
  }
}

const table = [...files].filter(([, all]) => all.length > 0).map(([file, all]) => ({ file, core: isCore(file), all: all.length, run: all.filter(Boolean).length }));
const share = (rows) => (100 * rows.reduce((sum, row) => sum + row.run, 0)) / Math.max(1, rows.reduce((sum, row) => sum + row.all, 0));
for (const core of [true, false]) {
  const rows = table.filter((row) => row.core === core).sort((a, b) => share([a]) - share([b]));
  console.log(core ? 'The pure core' : '\nThe shell (unit tests only; the stories run it)');
  for (const row of rows) console.log(`${row.file.padEnd(40)} ${String(row.run).padStart(5)} of ${String(row.all).padStart(5)} lines ${share([row]).toFixed(1).padStart(6)} %`);
  console.log(`${'all of it'.padEnd(40)} ${' '.repeat(21)} ${share(rows).toFixed(1).padStart(6)} %`);
}
const core = table.filter((row) => row.core);
if (core.length < 20) throw new Error(`only ${core.length} files of the pure core were seen`);
if (share(core) < Number(goal)) {
  console.error(`the pure core is run by ${share(core).toFixed(1)} %, and ${goal} % is the least`);
  process.exit(1);
}
