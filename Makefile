# Needs Python 3.11 or later, make and git; everything else is set up in .venv.
PYTHON ?= python3
BIN    := .venv/bin
SAMPLE := sample/crawl

.PHONY: run test test-services test-long check setup help
help:
	@echo "make setup                      install everything into .venv; the others do it first where it is missing"
	@echo "make run                        render a sample crawl and run the whole pipeline on it"
	@echo "make run CRAWL=DIR OUT=DIR      the same on your videos, OUT=out if not given; ARGS=\"--set NAME=VALUE ...\" for settings"
	@echo "make test                       the tests of everything that needs no service: at most ten minutes on two fast cores"
	@echo "make test-services              those with real servers, clusters, S3 and PostgreSQL"
	@echo "make test-long                  faults, fuzzing, attacks and clean installs: an hour or more"
	@echo "make check                      formatting, types and the direction of imports"

setup: .venv/ready
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or later is needed; {sys.executable} is {sys.version.split()[0]}. Name another: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (a few minutes and some gigabytes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@$(BIN)/python -c "import librosa; librosa.stft"  # compiles its functions once: the first run would take longer
	@touch $@

ifdef CRAWL
OUT ?= out
run: setup
	@$(BIN)/nmcl run "$(CRAWL)" --out "$(OUT)" $(ARGS)
else
OUT ?= sample/out
run: setup
	@echo "No CRAWL was given: this run uses a rendered sample crawl, which is no evidence of accuracy."
	@$(BIN)/nmcl sample $(SAMPLE)
	@$(BIN)/nmcl run $(SAMPLE) --out "$(OUT)" --set features.visual.extractor=efficientnet_lite0 --set features.acoustic.autoencoder.min_steps=300 $(ARGS)
endif

# Two files at once, each on one core: threads of both on the same cores wait for each other.
# A process that dies ends the run: after a restart, xdist waits forever for the rest of its file.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --max-worker-restart 0 --dist
BY_FILE := loadfile --no-loadscope-reorder

test: setup
	@$(PYTEST) $(BY_FILE) -m "not services and not long"

test-services: setup
	@$(PYTEST) $(BY_FILE) -m services

test-long: setup
	@NMCL_LONG=1 NMCL_MUTANTS=5000 $(PYTEST) worksteal -m long

check: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
