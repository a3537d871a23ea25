# `make demo` runs the demo study, `make test` the tests; both make the environment in .venv first.
# On the machine: Python 3.11, a C compiler, make.
PYTHON ?= python3.11
CORES ?= $(shell nproc)
# lines that the tests run, of programs that they start only what runs in their own process; COVERAGE= leaves it out
COVERAGE ?= --cov --cov-report=term
TOOL ?= apptainer
VENV := .venv
BIN := $(VENV)/bin
LOCKS := envs/lammps.lock envs/voxels.lock envs/torch.lock envs/workflow.lock
SOURCES := pyproject.toml setup.py $(wildcard calandria/*/*.c calandria/*/*.h)
BUILT = build *.egg-info calandria/*/*.so $(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONNOUSERSITE = 1
# programs are many and short: each would compile torch and pandas again
unexport PYTHONDONTWRITEBYTECODE
# one thread a job: the workflow itself keeps the cores busy
export OMP_NUM_THREADS ?= 1

# an environment that was killed while it was made is made again
make_venv = ($(BIN)/python -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' && $(BIN)/python -m pip --version) \
	>/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)

.PHONY: demo test test-pythons lint sanitize format install venv images clean distclean help

help:
	@echo "make demo    run the demo study; the report is results/demo/report/index.html"
	@echo "make test    run all tests"
	@echo "make test-pythons  run the unit tests that need no torch on Python 3.12 and 3.13, where they are"
	@echo "make lint    check style, imports, types and rules"
	@echo "make sanitize  run the C code's tests under address and undefined-behaviour sanitizers"
	@echo "make format  format all code"
	@echo "make images  build the container images, by TOOL=apptainer, docker, podman or buildah"
	@echo "make clean   delete the environment and what was built; results, logs and Snakemake's notes of them stay"
	@echo "make distclean  as clean, and after a question (or with CONFIRM=yes) results, logs and notes, too"

demo: $(VENV)/.runtime
	$(BIN)/snakemake --cores $(CORES) --quiet rules host
	@echo "the demo study is complete; open results/demo/report/index.html"

test: $(VENV)/.development
	$(BIN)/pytest -n $(CORES) --dist worksteal $(COVERAGE)

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/python envs/write_locks.py --check
	$(BIN)/python -m workflow_scripts.study.write_schema --check
	@if git grep -nIP '(?<![\w.<>{}~-])/(?:work|home|root|Users|mnt|scratch)/\w' -- . ':!Makefile'; then echo "error: these lines name places of one machine"; exit 1; fi

test-pythons:
	.ci/pythons

sanitize: $(VENV)/.development
	.ci/sanitize $(BIN)/python

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# all is compiled for those who use this environment and may not write into it; what is for another Python cannot be, and need not
install: $(VENV)/.runtime
	$(BIN)/python -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null || true

images:
	containers/build.py --tool $(TOOL)

venv:
	$(make_venv)

# half of the time would go into compiling modules that nothing imports; Python compiles the others when it first imports them
$(VENV)/.runtime: $(LOCKS) $(SOURCES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11")'
	$(make_venv)
	$(BIN)/python -m pip install -q --no-compile $(addprefix -r ,$(LOCKS))
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

$(VENV)/.development: $(VENV)/.runtime envs/development.lock
	$(BIN)/python -m pip install -q --no-compile -r envs/development.lock
	touch $@

clean:
	rm -rf $(BUILT)

# results may be months of work: without CONFIRM=yes or the answer yes nothing is deleted
distclean:
	@if [ "$(CONFIRM)" != yes ]; then \
		printf 'delete all results and logs (%s)? Type yes: ' "$$(du -shc results logs 2>/dev/null | tail -n 1 | cut -f 1)"; \
		read -r answer || answer=no; \
		[ "$$answer" = yes ] || { echo "nothing was deleted"; exit 1; }; \
	fi
	rm -rf $(BUILT) results logs .snakemake
