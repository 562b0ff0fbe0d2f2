# Everything a developer does, by name: `make help` lists it.
#
# Works from any folder that holds a clone, with GNU make, a POSIX shell and Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
MATERIAL ?= $(ONNXSMITH_MATERIAL)

# The one version of PyTorch that is tested; `make constraints` keeps to it.
TORCH_VERSION := 2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
INSTALL := $(PIP) install --constraint constraints.txt
# Builds with the pinned setuptools of the environment instead of downloading the newest.
EDITABLE := $(INSTALL) --no-build-isolation --editable

# All but what .installed-frameworks installs by itself.
ALL_EXTRAS := sklearn,torch,images,tensorflow,keras,tflite,lightgbm,catboost,huggingface,tensorboard,ray,dev

# Those that need nothing but this repository.
BENCHES := startup quickstart optimize_memory optimize_scaling convert_memory frontends fusions \
	gradients recurrent train train_networks

# An interpreter with the peers (benchmarks/optimize.py lists them), and where models are put.
PEERS ?= python3
MODELS ?= build/models

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart test test-frameworks run-frameworks test-real test-collections lint format bench bench-models docs dist constraints clean

help:
	@echo "make quickstart   train, check, optimize, quantize and report a model on built-in data"
	@echo "make test         run the ordinary tests (installs PyTorch and scikit-learn's converter)"
	@echo "make test-frameworks  run the tests of the other frontends, in an environment of its own that"
	@echo "                  holds TensorFlow, Keras, JAX, the boosting libraries and transformers;"
	@echo "                  with MATERIAL=DIR also those on real models"
	@echo "make test-real    run the tests on real models and data; MATERIAL=DIR says where they are"
	@echo "make test-collections  optimize every graph of the collections under MATERIAL=DIR, and those of"
	@echo "                  the onnx package, with every preset, and count what comes out wrong"
	@echo "make lint         check style and types"
	@echo "make format       mend the style"
	@echo "make bench        run the benchmarks that need nothing but this repository"
	@echo "make bench-models those on real architectures beside other tools: PEERS=PYTHON has the"
	@echo "                  tools, MODELS=DIR gets the architectures, MATERIAL=DIR has data"
	@echo "make docs         write the generated pages of docs/reference anew"
	@echo "make dist         build the wheel and the source archive into dist/"
	@echo "make constraints  renew constraints.txt with today's newest versions"
	@echo "make clean        remove what these targets made, the environment included"
	@echo
	@echo "PYTHON=$(PYTHON)  the interpreter to start from, 3.11 or newer"
	@echo "VENV=$(VENV)      where the environment is made (a path without spaces)"
	@echo "TORCH_INDEX=$(TORCH_INDEX)      package index with PyTorch's CPU builds, if you want those"

quickstart: $(VENV)/.installed
	$(BIN)/onnxsmith quickstart --out quickstart

test: $(VENV)/.installed-dev
	$(BIN)/pytest --ignore=tests/frameworks -m "not real and not gpu"

test-real: $(VENV)/.installed-dev
	$(if $(MATERIAL),ONNXSMITH_MATERIAL="$(MATERIAL)" )$(BIN)/pytest tests/real -m "not gpu" --durations=15

test-collections: $(VENV)/.installed-dev
	$(BIN)/python -P tests/real/judging.py -v $(MATERIAL)/real/graphs/*.tar.gz onnx

test-frameworks:
	@$(MAKE) --no-print-directory VENV="$(VENV)-frameworks" run-frameworks

run-frameworks: $(VENV)/.installed-frameworks
	$(if $(MATERIAL),ONNXSMITH_MATERIAL="$(MATERIAL)" )$(BIN)/pytest tests/frameworks \
		tests/docs/test_pages.py -m "not gpu$(if $(MATERIAL),, and not real)" --durations=15

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.installed-dev
	@for script in $(BENCHES); do \
		echo "== $$script"; $(BIN)/python -P "benchmarks/$$script.py" || exit 1; \
	done

bench-models: $(VENV)/.installed-dev
	$(PEERS) -P benchmarks/sources/architectures.py "$(MODELS)"
	$(BIN)/python -P benchmarks/optimize.py "$(MODELS)" --peers $(PEERS)
	$(BIN)/python -P benchmarks/quantize.py "$(MODELS)"
	$(BIN)/python -P benchmarks/quantize_accuracy.py "$(MATERIAL)/real"
	$(BIN)/python -P benchmarks/calibrate_memory.py "$(MODELS)/resnet50.onnx" \
		"$(MATERIAL)/real/datasets/imagenet_sample/images"

docs: $(VENV)/.installed-dev
	$(BIN)/python -P docs/generate.py

dist: $(VENV)/.installed-dev
	$(BIN)/python -P -m build --no-isolation --outdir dist

# The stamps say when the environment was last brought up to date; a second run finds them newer
# than what they depend on and does nothing.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "onnxsmith needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "install one and name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make environments: its venv module is missing" >&2; \
		echo "install it; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "making the environment $(VENV)"
	@$(PYTHON) -m venv "$(VENV)"
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing onnxsmith and what it needs (a minute or two)"
	@$(INSTALL) setuptools
	@$(EDITABLE) "."
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing PyTorch $(TORCH_VERSION) and the test tools (a few minutes)"
	@$(if $(TORCH_INDEX),,echo "  PyTorch's ordinary Linux build brings CUDA along; TORCH_INDEX=URL takes a CPU build")
	@$(INSTALL) $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") "torch==$(TORCH_VERSION)"
	@$(EDITABLE) ".[sklearn,torch,images,dev]"
	@touch $@

# jax2onnx asks for the CPU runtime, whose files are those of the GPU runtime that is here; xgboost
# for a GPU library of half a gigabyte that a CPU has no use for. Both work without.
$(VENV)/.installed-frameworks: $(VENV)/.installed-dev
	@echo "installing TensorFlow, Keras, JAX, LightGBM, CatBoost, XGBoost and transformers (4 GB)"
	@$(EDITABLE) ".[$(ALL_EXTRAS)]"
	@$(INSTALL) jax flax equinox
	@$(INSTALL) --no-deps jax2onnx xgboost
	@touch $@

# In an environment of its own, so that nothing installed by hand gets in. What PyTorch's CUDA
# builds pull in is pinned by PyTorch itself. The CPU and the GPU runtime share their version.
constraints: $(VENV)/.made
	@rm -rf build/constraints && mkdir -p build
	@$(BIN)/python -m venv build/constraints
	@build/constraints/bin/python -m pip --disable-pip-version-check --no-input -qq install \
		$(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") \
		"torch==$(TORCH_VERSION)" --editable ".[$(ALL_EXTRAS)]" jax flax equinox
	@build/constraints/bin/python -m pip --disable-pip-version-check --no-input -qq install \
		--no-deps jax2onnx xgboost
	@{ sed -n '/^#/p' constraints.txt; \
		build/constraints/bin/python -m pip --disable-pip-version-check freeze --all \
			--exclude-editable --exclude pip --exclude onnxsmith \
		| sed -e '/^nvidia-/d' -e '/^cuda-/d' -e '/^triton==/d' -e 's/+[a-z0-9.]*$$//' \
			-e 's/^onnxruntime-gpu==\(.*\)/onnxruntime==\1\n&/'; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/constraints
	@echo "wrote constraints.txt; now run: make lint test"

clean:
	rm -rf "$(VENV)" "$(VENV)-frameworks" build dist quickstart runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf src/onnxsmith.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
