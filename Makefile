# Two commands: `make run` and `make test`. Each does all its own set-up on a fresh Debian machine with Python 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# In how many processes the tests run; 0: in pytest's own.
PROCESSES ?= 2
# For how many seconds the soak goes on: it begins first, and has one of the processes until it ends.
SOAK ?= 30

.PHONY: run test tested quick lint bench peers deb clean

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import ensurepip' || { apt-get update --quiet && apt-get install --yes --quiet python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

run: $(VENV)/ready
	sh boot/try-it $(BIN)/ekiden

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/mypy

quick: $(VENV)/ready lint
	$(BIN)/pytest -m 'not slow'

test:
	sh tests/in-the-open make tested PYTHON=$(PYTHON) PROCESSES=$(PROCESSES) SOAK=$(SOAK)

tested: $(VENV)/ready peers lint
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder --soak-seconds $(SOAK)

peers:
	sh tests/install-peers

bench: $(VENV)/ready peers
	$(BIN)/python -m bench

deb: $(VENV)/ready
	sh packaging/build-deb

clean:
	rm -rf $(VENV) home build dist
