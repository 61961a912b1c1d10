# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where pip finds a CPU build of torch, where its default index has none: make demo TORCH_INDEX=<an index URL>
TORCH_INDEX ?=
READY := $(VENV)/ready
LONGTAKE := $(BIN)/longtake
# Tests of what makes and measures the models, and not of the program
TOOLS := tests/bench tests/recipes
# Their own environment, so that they are not among the audited packages
AUDIT := $(VENV)/audit
AUDIT_TOOLS := cyclonedx-bom==7.5.0 pip-audit==2.10.1

.PHONY: demo test test-tools test-browser lint audit check bench gpu-bundle

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "longtake needs Python 3.11 or newer; set PYTHON")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[torch,dev]'
	touch $@

demo: $(READY)
	mkdir -p demo
	$(LONGTAKE) extend examples/city.mp4 -o demo/city.mp4 --force --resolution 480p --seed 1 \
		--prompt "a city at night, the camera rises slowly" --new-frames 48 --inspect demo/city.png
	$(LONGTAKE) extend examples/toy.mp4 -o demo/toy.mp4 --force --endpoint 2.3 --seed 1 \
		--prompt "$$(cat examples/prompt.txt)" --new-frames 48 --inspect demo/toy.png
	$(BIN)/python examples/beside.py demo/city.mp4 examples/city_after.mp4 demo/city_beside.mp4
	$(BIN)/python examples/beside.py demo/toy.mp4 examples/toy_after.mp4 demo/toy_beside.mp4
	@echo
	@echo "demo/city.mp4         real footage, continued by ltxv-tiny for two seconds"
	@echo "demo/toy.mp4          a toy clip, continued by ltx2-tiny with sound for two seconds"
	@echo "demo/*.png            the frames on both sides of each joint"
	@echo "demo/*_beside.mp4     each result beside the frames that were really filmed or drawn next"
	@echo "Small models in the package stood in for the large ones, which need a GPU. To download those:"
	@echo "    $(LONGTAKE) models pull ltxv-13b-0.9.8-distilled    (for demo/city.mp4)"
	@echo "    $(LONGTAKE) models pull ltx-2.3                     (for demo/toy.mp4, with sound)"
	@echo "To see your own videos continued, run $(LONGTAKE) serve and open the address that it prints in a browser."

test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(TOOLS:%=--ignore=%)

test-tools: $(READY)
	$(BIN)/python -m pytest -n 2 --dist load $(TOOLS)

test-browser: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'browser and not soak' tests/browser

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: $(READY)
	@test -x $(AUDIT)/bin/pip-audit || { $(BIN)/python -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet $(AUDIT_TOOLS); } || true
	$(BIN)/python -m tests.audit $(AUDIT)/bin dist/sbom.json

check: lint test test-tools test-browser audit

bench: $(READY)
	$(BIN)/python -m bench

# A folder for a machine with a GPU and without a network; PYTHON_THERE is its version of Python
PYTHON_THERE ?= 3.12
gpu-bundle: $(READY)
	$(BIN)/python -m bench.gpu.bundle .gpu --python $(PYTHON_THERE)
