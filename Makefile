# The two commands a newcomer needs are `make demo` and `make test`. Each does its own set-up.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help demo test flower flower-simulation bench faults simulate fuzz lint format firmware-test clean

help:
	@echo "make demo           train on digits with ten proplets and show how it goes"
	@echo "make test           lint, types and every test that builds no firmware"
	@echo "make flower         install Flower beside us, so that make test compares strategies with its"
	@echo "make flower-simulation  install its simulation as well, for bench/fleet.py --flower"
	@echo "make bench          what we cost, beside the least it could be and beside Flower"
	@echo "make faults         kill every process some hundred times; nothing may be lost"
	@echo "make simulate       run the coordinator through 100,000 seeded schedules of faults"
	@echo "make fuzz           give every decoder and both Wasm runtimes a million inputs each"
	@echo "make firmware-test  build the firmware and run it in native_sim and QEMU (needs a Zephyr workspace)"
	@echo "make clean          remove what the others made"

# Each set of dependencies is installed once, and again when pyproject.toml changes.
$(VENV)/installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=… to one"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing propeller-fl[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@

demo: $(VENV)/installed-demo
	$(BIN)/propeller-fl demo

# Some tests take minutes, most of them waiting: a worker that has none left takes some of another's.
# What builds firmware first, minutes of it, is left to firmware-test.
test: $(VENV)/installed-dev lint
	$(BIN)/pytest -n 5 --dist worksteal -m "not firmware"

# Flower's versions of what we need are not Flower's of everything: an environment of its own.
FLOWER := tests/learn/flower/requirements.txt
flower: .venv-flower/installed
.venv-flower/installed: $(FLOWER)
	@echo "installing Flower into .venv-flower"
	@test -x .venv-flower/bin/python || $(PYTHON) -m venv .venv-flower
	@.venv-flower/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(FLOWER)
	@touch $@

# Its simulation, which only `bench/fleet.py --flower` wants, and which is 80 MB more.
flower-simulation: .venv-flower/simulation
.venv-flower/simulation: .venv-flower/installed bench/flower-simulation.txt
	@echo "installing Flower's simulation into .venv-flower"
	@.venv-flower/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r bench/flower-simulation.txt
	@touch $@

# Flower is measured where `make flower` has put it.
bench: $(VENV)/installed-dev
	$(BIN)/python bench/run.py

# Some hundreds of SIGKILLs, floods and ten minutes of partition, side by side since most of it waits;
# about a quarter of an hour on two cores.
faults: $(VENV)/installed-dev
	PROPELLER_FAULTS=full $(BIN)/pytest tests/faults tests/cluster/test_nodes_die.py -n 6

simulate: $(VENV)/installed-dev
	PROPELLER_SIMULATION=full $(BIN)/pytest tests/simulation --timeout 7200

# Hours; PROPELLER_FUZZ_RUNS=10000 is a shorter one, `python -m tests.fuzz --help` has the rest.
fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.fuzz

# The same cases on a program of this machine and on an emulated Cortex-M. Without a Zephyr workspace
# every case is skipped, and says what is missing.
firmware-test: $(VENV)/installed-dev
	$(BIN)/pytest tests -m firmware
	$(BIN)/pytest hil_tests --board native_sim --board mps2_an385

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .venv-flower demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
