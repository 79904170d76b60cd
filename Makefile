# Every target sets up what it needs from a fresh clone: a virtual environment in .venv, the package, then the job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
READY := $(VENV)/.ready
CONFIG ?= projects/PCL_CLIP/configs/rendered.yml
DEMO ?=
TESTS ?= tests

.PHONY: setup demo test lint docs bench clean

setup: $(READY)

$(READY): setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: $(READY)
	$(BIN)/python tools/demo.py --config-file $(CONFIG) $(DEMO)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(TESTS)

lint: $(READY)
	$(BIN)/ruff check .

docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

$(VENV)/.ready-docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[docs]"
	touch $@

bench: $(READY)
	for script in benchmarks/[a-z]*.py; do \
		case $$script in */common.py) ;; *) echo "== $$script"; $(BIN)/python $$script || exit 1;; esac; done

clean:
	rm -rf $(VENV) output build *.egg-info
