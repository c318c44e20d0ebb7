"""Takes each defence out, one after another, in a copy of the project, and lists the tests that notice.

    python tests/attacks/neuter.py                  # all of `defences.py`
    python tests/attacks/neuter.py "lineage check"  # these
    python tests/attacks/neuter.py --jobs 2

Exit code 0: every defence was noticed. 1: one was noticed by no test, or its entry is wrong. 2: some tests fail with
all defences in place; they count for nothing. The working tree is never touched.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from attacks.defences import DEFENCES  # noqa: E402
from attacks.removal import Defence, EntryError, taken_out  # noqa: E402

# A test that hangs without a defence has noticed something, but not in a way to rely on.
MAX_SECONDS = 600
# So many tests that notice are shown, and then no more are run.
ENOUGH = 5
_BY_NAME = {d.name: d for d in DEFENCES}


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of pytest said."""

    failed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    broken: str = ""  # it said nothing: why


@dataclass(frozen=True, slots=True)
class Finding:
    defence: Defence
    noticed: tuple[str, ...] = ()
    problem: str = ""
    seconds: float = 0


class Copy:
    """A copy of the project in which a defence can be missing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules"))
        self._environment = os.environ | {"PYTHONPATH": str(root / "platform"), "PYTHONDONTWRITEBYTECODE": "1"}
        found = self._python("-c", "import pipit; print(pipit.__file__)").stdout.strip()
        if not Path(found).is_relative_to(root):
            raise EntryError(f"Python would test {found}, not the copy in {root}")

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.root, env=self._environment, capture_output=True, text=True
        )

    def test(self, tests: Sequence[str], *, most: float = MAX_SECONDS, failures: int = ENOUGH) -> Run:
        """Runs the tests, until so many have failed (0: all of them)."""
        report = self.root / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "--tb=line", "-m", ""]
        process = subprocess.Popen(
            [*command, f"--maxfail={failures}", f"--junitxml={report}", *tests],
            cwd=self.root,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=most)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Run(broken=f"the tests took longer than {most:.0f} s")
        if process.returncode not in (0, 1) or not report.exists():
            return Run(broken="pytest could not run them: " + " | ".join(output.strip().splitlines()[-3:]))
        failed: list[str] = []
        passed: list[str] = []
        errors: list[str] = []
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            error, failure = case.find("error"), case.find("failure")
            if failure is not None:
                failed.append(name)
            elif error is not None:  # of a fixture: the test itself has not looked
                errors.append(f"{name}: {error.get('message', '')[:200]}")
            else:
                passed.append(name)
        if not failed and not passed:
            return Run(broken="no test could be set up: " + " | ".join(errors[:1]))
        return Run(tuple(failed), tuple(passed))

    def without(self, defences: Sequence[Defence], tests: Sequence[str], *, failures: int = ENOUGH) -> Run:
        """Runs the tests with these defences out, and puts them back."""
        kept: dict[Path, str] = {}
        try:
            for defence in defences:
                path = self.root / "platform/pipit" / defence.file
                text = path.read_text()
                kept.setdefault(path, text)
                path.write_text(taken_out(text, defence))
            for path in kept:
                self._check_names(path)
            return self.test(tests, failures=failures)
        finally:
            for path, text in kept.items():
                path.write_text(text)

    def _check_names(self, path: Path) -> None:
        """A replacement that raises NameError would be noticed by every test, and prove nothing."""
        said = self._python("-m", "ruff", "check", "--isolated", "--quiet", "--select=F821,F823,E9", str(path))
        if said.returncode:
            raise EntryError(f"the replacement breaks {path.name}: {said.stdout.strip().splitlines()[:1]}")


def examine(copy: Copy, defence: Defence, failing: frozenset[str]) -> Finding:
    started = time.monotonic()
    try:
        others = [_BY_NAME[name] for name in defence.together_with]
        # Beside another defence what counts is the difference, so all tests are run.
        failures = 0 if others else ENOUGH
        run = copy.without([defence, *others], defence.tests, failures=failures)
        if run.broken:
            return Finding(defence, problem=run.broken)
        noticed = set(run.failed) - failing
        if others and noticed:
            alone = copy.without(others, defence.tests, failures=failures)
            if alone.broken:
                return Finding(defence, problem=alone.broken)
            noticed -= set(alone.failed)
    except EntryError as error:
        return Finding(defence, problem=str(error))
    return Finding(defence, tuple(sorted(noticed)), "", time.monotonic() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description="Takes defences out of a copy and lists the tests that notice.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="defences by name, or by a part of it; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="copies to test at once")
    parser.add_argument("--again", action="store_true", help="the tests were seen to pass: do not run them whole first")
    parser.add_argument("--list", action="store_true", help="only print the names")
    arguments = parser.parse_args()
    chosen = [d for d in DEFENCES if not arguments.names or any(n in d.name for n in arguments.names)]
    if arguments.list:
        print("\n".join(f"{d.name}  ({d.file})" for d in chosen))
        return 0
    if not chosen:
        print("No defence has such a name; --list shows them.")
        return 1
    with tempfile.TemporaryDirectory(prefix="pipit-neuter-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        first = Copy(Path(folder) / "0")
        failing = frozenset() if arguments.again else first_run(first, chosen)
        if failing is None:
            return 2
        copies.put(first)
        for number in range(1, max(1, arguments.jobs)):
            copies.put(Copy(Path(folder) / str(number)))

        def one(defence: Defence) -> Finding:
            copy = copies.get()
            try:
                finding = examine(copy, defence, failing)
            finally:
                copies.put(copy)
            report(finding)
            return finding

        with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
            findings = list(pool.map(one, chosen))
    unnoticed = [f for f in findings if not f.noticed]
    print(f"\n{len(findings) - len(unnoticed)} of {len(findings)} defences were noticed when they were taken out.")
    for finding in unnoticed:
        print(f"  {finding.defence.name}: {finding.problem or 'no test noticed'}")
    return 1 if unnoticed else 2 if failing else 0


def first_run(copy: Copy, chosen: Sequence[Defence]) -> frozenset[str] | None:
    """The tests that fail with all defences in place; None where that cannot be said."""
    print(f"{len(chosen)} defences. First with all of them in place ...", flush=True)
    whole = copy.test(sorted({test for d in chosen for test in d.tests}), most=20 * MAX_SECONDS, failures=0)
    if whole.broken:
        print(whole.broken)
        return None
    print(f"{len(whole.passed)} tests pass.", flush=True)
    if whole.failed:
        print("These fail with all defences in place, and count for nothing:\n  " + "\n  ".join(whole.failed))
    print(flush=True)
    return frozenset(whole.failed)


def _count(noticed: Sequence[str]) -> str:
    return f"{len(noticed)} tests or more" if len(noticed) >= ENOUGH else f"{len(noticed)} tests"


def report(finding: Finding) -> None:
    """One defence and who noticed, as soon as it is known."""
    defence = finding.defence
    also = f" (together with: {', '.join(defence.together_with)})" if defence.together_with else ""
    result = finding.problem or (_count(finding.noticed) if finding.noticed else "NO TEST NOTICED")
    lines = [f"{defence.name:44} {defence.file:26} {result}, {finding.seconds:.0f} s{also}"]
    lines += [f"    {name}" for name in finding.noticed]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
