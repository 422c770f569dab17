"""Do the tests notice small faults? Changes one place of the code at a time and runs the tests that reach it.

`python -m benchmarks.mutation --seed 1 --mutants 150` needs cosmic-ray and coverage beside the project's
packages. It draws equally many mutants from each room, at most one per place. No file changes: each mutant
lives in a process of its own, forked from one that has the large packages loaded. `--survivors TEST ...` runs
the survivors of the last session again, against these tests alone.
"""

import argparse
import ast
import collections
import importlib
import json
import os
import random
import resource
import signal
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import coverage
import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOMS = ("networks", "training", "scoring", "data", "analysis")
LARGE = (
    "torch",
    "torchvision",
    "pandas",
    "scipy.stats",
    "matplotlib.pyplot",
    "seaborn",
    "typer",
    "hypothesis",
)
# The tests of test_kills start processes anew, without the mutant.
PYTEST = [
    "-q",
    "--no-header",
    "--tb=line",
    "-pno:cacheprovider",
    "-mnot slow",
    "--ignore=tests/training/test_kills.py",
]


class Baseline:
    """Which lines each test reaches, and its seconds of processor time. Tests over the limit are left out."""

    def __init__(self, limit):
        self.limit, self.seconds, self.unfit = limit, {}, set()
        self.coverage = coverage.Coverage(data_file=None, source=["repro"], config_file=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        # The limit is one of processor time; other processes and coverage make the clock run faster.
        signal.setitimer(signal.ITIMER_REAL, 5 * self.limit)
        started = time.process_time()
        result = yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.seconds[item.nodeid] = time.process_time() - started
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        # What tests share counts for each test that reaches the file.
        if fixturedef.scope != "function":
            self.coverage.switch_context("")
        result = yield
        self.coverage.switch_context(request._pyfuncitem.nodeid)
        return result

    def pytest_runtest_logreport(self, report):
        if not report.passed:
            self.unfit.add(report.nodeid)

    def measure(self, path):
        def late(*_):
            raise TimeoutError

        signal.signal(signal.SIGALRM, late)
        self.coverage.start()
        pytest.main(PYTEST + [f"tests/{room}" for room in ROOMS], plugins=[self])
        self.coverage.stop()
        data = self.coverage.get_data()
        quick = {t: s for t, s in self.seconds.items() if s < self.limit and t not in self.unfit}
        lines = {os.path.relpath(file): data.contexts_by_lineno(file) for file in data.measured_files()}
        path.write_text(json.dumps({"seconds": quick, "lines": lines}))


def statements(tree):
    """The spans of lines of the statements, and those in which a change is no change of behaviour."""
    spans, quiet = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            spans.append((node.lineno, node.end_lineno))
        # A message; an annotation.
        if isinstance(node, ast.Raise):
            quiet.append(node)
        quiet += filter(None, (getattr(node, name, None) for name in ("annotation", "returns")))
    return spans, [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in quiet]


def draw(session, seed, mutants):
    """Writes a sample of cosmic-ray's mutants into the session: as many of each room, one per place at most."""
    modules = sorted(path for room in ROOMS for path in Path("repro", room).glob("*.py"))
    init(modules, session, {})
    quiet = {str(path): statements(ast.parse(path.read_text()))[1] for path in modules}
    places = {room: collections.defaultdict(list) for room in ROOMS}
    for item in session.work_items:
        (change,) = item.mutations
        # `==` made `is` says the same of names and small numbers.
        same = change.operator_name.endswith(("Eq_Is", "Is_Eq", "Eq_IsNot", "IsNot_NotEq", "NoOp"))
        file = str(change.module_path)
        if not same and not any(a <= change.start_pos < b for a, b in quiet[file]):
            places[Path(file).parts[1]][file, change.start_pos].append(item)
    session.clear()
    random.seed(seed)
    order = lambda item: (item.mutations[0].operator_name, item.mutations[0].occurrence)
    for found in places.values():
        for place in random.sample(sorted(found), mutants // len(ROOMS)):
            session.add_work_item(random.choice(sorted(found[place], key=order)))


def reaching(change, baseline):
    """The quick tests of the mutant's room that reach its statement, the quickest first."""
    file, (line, _) = str(change.module_path), change.start_pos
    lines = baseline["lines"].get(file, {})
    first = max(a for a, b in statements(ast.parse(Path(file).read_text()))[0] if a <= line <= b)
    found = {test for n in range(first, line + 1) for test in lines.get(str(n), [])}
    if "" in found:
        found = {test for tests in lines.values() for test in tests}
    seconds = {t: s for t, s in baseline["seconds"].items() if t.startswith(f"tests/{Path(file).parts[1]}/")}
    return sorted(found & set(seconds), key=seconds.get), 20 + 5 * sum(
        seconds[t] for t in found & set(seconds)
    )


def outcome(change, tests, limit, log):
    """Forks, puts the changed source in the place of the file's, runs the tests to the first that fails."""
    path = str(Path(change.module_path).resolve())
    operator = get_operator(change.operator_name)(**change.operator_args)
    source = mutate_code(Path(path).read_text(), operator, change.occurrence)
    if not (process := os.fork()):
        code = 1
        try:
            signal.alarm(int(limit))
            resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))
            get_code = SourceFileLoader.get_code
            SourceFileLoader.get_code = lambda self, name: (
                compile(source, path, "exec") if self.path == path else get_code(self, name)
            )
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1), os.dup2(output, 2)
            code = int(pytest.main([*PYTEST, "-x", *tests]))
        finally:
            os._exit(code)
    status = os.waitpid(process, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return "timeout"
    return "killed" if status else "survived"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutants", type=int, default=150)
    parser.add_argument("--limit", type=float, default=2, help="the most seconds of a test")
    parser.add_argument("--out", type=Path, default=Path("outputs/mutation"))
    parser.add_argument("--survivors", nargs="+", metavar="TEST")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in LARGE:
        importlib.import_module(name)
    measured = options.out / "baseline.json"
    if not measured.exists():
        if not (process := os.fork()):
            Baseline(options.limit).measure(measured)
            os._exit(0)
        os.waitpid(process, 0)
    baseline = json.loads(measured.read_text())
    session = WorkDB(options.out / "session.sqlite", WorkDB.Mode.create)
    if not options.survivors:
        draw(session, options.seed, options.mutants)
    before = dict(session.results)
    counts = collections.defaultdict(collections.Counter)
    for item in session.work_items:
        (change,) = item.mutations
        was = before.get(item.job_id)
        if options.survivors and was.is_killed:
            found = was.output
        else:
            tests, limit = reaching(change, baseline)
            tests = options.survivors or tests
            log = options.out / f"{item.job_id}.txt"
            found = outcome(change, tests, limit, log) if tests else "survived"
            test = TestOutcome.SURVIVED if found == "survived" else TestOutcome.KILLED
            session.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, found, test))
            place = f"{change.module_path}:{change.start_pos[0]} {change.definition_name}"
            operator = change.operator_name.removeprefix("core/")
            print(f"{found:8} {place} {operator} ({len(tests)} tests, {item.job_id})", flush=True)
        counts[Path(change.module_path).parts[1]][found] += 1
    counts["all"] = sum(counts.values(), collections.Counter())
    for room, of in counts.items():
        dead = of["killed"] + of["timeout"]
        print(f"{room:9} {dict(of)} score {100 * dead / of.total():.0f} %")


if __name__ == "__main__":
    main()
