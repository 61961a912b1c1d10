# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Where pip finds a CPU build of torch, where its default index has none: make demo TORCH_INDEX=<an index URL>
TORCH_INDEX ?=
READY := $(VENV)/ready
LONGTAKE := $(BIN)/longtake
# Their own environment, so that they are not among the audited packages
AUDIT := $(VENV)/audit
AUDIT_TOOLS := cyclonedx-bom==7.5.0 pip-audit==2.10.1

.PHONY: demo test lint audit check bench

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "longtake needs Python 3.11 or newer; set PYTHON")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[torch,dev]'
	touch $@

demo: $(READY)
	mkdir -p demo
	$(LONGTAKE) extend examples/clip.mp4 -o demo/longer.mp4 --force --resolution 480p --seed 1 \
		--prompt "$$(cat examples/prompt.txt)" --new-frames 24 --inspect demo/joint.png
	@echo "The longer video is demo/longer.mp4; the frames across its joint are in demo/joint.png."

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: $(READY)
	@test -x $(AUDIT)/bin/pip-audit || { $(BIN)/python -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet $(AUDIT_TOOLS); } || true
	$(BIN)/python -m tests.audit $(AUDIT)/bin dist/sbom.json

check: lint test audit

bench: $(READY)
	$(BIN)/python -m bench
