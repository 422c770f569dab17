# make reproduce: train, score and report the paper's tables (PRESET=smoke, on the embedded data)
# make test:      the tests
# make check:     trains the committed studies of the embedded data again and compares every number
# make site:      results and notebooks as static HTML in outputs/site
# make lab:       the notebooks in JupyterLab
PYTHON ?= python3
PRESET ?= smoke
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: reproduce test check site lab
reproduce: $(INSTALLED)
	$(BIN)/repro reproduce --preset $(PRESET)

test: $(INSTALLED)
	$(BIN)/pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout 300 tests results

check: $(INSTALLED)
	$(BIN)/repro check

site: $(INSTALLED)
	$(BIN)/repro site

lab: $(INSTALLED)
	$(BIN)/jupyter lab notebooks

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,notebook]"
	touch $@
