# `make demo` and `make test` work on a fresh clone with nothing but Python (>= 3.11) and make.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
# byte code is kept wherever this runs: processes of the tests would compile the package again and again
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test coverage docs lint format fuzz bench wheel box clean help

help:
	@echo "make demo   synthesise an unseen town, map it, score it (about 3 minutes after installation)"
	@echo "make test   the whole test suite"
	@echo "make coverage   the same, with the lines that it does not reach in build/coverage"
	@echo "make fuzz   the readers on changed files, for SECONDS (600), of TARGET (all)"
	@echo "make docs   the documentation site in build/site; broken links are errors"
	@echo "make lint   ruff, mypy --strict, import contracts"
	@echo "make bench  speed and memory of the map command (see docs/benchmarks.md)"

# what maps, scores, checks, prepares and synthesises: no PyTorch; byte code is made of what is used, which saves 100 MB
.venv/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable .
	touch $@

# what trains and exports, too
.venv/.train: .venv/.core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train]'
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/.core
	$(BIN)/aftermap demo

# as many processes as cores, 8 at most for their memory; long files begin first (tests/conftest.py)
TESTS ?= tests
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: .venv/.dev
	$(PYTEST) $(TESTS)

coverage: .venv/.dev
	$(PYTEST) --cov=aftermap --cov-report=term:skip-covered --cov-report=html:build/coverage \
	  --cov-report=xml:build/coverage.xml $(TESTS)

# readers of files that a stranger may send, on changed files: make fuzz SECONDS=600 TARGET=rasters SEED=7
SECONDS ?= 600
TARGET ?= all
SEED ?= 1

fuzz: .venv/.dev
	OMP_NUM_THREADS=1 AFTERMAP_BACKEND=torch $(BIN)/python tests/fuzz/run.py --target $(TARGET) --seed $(SEED) --seconds $(SECONDS)

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean
	@echo "open build/site/index.html"

lint: .venv/.dev
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix src tests bench
	$(BIN)/ruff format src tests bench

bench: .venv/.dev
	$(BIN)/python bench/map_scale.py
	$(BIN)/python bench/synth.py
	$(BIN)/python bench/score_memory.py

wheel: .venv/.dev
	$(BIN)/python -m build

clean:
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache

# the model in the box, from nothing: about 8 minutes of synthesis and 80 of training on one core
box: .venv/.train
	for seed in 1 2 3 4 5 6; do \
	  $(BIN)/aftermap data synth -o build/synthetic-$$seed --scenes 120 --size 512 --seed $$seed && \
	  $(BIN)/aftermap data split build/synthetic-$$seed --by random --fractions 0.88,0.12,0 || exit 2; \
	done
	$(BIN)/aftermap train recipes/box-teacher.yaml -o build/box-teacher
	$(BIN)/aftermap train recipes/box.yaml -o build/box
	rm -rf src/aftermap/box && cp -r build/box/model src/aftermap/box
	$(BIN)/aftermap export box --to openvino --precision int8 --execution bf16 --normalise outside \
	  --calibrate build/synthetic-6 --tiles build/synthetic-6 -o src/aftermap/box/exported/openvino-int8
