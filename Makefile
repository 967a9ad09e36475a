# `make` lists the verbs. Everything is installed into .venv, exactly as the lock files say.
BIN := .venv/bin
PYTEST := $(BIN)/pytest -q -n auto --dist loadfile
LOCK := $(BIN)/uv pip compile -q pyproject.toml --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--generate-hashes --no-annotate --custom-compile-command "make lock"

.PHONY: help setup runtime demo fmt check test test-slow test-all coverage golden bench docs sbom fuzz fuzz-readers kills mutants image-test mhub-submission mhub-test-data lock

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

setup: ## private environment with the development tools
	@requirements/setup.sh dev

runtime:
	@requirements/setup.sh runtime

demo: runtime ## write the example patient and run it; results in demo_output/
	$(BIN)/fmcib demo demo_output

fmt: setup ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: setup ## the fast tests
	$(PYTEST) -m "not slow and not gpu"

test-slow: setup ## the longer tests, about 8 minutes on two cores; servers and a browser where they are installed
	$(PYTEST) -m "slow and not gpu"

test-all: setup ## fast, slow, and where there is a GPU those too
	$(PYTEST)

coverage: setup ## branches of fmcib_module that fast and longer tests take; lists the lines they miss
	@mkdir -p build/coverage
	$(PYTEST) -m "not gpu" --cov --cov-report=json --cov-report=term

golden: setup ## compare with the published implementation
	$(PYTEST) -k golden

bench: setup ## time ours against the published package, about 15 minutes; see benchmarks/README.md
	$(BIN)/python -m benchmarks.all

docs: setup ## the documentation as a site, in build/site
	$(BIN)/python -m docs.make_reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

sbom: setup ## bills of materials (CycloneDX) of what is shipped, in build/sbom; IMAGE_ROOT=FOLDER for a mounted image's Debian part
	@mkdir -p build/sbom
	for name in runtime batch; do $(BIN)/cyclonedx-py requirements requirements/$$name.lock --of JSON -o build/sbom/$$name.cdx.json; done
	$(if $(IMAGE_ROOT),$(BIN)/python -m requirements.dpkg_sbom $(IMAGE_ROOT) build/sbom/image.cdx.json)

fuzz: setup ## 20,000 mutated studies through the chain, hours; FUZZ="--studies 500" for fewer
	$(BIN)/python -W ignore -m tests.fuzz $(FUZZ)

fuzz-readers: setup ## ten minutes of coverage-guided fuzzing per reader
	for target in rtstruct seg csv json markups fcsv; do $(BIN)/python -W ignore -m tests.fuzz.guided $$target || exit 1; done

kills: setup ## kill runs and batches at 100 random moments each and compare what resumed ones give, an hour; KILLS="--of run"
	$(BIN)/python -m tests.faults.kills $(KILLS)

mutants: setup ## change the code of geometry, centroids, patches and SR 4,300 times and see whether tests notice, hours
	rm -rf build/mutants && mkdir -p build/mutants
	git archive HEAD | tar x -C build/mutants
	sed -i '/^@lru_cache/d' build/mutants/fmcib_module/*/*.py  # what is decorated is not mutated
	cd build/mutants && $(abspath $(BIN))/mutmut run $(MUTANTS) && $(abspath $(BIN))/mutmut results

image-test: setup ## as root: build the container image and run it for real; DEVICE=gpu with torch, BATCH=1 with Ray in it
	tests/image/run.sh $(or $(DEVICE),cpu) $(or $(BATCH),0)

mhub-submission: ## the folder for MHub's models repository, in build/mhub
	mhub/submission.sh build/mhub

mhub-test-data: setup ## a sample and a reference per workflow, in build/mhub_test_data; WEIGHTS=fmcib for a submission
	$(BIN)/python -m tests.mhub.samples build/mhub_test_data --weights $(or $(WEIGHTS),mini)

lock: setup ## write the lock files again, keeping pins that still fit
	$(LOCK) --all-extras --group dev -o requirements/dev.lock
	$(LOCK) -c requirements/dev.lock --extra pacs -o requirements/runtime.lock
	$(LOCK) -c requirements/dev.lock --extra pacs --extra batch -o requirements/batch.lock
