# Everything runs from .venv, which `make setup` builds; only Python 3.11 or newer and make are needed beforehand.

# The first Python here that is new enough; without one, `python3` says which it is.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)
IN_VENV = .venv/bin/python -m

.PHONY: run setup develop servers stop test check crash clock bench seed shell screenshots

run:  ## servers, demo data, web, worker, beat on http://localhost:8000 (PORT=8001 make run; STRIPE=double)
	@$(PYTHON) -m launch run

setup:  ## build .venv with the pinned packages
	@$(PYTHON) -m launch setup

develop:  ## the same, with what tests and checks need
	@$(PYTHON) -m launch setup --dev

servers:  ## only PostgreSQL and Valkey, left running
	@$(PYTHON) -m launch servers

stop:  ## stop what `make servers` started
	@$(PYTHON) -m launch stop

test: develop  ## all tests; TESTS="tests/launch -k port" for some
	@$(IN_VENV) pytest -n 2 --dist loadgroup $(TESTS)

check: develop  ## what CI checks beside the tests
	@$(IN_VENV) ruff check .
	@$(IN_VENV) ruff format --check .
	@$(IN_VENV) mypy
	@.venv/bin/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	@.venv/bin/python manage.py makemigrations --check --dry-run

crash: develop  ## a billing run of 2,000 killed twenty times; 4,000 tracks under workers that are killed
	@CRASH_CUSTOMERS=2000 $(IN_VENV) pytest tests/workers/test_killed_run.py -q
	@TRACKS=500 $(IN_VENV) pytest tests/hot/test_processes.py -q

clock: develop  ## 300 customers over five years
	@CLOCK_CUSTOMERS=300 CLOCK_MONTHS=60 $(IN_VENV) pytest tests/stories/test_five_years.py -q

bench: develop  ## side-by-side measurements
	@$(IN_VENV) bench

seed: servers  ## migrate and fill an empty database with the demo world
	@.venv/bin/python manage.py migrate --noinput
	@.venv/bin/python manage.py seed_demo --if-empty

shell: servers  ## Django's shell
	@.venv/bin/python manage.py shell

screenshots: develop  ## pictures of the pages, into docs/
	@$(IN_VENV) tests.screenshots
