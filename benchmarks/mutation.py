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

from repro import provenance

ROOMS = ("networks", "training", "scoring", "data", "analysis")
LARGE = (
    *("torch._dynamo", "torchvision", "torch_fidelity", "timm", "datasets", "pandas", "scipy.stats"),
    *("scipy.optimize", "seaborn", "typer", "PIL.Image", "filelock", "platformdirs", "rich.console"),
)
MOST_SECONDS = 12  # of processor time for one mutant
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
    """Which lines each test reaches, and its seconds of processor time. A test that takes longer than the
    limit, by the clock, is left out.
    """

    def __init__(self, limit):
        self.limit, self.seconds, self.unfit = limit, {}, set()
        self.coverage = coverage.Coverage(data_file=None, source=["repro"], config_file=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        signal.setitimer(signal.ITIMER_REAL, self.limit)
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
        quick = {t: s for t, s in self.seconds.items() if t not in self.unfit}
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


def draw(session, seed, mutants, rooms):
    """Writes a sample of cosmic-ray's mutants into the session: as many of each room, one per place."""
    modules = sorted(path for room in rooms for path in Path("repro", room).glob("*.py"))
    init(modules, session, {})
    quiet = {str(path): statements(ast.parse(path.read_text()))[1] for path in modules}
    places = {room: collections.defaultdict(list) for room in rooms}
    for item in session.work_items:
        (change,) = item.mutations
        # `==` made `is` says the same of names and small numbers.
        same = change.operator_name.endswith(("Eq_Is", "Is_Eq", "Eq_IsNot", "IsNot_NotEq", "NoOp"))
        file = str(change.module_path)
        if not same and not any(a <= change.start_pos < b for a, b in quiet[file]):
            places[Path(file).parts[1]][file, change.start_pos].append(item)
    session.clear()
    order = lambda item: (item.mutations[0].operator_name, item.mutations[0].occurrence)
    for room, found in places.items():
        random.seed(f"{seed} {room}")
        ordered = sorted(found)
        for place in random.sample(ordered, mutants // len(rooms)):
            # cosmic-ray fails to replace exceptions with a dot in the name: the next place instead.
            while found[place][0].mutations[0].operator_name.endswith("ExceptionReplacer"):
                place = ordered[ordered.index(place) + 1]
            session.add_work_item(random.choice(sorted(found[place], key=order)))


def reaching(change, baseline):
    """The tests of the mutant's room that reach its statement, the quickest first; others where none does."""
    file, (line, _) = str(change.module_path), change.start_pos
    lines = baseline["lines"].get(file, {})
    spans = statements(ast.parse(Path(file).read_text()))[0]
    first = max((a for a, b in spans if a <= line <= b), default=line)
    found = {test for n in range(first, line + 1) for test in lines.get(str(n), [])}
    if "" in found:
        found = {test for tests in lines.values() for test in tests}
    seconds = {test: s for test, s in baseline["seconds"].items() if test in found}
    room = f"tests/{Path(file).parts[1]}/"
    own = [test for test in seconds if test.startswith(room)] or seconds
    tests, total = [], 0.0
    for test in sorted(own, key=seconds.get):
        if total + seconds[test] <= MOST_SECONDS:
            tests, total = [*tests, test], total + seconds[test]
    return tests, 30 + 5 * total


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
    parser.add_argument("--limit", type=float, default=10, help="a slower test is left out, in seconds")
    parser.add_argument("--out", type=Path, default=Path("outputs/mutation"))
    parser.add_argument("--survivors", nargs="+", metavar="TEST")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=ROOMS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in LARGE:
        importlib.import_module(name)
    code = provenance.code_revision()["sources"]  # places and lines are of one code
    measured = options.out / f"baseline-{code}.json"
    if not measured.exists():
        if not (process := os.fork()):
            Baseline(options.limit).measure(measured)
            os._exit(0)
        os.waitpid(process, 0)
    baseline = json.loads(measured.read_text())
    name = f"{'-'.join(options.rooms)}-{options.seed}-{options.mutants}-{code}.sqlite"
    if options.survivors and pytest.main([*PYTEST, *options.survivors]):
        raise SystemExit(f"These tests fail, or are not there, without a mutant: {options.survivors}.")
    session = WorkDB(options.out / name, WorkDB.Mode.create)
    if not session.num_work_items:
        draw(session, options.seed, options.mutants, options.rooms)
    before = dict(session.results)
    counts = collections.defaultdict(collections.Counter)
    for item in session.work_items:
        (change,) = item.mutations
        was = before.get(item.job_id)
        if was and (was.is_killed or not options.survivors):
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
