# Fermata: what can be done here. `make demo` and `make test` install what is missing.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long fuzz check build bench bench-peers format lint clean

SWIFT_SOURCES := Package.swift Sources Tests Examples/StreamingExample/Package.swift Examples/StreamingExample/Sources \
  Benchmarks/Package.swift Benchmarks/Sources
# The Python virtual environment with the programs that `make bench` measures beside ours, when there is one.
PEERS := $(abspath $(if $(PEERS),$(PEERS),$(wildcard Benchmarks/.venv)))
# Tests are run as they will be used: optimised. -enable-testing lets them see what is internal; a build folder of their
# own keeps the two kinds of build from undoing each other.
TEST_FLAGS := -c release -Xswiftc -enable-testing --scratch-path .build/tests
# Damaged files are read with every access checked.
SANITIZE := address
FUZZ_FLAGS := -c release $(if $(SANITIZE),--sanitize=$(SANITIZE)) --scratch-path .build/fuzz$(SANITIZE)
RUN_FLAGS := $(TEST_FLAGS) --skip-build $(if $(FILTER),--filter '$(FILTER)')

help: ## list the targets
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(MAKEFILE_LIST) | while read -r name text; do printf '  %-11s %s\n' "$$name" "$$text"; done

demo: ## train a hybrid model on real text for two minutes, then stream from it (TEXT=path for your own text)
	@Scripts/setup.sh demo
	swift build -c release --product fermata
	@Scripts/demo.sh $(if $(TEXT),'$(TEXT)')

test: ## build and run all tests (FILTER=pattern for some of them)
	@Scripts/setup.sh
	swift build --build-tests $(TEST_FLAGS)
	swift test $(RUN_FLAGS)

test-long: ## all tests, those that take minutes included (contexts of 65,536 tokens, streams of 1,000,000)
	@Scripts/setup.sh
	swift build --build-tests $(TEST_FLAGS)
	FERMATA_LONG_TESTS=1 swift test --no-parallel $(RUN_FLAGS)

fuzz: ## read damaged files of every kind (ROUNDS=1000000 of them, TARGET=name, FIRST=number, SANITIZE= for none)
	@Scripts/setup.sh
	swift build $(FUZZ_FLAGS) --product FermataFuzz
	$$(swift build $(FUZZ_FLAGS) --show-bin-path)/FermataFuzz $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(FIRST),--first $(FIRST)) \
	  $(if $(TARGET),--target '$(TARGET)')

check: ## format, build and the quick tests, cheapest first
	@Scripts/setup.sh
	@$(MAKE) --no-print-directory lint
	swift build --build-tests $(TEST_FLAGS)
	swift test $(RUN_FLAGS)

build: ## build the library and the fermata command
	@Scripts/setup.sh
	swift build -c release

bench: build ## measure speed and memory beside the peers that are installed (ROW='name name' for some, ROW=--list)
	swift build -c release --package-path Benchmarks
	cd Benchmarks && .build/release/Bench $(if $(PEERS),--peers '$(PEERS)') $(ROW)

bench-peers: ## install the peers (PyTorch and Transformers, from PyPI) into Benchmarks/.venv
	python3 -m venv Benchmarks/.venv
	Benchmarks/.venv/bin/pip install --quiet -r Benchmarks/peers/requirements.txt

lint: ## say where the sources do not follow .swift-format
	swift format lint --strict --recursive --parallel $(SWIFT_SOURCES)
	@Scripts/lint-documentation.sh

format: ## rewrite the sources to follow .swift-format
	swift format --in-place --recursive --parallel $(SWIFT_SOURCES)

clean: ## remove what was built
	rm -rf .build Examples/StreamingExample/.build Benchmarks/.build
