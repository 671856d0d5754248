# Everything is built in one profile: llama.cpp takes minutes to compile, and
# clippy, the tests, the docs and the program share it only within a profile.
# Tests use release as well because they run real inference.
PROFILE := release
MODEL := models/SmolLM2-135M-Instruct.Q4_1.gguf
DELAYLINE := $(or $(CARGO_TARGET_DIR),target)/$(PROFILE)/delayline

# What `make demo` and `make bench` run; override on the command line.
MEMORY ?= 84MiB
PROMPT ?= Explain in two sentences what a computer's memory is for.
FIBER ?= fiber:length=10000km,rate=20Gbit/s
FIBER_OUT := $(or $(CARGO_TARGET_DIR),target)/demo-fiber.txt
BUDGETS ?= 84MiB,90MiB,110MiB

# Kernels for this machine, the same in every command here, so that llama.cpp is
# compiled once. `cargo build` alone makes a program for any machine, which is slower.
export RUSTFLAGS ?= -C target-cpu=native

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: setup
setup: ## install what the build needs, where it is missing
	@scripts/setup

.PHONY: model
model: setup ## fetch the demo model (98 MB)
	@scripts/fetch-demo-model

.PHONY: build
build: setup ## build the program
	cargo build --locked --profile $(PROFILE) --package delayline-cli

.PHONY: test
test: model ## set up, then run every check and test
	cargo fmt --all --check
	cargo clippy --locked --profile $(PROFILE) --workspace --all-targets -- -D warnings
	cargo run --locked --profile $(PROFILE) --package xtask -- check
	cargo test --locked --profile $(PROFILE) --workspace
	scripts/test-clients
	scripts/test-python
	scripts/test-page
	cargo package --quiet --locked --offline --workspace --no-verify --allow-dirty
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --profile $(PROFILE) --workspace --no-deps

.PHONY: demo
demo: model build ## run a model in less memory than its size
	$(DELAYLINE) run $(MODEL) --memory $(MEMORY) --ctx 256 -n 64 --temp 0 -p "$(PROMPT)"

.PHONY: demo-fiber
demo-fiber: model build ## run a model that circulates in 10,000 km of fiber, and the same from flash
	$(DELAYLINE) run $(MODEL) --memory $(MEMORY) --ctx 256 -n 64 --temp 0 -p "$(PROMPT)" --medium $(FIBER) | tee $(FIBER_OUT)
	$(DELAYLINE) run $(MODEL) --memory $(MEMORY) --ctx 256 -n 64 --temp 0 -p "$(PROMPT)" | cmp - $(FIBER_OUT)
	@echo "the answer from flash is the same, byte for byte"

.PHONY: bench
bench: model build ## compare memory budgets, and llama.cpp's mmap, in one run
	$(DELAYLINE) bench $(MODEL) --ctx 256 --budgets $(BUDGETS) --baseline mmap

.PHONY: dist
dist: ## build what runs on other machines: a folder and an archive (minutes for each level)
	@scripts/setup dist
	@scripts/fetch-demo-model
	scripts/dist $(LEVELS)
	$(if $(LEVELS),,scripts/test-dist)

.PHONY: test-dist
test-dist: ## try what `make dist` built as other processors would run it
	@scripts/setup dist
	scripts/test-dist

.PHONY: fuzz
fuzz: model build ## send the server many more odd requests than the tests do
	bench/fuzz $(EXAMPLES)

.PHONY: check-deep
check-deep: model ## sanitizers, fuzzers, a long simulation: what is too slow for the tests (an hour)
	scripts/check-deep $(STEPS)

.PHONY: clean
clean: ## remove what was built, but not the models
	cargo clean
