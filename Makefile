# make demo | test | lint | bench | claims | conformance | fuzz | docs | oracles: each does its own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo
CLAIMS := .claims

.PHONY: help setup demo test lint bench claims claims-speech conformance fuzz kill docs oracles peers clean

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/  /'

setup: $(VENV)/.installed ## create .venv with nnaq, all extras and the developer tools

$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	@test -d nnaq/kernels -a -d nnaq/passes || { echo "nnaq/kernels and nnaq/passes must be symbolic links; clone again with 'git clone -c core.symlinks=true'"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nnaq needs Python 3.11 or newer, found $$($(PYTHON) --version); run 'make PYTHON=python3.11 setup'"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c .ci/constraints.txt -e '.[all]' --group dev
	touch $@

demo: setup ## lower a recogniser and see words come out, then lower a trained voice detector
	mkdir -p $(DEMO)
	$(BIN)/nnaq lower rnnt --target edge8 --calibrate examples/speech/calibrate \
	    --evaluate examples/speech/evaluate -o $(DEMO)/words --force
	$(BIN)/nnaq transcribe $(DEMO)/words examples/speech/evaluate/*.flac
	$(BIN)/python examples/demo_data.py $(DEMO)
	$(BIN)/nnaq lower $(DEMO)/silero_vad_16k_sequence.onnx --target edge8 --recipe silero_vad \
	    --calibrate $(DEMO)/calibrate --evaluate $(DEMO)/evaluate \
	    --metric 'decision:speech_probs>0.5' -o $(DEMO)/out --force

test: setup ## all tests; those on the real voice detector skip where it cannot be fetched
	-$(BIN)/python examples/demo_data.py $(DEMO)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## formatting, lint, layers and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

bench: setup ## speed, as ratios to named peers in the same run
	$(BIN)/python examples/demo_data.py $(DEMO)
	$(BIN)/python benchmarks/silero_speed.py $(DEMO)/silero_vad_16k_sequence.onnx $(DEMO)/calibrate
	$(BIN)/python benchmarks/start_up.py $(DEMO)
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/two_threads.py
	$(BIN)/python benchmarks/packed.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/codebooks.py
	$(BIN)/python benchmarks/render.py

claims: setup ## what training wins, on AN4: make claims DATA=AN4; resumable, hours
	for part in float tune schemes awareness write; do \
	    $(BIN)/python benchmarks/claims.py $$part --data $(DATA) --work $(CLAIMS) || exit 1; done
	$(BIN)/python benchmarks/render.py

claims-speech: setup ## what encoders and bits win in recognition: make claims-speech DATA=AN4; resumable, hours
	for seed in 0 1 2; do for model in rnnt convrnnt; do \
	    out=$(CLAIMS)/$$model-$$seed; test -f $$out/weights.safetensors || \
	    $(BIN)/nnaq train --task speech --model $$model --data $(DATA) --set training.seed=$$seed -o $$out \
	        $$(test -d $$out && echo --resume) || exit 1; done; done
	for seed in 0 1 2; do out=$(CLAIMS)/wide-$$seed; test -f $$out/weights.safetensors || \
	    $(BIN)/nnaq train --task speech --model rnnt --data $(DATA) --set training.seed=$$seed -o $$out \
	        --set 'options.size={hidden=352,layers=2,reduction=1,joined=320}' \
	        $$(test -d $$out && echo --resume) || exit 1; done
	for part in convrnnt gq awareness s8bqat; do \
	    $(BIN)/python benchmarks/claims_speech.py $$part --data $(DATA) --work $(CLAIMS)/speech --float \
	        'S=$(CLAIMS)/rnnt-{seed}' 'C=$(CLAIMS)/convrnnt-{seed}' 'M=$(CLAIMS)/wide-{seed}' || exit 1; done
	$(BIN)/python benchmarks/claims_speech.py write --work $(CLAIMS)/speech
	$(BIN)/python docs/generate.py

conformance: setup ## golden vectors of outside runtimes, value by value, and the page about them
	$(BIN)/python benchmarks/conformance.py

fuzz: setup ## 10,000 hostile files of every kind; findings are saved in .fuzz: make fuzz CASES=500 SEED=7
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --cases $(or $(CASES),10000) --seed $(or $(SEED),0)

kill: setup ## a lowering killed at 20 random moments
	NNAQ_KILLS=20 $(BIN)/python -m pytest tests/cli/test_killed.py

docs: setup ## regenerate the generated pages of docs/
	$(BIN)/python docs/generate.py

oracles: setup ## environments of the outside oracles, for `pytest -m oracle`
	$(BIN)/python tests/oracles/generate.py --setup

peers: setup ## other quantisers on the same models: make peers ENCODER=pretrained.pt DATA=AN4 NOISE=kitchen.flac
	$(BIN)/python examples/demo_data.py $(DEMO)
	$(BIN)/python benchmarks/peers/run.py --detector $(DEMO)/silero_vad_16k_sequence.onnx \
	    --encoder $(ENCODER) --data $(DATA) --noise $(NOISE)

clean: ## remove what the targets made
	rm -rf $(VENV) $(DEMO) .fuzz .oracles .peers build dist *.egg-info
