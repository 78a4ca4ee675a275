# Needs Python 3.10 or newer, pip and make; everything else goes into .venv.
#   make demo    an export of a CRM through Meltano into a local stand-in for Altcraft
#   make test    the linters and the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo lint test dist soak bench settings nox clean

demo: $(VENV)/.installed-demo
	@$(BIN)/python scripts/demo.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/actionlint .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet --persona auditor .
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/hadolint Dockerfile
	$(BIN)/pre-commit validate-config

test: lint
	$(BIN)/pytest -n 2

dist: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

soak: $(VENV)/.installed-dev
	SOAK_SIGNALS=200 SOAK_SEEDS=40 SOAK_KILLS=50 SOAK_KILL_SEEDS=3 SOAK_HISTORIES=500 SOAK_FUZZ=1200 SOAK_WRITES=all SOAK_SPLITS=400 \
		$(BIN)/pytest -n 2 --timeout 900 tests/test_signals.py tests/test_window.py tests/test_journal.py \
		tests/test_journal_writes.py tests/test_histories.py tests/test_fuzz.py tests/test_one_run_or_many.py

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks

settings: $(VENV)/.installed-dev
	$(BIN)/python scripts/write_settings.py

nox: $(VENV)/.installed-dev
	$(BIN)/nox

clean:
	rm -rf $(VENV) .meltano .nox .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

# One stamp for each extra of pyproject.toml, so that nothing is installed again until that changes.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[$*]'
	@touch $@

# Debian's Python comes without ensurepip unless python3-venv is there: its pip can stand in.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "Python 3.10 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
		echo "Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
	@rm -rf $(VENV)
	@echo "$(PYTHON) -m venv $(VENV)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV) && \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; } || { rm -rf $(VENV); exit 1; }
