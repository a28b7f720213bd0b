# The project's commands; `make` lists them. Works with GNU Make 3.81 (macOS) and newer.

# The Python of the virtual environment; to use another one: make install PYTHON=python3.12
PYTHON = python3
# More arguments for the command behind test, compat, fuzz, lock, bench and thumbnails-regenerate.
ARGS =

BIN = .venv/bin
# Touched once everything is installed, so that an interrupted install is not taken for a whole one:
# either what running needs, or what tests and the rest need besides. Never are both there.
RUNNABLE = .venv/.runnable
INSTALLED = .venv/.installed
# What running depends on. Where tests are installed, that environment is kept up to date as a whole.
TO_RUN = $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(RUNNABLE))

# `make check` uses the settings of production, whatever the caller's environment or a demo site's
# var/trial.env say.
AS_IN_PRODUCTION = SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(60))')" \
	ALLOWED_HOSTS=example.org CSRF_TRUSTED_ORIGINS= DEBUG=off HTTPS=on PROXIES=1 HSTS_SUBDOMAINS= HSTS_PRELOAD= \
	DATABASE_URL=sqlite://:memory: REDIS_URL=redis://127.0.0.1:6379/0

.DEFAULT_GOAL = help
.PHONY: help install run test compat check audit fuzz lock bench screenshots thumbnails-regenerate

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## Create .venv with all that run and test need (PYTHON=python3.12 picks the Python)

# If requirements changed, pip updates the environment. Without a stamp there is none yet or an
# incomplete one, and it is created from scratch.
define INSTALL
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "Python 3.11 or newer is needed, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	echo "Name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	exit 1; }
@if [ -e $(RUNNABLE) ] || [ -e $(INSTALLED) ]; then rm -f $(RUNNABLE) $(INSTALLED); \
	else echo "Creating .venv with $$($(PYTHON) --version)."; $(PYTHON) -m venv --clear .venv; fi
@echo "Installing what $(1) names, $$(grep -c '^[a-zA-Z]' $(1)) packages, which may take minutes."
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
@touch $@
@echo "Installed."
endef

$(RUNNABLE): requirements.txt
	$(call INSTALL,requirements.txt)

$(INSTALLED): requirements.txt requirements-dev.txt
	$(call INSTALL,requirements-dev.txt)

run: $(TO_RUN) ## Run the site with workers and queue, everything kept in var/ (PORT=8000)
	@exec $(BIN)/python -m thumbsite.demo.setup

test: install ## Run the tests on PostgreSQL and on SQLite, side by side (ARGS="-k name")
	$(BIN)/python -m tests.side_by_side $(ARGS)

compat: install ## Run what depends on Django on 6.0 and the newest Python there is (3.13 or 3.12)
	$(BIN)/python -m tests.compat $(ARGS)

check: install ## Check style, types, migrations, production settings and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@echo "manage.py makemigrations --check --dry-run"
	@$(AS_IN_PRODUCTION) $(BIN)/python manage.py makemigrations --check --dry-run
	@echo "manage.py check --deploy --fail-level WARNING"
	@$(AS_IN_PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/lint-imports

audit: install ## Look up known vulnerabilities of what the site runs on
	@$(BIN)/python -m tests.package_audit

fuzz: install ## Look for files that break inspection or rendering (ARGS="--minutes 5 --format PNG")
	@$(BIN)/python -m tests.fuzz $(ARGS)

# pip-compile pins for the Python and the system that it runs on; uv for all.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(ARGS)

lock: install ## Pin what the requirements*.in files name (ARGS=--upgrade raises all versions)
	$(LOCK) requirements.in --output-file requirements.txt
	$(LOCK) requirements-dev.in --output-file requirements-dev.txt
	$(LOCK) requirements-bench.in --output-file requirements-bench.txt

bench: install ## Measure speed and memory, or some sections of it (ARGS="pages web")
	$(BIN)/python -m benchmarks $(ARGS)

screenshots: install ## Take the pictures of the documents, in Chromium
	$(BIN)/python -m pytest -q tests/screenshots.py

thumbnails-regenerate: $(TO_RUN) ## Render all thumbnails again, fresh ones too (ARGS="--session NAME")
	$(BIN)/python manage.py regenerate_thumbnails --force $(ARGS)
