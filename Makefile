# Fermata: what can be done here. `make demo` and `make test` install what is missing.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long check build format lint clean

SWIFT_SOURCES := Package.swift Sources Tests Examples/StreamingExample/Package.swift Examples/StreamingExample/Sources
# Tests are run as they will be used: optimised. -enable-testing lets them see what is internal; a build folder of their
# own keeps the two kinds of build from undoing each other.
TEST_FLAGS := -c release -Xswiftc -enable-testing --scratch-path .build/tests
RUN_FLAGS := $(TEST_FLAGS) --skip-build $(if $(FILTER),--filter '$(FILTER)')

help: ## list the targets
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(MAKEFILE_LIST) | while read -r name text; do printf '  %-9s %s\n' "$$name" "$$text"; done

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

check: ## format, build and the quick tests, cheapest first
	@Scripts/setup.sh
	@$(MAKE) --no-print-directory lint
	swift build --build-tests $(TEST_FLAGS)
	swift test $(RUN_FLAGS)

build: ## build the library and the fermata command
	@Scripts/setup.sh
	swift build -c release

lint: ## say where the sources do not follow .swift-format
	swift format lint --strict --recursive --parallel $(SWIFT_SOURCES)

format: ## rewrite the sources to follow .swift-format
	swift format --in-place --recursive --parallel $(SWIFT_SOURCES)

clean: ## remove what was built
	rm -rf .build Examples/StreamingExample/.build
