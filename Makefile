# `make` builds .venv with pinned versions; `make demo` and `make test` need nothing else.
# Another interpreter: make PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: install demo test check clean help
install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "scrapray needs Python 3.11 or newer: there is no $(PYTHON) here; name one with make PYTHON=/path/to/python3"; exit 2; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "scrapray needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another with make PYTHON=/path/to/python3"; exit 2; } >&2
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null || { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; } >&2
	@echo 'Installing pinned versions into .venv: once, a few minutes, about 7 GB on Linux (torch with CUDA).'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

demo: $(INSTALLED)  ## audit four drawn truck loads in 4K, from archive to tables and pages, in ./demo
	rm -rf demo
	$(BIN)/scrapray draw demo/archive --loads 4 --frames 4 --seed 1
	$(BIN)/scrapray index demo/archive demo/manifest --config demo/archive/audit.toml
	@echo '$(BIN)/scrapray audit demo/manifest demo/lake --model demo --config demo/archive/audit.toml'
	@$(BIN)/scrapray audit demo/manifest demo/lake --model demo --config demo/archive/audit.toml || [ $$? -eq 3 ]
	$(BIN)/scrapray report demo/lake --date 2026-11-20 --out demo/report
	@echo
	@echo 'Two of the loads were drawn with spray cans, which have the highest severity: an audit that finds them ends'
	@echo 'with exit code 3, so that a scheduler can call somebody. To look at what was found, open demo/report/index.html.'
	@echo 'What was really drawn is in demo/archive/truth.json, the frames are below demo/archive/north-yard. README.md says'
	@echo 'how to audit an archive of your own.'

# In two processes, since much of a test is waiting.
test: check  ## lint, types and all tests but the slow ones
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

check: $(INSTALLED)  ## lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:  ## remove the environment, the demo and all caches
	rm -rf .venv demo build scrapray.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

help:  ## this list
	@echo 'make         build .venv with pinned versions'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf '%-12s %s\n' "$$target" "$$text"; done
