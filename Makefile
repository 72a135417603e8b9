# `make demo` and `make test` work on a fresh clone with nothing but Python (>= 3.11) and make.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data
# byte code is kept wherever this runs: processes of the tests would compile the package again and again
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test coverage docs lint format fuzz bench wheel qgis box field clean help

help:
	@echo "make demo   synthesise an unseen town, map it, score it (about 3 minutes after installation)"
	@echo "make test   the whole test suite"
	@echo "make coverage   the same, with the lines that it does not reach in build/coverage"
	@echo "make fuzz   the readers on changed files, for SECONDS (600), of TARGET (all)"
	@echo "make docs   the documentation site in build/site; broken links are errors"
	@echo "make lint   ruff, mypy --strict, import contracts"
	@echo "make qgis   the plugin for QGIS as dist/aftermap_toolbox.zip"
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

# the plugin for QGIS; nothing is compiled
qgis:
	mkdir -p dist && rm -rf dist/aftermap_toolbox.zip qgis/aftermap_toolbox/__pycache__
	cd qgis && $(PYTHON) -m zipfile -c ../dist/aftermap_toolbox.zip aftermap_toolbox

clean:
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache

FIELD := build/field
EVENTS := hurricane-harvey hurricane-michael mexico-earthquake midwest-flooding santa-rosa-wildfire
SHARED := ../shared/data
# the models of packages/aftermap-field, from nothing and ../shared/data, with siblings of both for every event: about three hours and a half on one core
field: .venv/.dev
	$(BIN)/python bench/backdrops.py build/backdrops
	for seed in 1 2; do $(BIN)/aftermap data synth -o build/synthetic-$$seed --scenes 100 --size 512 --seed $$seed || exit 2; done
	$(BIN)/aftermap data synth -o build/painted-banepa --scenes 48 --size 512 --seed 11 --backdrop build/backdrops/banepa.tif \
	  --footprints $(SHARED)/hotosm-banepa/footprints.geojson
	$(BIN)/aftermap data synth -o build/painted-dubai --scenes 120 --size 512 --seed 12 --backdrop $(SHARED)/dubai-landcover
	$(BIN)/aftermap data synth -o build/painted-ggaba --scenes 35 --size 512 --seed 13 --backdrop build/backdrops/ggaba \
	  --footprints $(SHARED)/oam-ggaba/labels.geojson
	for set in synthetic-1 synthetic-2 painted-banepa painted-dubai painted-ggaba; do \
	  $(BIN)/aftermap data split build/$$set --by random --fractions 0.9,0.1,0 || exit 2; done
	$(BIN)/aftermap train recipes/field-start.yaml -o build/field-start
	$(BIN)/aftermap data prepare xbd $(SHARED)/xbd-real -o $(FIELD)/real
	$(BIN)/aftermap data prepare xbd $(SHARED)/xbd-mexico -o $(FIELD)/mexico
	$(BIN)/aftermap data split $(FIELD)/mexico --by random --fractions 1,0,0
	cp -r build/synthetic-1 $(FIELD)/synthetic && $(BIN)/aftermap data split $(FIELD)/synthetic --by random --fractions 1,0,0
	for event in $(EVENTS); do \
	  unseen="data.manifests=[$(FIELD)/real/$$event.json,$(FIELD)/mexico,$(FIELD)/synthetic] data.exclude_events=[$$event]" && \
	  $(BIN)/aftermap data split $(FIELD)/real --by block --fractions 0.85,0.15,0 --hold-out $$event --out $(FIELD)/real/$$event.json && \
	  $(BIN)/aftermap train recipes/field-buildings.yaml $$unseen -o $(FIELD)/buildings-$$event && \
	  $(BIN)/aftermap train recipes/field-damage.yaml $$unseen -o $(FIELD)/damage-$$event && \
	  $(BIN)/aftermap train recipes/field.yaml $$unseen init_from=$(FIELD)/buildings-$$event/model \
	    second_from=$(FIELD)/damage-$$event/model -o $(FIELD)/field-$$event && \
	  $(BIN)/aftermap train recipes/field-one-date.yaml $$unseen init_from=$(FIELD)/buildings-$$event/model \
	    -o $(FIELD)/one-date-$$event || exit 2; done
	$(BIN)/aftermap data split $(FIELD)/real --by block --fractions 0.9,0.1,0
	for part in buildings damage one-date; do $(BIN)/aftermap train recipes/field-$$part.yaml -o $(FIELD)/$$part || exit 2; done
	$(BIN)/aftermap train recipes/field.yaml -o $(FIELD)/all
	$(BIN)/python bench/calibrate.py $(FIELD)/events '$(FIELD)/field-{event}/model' --write $(FIELD)/all/model
	$(BIN)/python bench/calibrate.py $(FIELD)/events '$(FIELD)/one-date-{event}/model' --write $(FIELD)/one-date/model
	$(BIN)/python bench/one_date.py $(FIELD)/events '$(FIELD)/one-date-{event}/model' --scenes 16 --write $(FIELD)/one-date/model
	rm -rf packages/aftermap-field/src/aftermap_field/model && cp -r $(FIELD)/all/model packages/aftermap-field/src/aftermap_field/model
	$(BIN)/aftermap export $(FIELD)/all/model --to openvino --precision int8 --execution bf16 --normalise outside --calibrate $(FIELD)/real \
	  --tiles $(FIELD)/real -o packages/aftermap-field/src/aftermap_field/model/exported/openvino-int8
	rm -rf packages/aftermap-field/src/aftermap_field_one_date/model && \
	  cp -r $(FIELD)/one-date/model packages/aftermap-field/src/aftermap_field_one_date/model
	$(BIN)/aftermap export $(FIELD)/one-date/model --to openvino --precision int8 --normalise outside --calibrate $(FIELD)/real \
	  --tiles $(FIELD)/real -o packages/aftermap-field/src/aftermap_field_one_date/model/exported/openvino-int8

# the model in the box, from nothing: about 8 minutes of synthesis and 80 of training on one core
box: .venv/.dev
	for seed in 1 2 3 4 5 6; do \
	  $(BIN)/aftermap data synth -o build/synthetic-$$seed --scenes 120 --size 512 --seed $$seed && \
	  $(BIN)/aftermap data split build/synthetic-$$seed --by random --fractions 0.88,0.12,0 || exit 2; \
	done
	$(BIN)/aftermap train recipes/box-teacher.yaml -o build/box-teacher
	$(BIN)/aftermap train recipes/box.yaml -o build/box
	rm -rf src/aftermap/box && cp -r build/box/model src/aftermap/box
	$(BIN)/aftermap data synth -o build/free-synthetic --scenes 60 --size 512 --seed 31
	$(BIN)/python bench/backdrops.py build/backdrops
	$(BIN)/aftermap data synth -o build/free-banepa --scenes 48 --size 512 --seed 11 --backdrop build/backdrops/banepa.tif \
	  --footprints $(SHARED)/hotosm-banepa/footprints.geojson
	$(BIN)/aftermap data synth -o build/free-ggaba --scenes 35 --size 512 --seed 13 --backdrop build/backdrops/ggaba \
	  --footprints $(SHARED)/oam-ggaba/labels.geojson
	$(BIN)/python bench/calibrate.py build/free src/aftermap/box --sets build/free-synthetic build/free-banepa build/free-ggaba \
	  --shares 313033,36860,29904,31560 --write src/aftermap/box
	$(BIN)/aftermap export box --to openvino --precision int8 --execution bf16 --normalise outside \
	  --calibrate build/synthetic-6 --tiles build/synthetic-6 -o src/aftermap/box/exported/openvino-int8
