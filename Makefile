# make reproduce: train, score and report the paper's tables (PRESET=smoke, on the embedded data)
# make test:      the tests but the slow ones, and the notebooks in results/smoke
# make nightly:   the slow tests, and every notebook in results/
# make check:     train the committed studies of the embedded data again and compare every number
# make gpu:       on a GPU: its tests, its speed, and a study of three rows sized to it (DATA=FOLDER)
# make lint:      ruff: format and rules, of code and notebooks
# make site:      results and notebooks as static HTML in outputs/site
# make lab:       the notebooks in JupyterLab
# make help:      this list
PYTHON ?= python3
PRESET ?= smoke
BIN := .venv/bin
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env --nbval-cell-timeout 300
INSTALLED := .venv/.installed

# where it is set, every process compiles all it imports: half the time of a short one
export PYTHONDONTWRITEBYTECODE =

.PHONY: reproduce test nightly check gpu lint site lab help
reproduce: $(INSTALLED)
	$(BIN)/repro reproduce --preset $(PRESET)

test: $(INSTALLED)
	$(PYTEST) tests results/smoke

nightly: $(INSTALLED)
	$(PYTEST) -m slow tests
	$(PYTEST) results

check: $(INSTALLED)
	$(BIN)/repro check

gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu $(if $(DATA),--data $(DATA))

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

site: $(INSTALLED)
	$(BIN)/repro site

lab: $(INSTALLED)
	$(BIN)/jupyter lab notebooks

help:
	@sed -n 's/^# make/make/p' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e ".[test,notebook]"
	touch $@
