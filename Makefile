# `make` lists the targets. All of them work on a fresh clone: the set-up is made when it is missing.
.DEFAULT_GOAL := help
SHELL := /bin/bash

BIN := .venv/bin
READY := .venv/ready
# Suites that leave a core idle run beside one another (scripts/side_by_side.py), in processes that share
# nothing; .pytest_cache, which they would share, is not written.
TESTS := python -m pytest -p no:cacheprovider
# What pytest selects by itself (pyproject.toml), to which a suite adds its own.
SHORT := not cluster and not long and not nights and not airflow and not storage
LONG := long and not cluster and not storage
# Another installation's settings would win over the pinned one.
unexport SPARK_HOME PYTHONPATH PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON

CONF ?= conf/faithful.yaml
MASTER ?= local[*]

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: java
java:
	@$(or $(PYTHON),python3) src/sparkgmm/spark/java.py

.PHONY: setup
setup: $(READY)  ## make .venv with the pinned versions

$(READY): requirements.lock requirements-build.lock pyproject.toml scripts/setup.sh scripts/spark-submit | java
	@scripts/setup.sh

# Not a part of the set-up: only suites that start more than one JVM gain from it.
%/classes.jsa: %/ready scripts/class_archive.sh | java
	@scripts/class_archive.sh $*

.PHONY: run
run: java $(READY)  ## fit CONF (default conf/faithful.yaml) through spark-submit --master MASTER (default local[*])
	@$(BIN)/spark-submit --master '$(MASTER)' jobs/fit_gmm.py --config $(CONF)

.PHONY: compare
compare: java $(READY)  ## Old Faithful by sparkgmm, scikit-learn, MLlib and k-means (conf/compare.yaml)
	@$(BIN)/spark-submit --master '$(MASTER)' jobs/compare_gmm.py --config $(or $(filter-out conf/faithful.yaml,$(CONF)),conf/compare.yaml)

.PHONY: test
test: java $(READY) .venv/classes.jsa  ## the whole test suite
	@$(BIN)/python scripts/side_by_side.py \
		'$(BIN)/$(TESTS) -m "spark and $(SHORT)"' '$(BIN)/$(TESTS) -m "not spark and $(SHORT)"'

.PHONY: test-fast
test-fast: $(READY)  ## the tests that need no Spark
	@$(BIN)/python -m pytest -m "not spark and $(SHORT)"

# Jobs whose reading differs from one Spark to another.
OTHER_JOBS := tests/runs/test_mixed_tables_job.py tests/runs/test_missing.py tests/runs/test_groups.py
on_another_spark = $1/python scripts/side_by_side.py '$1/$(TESTS) tests/spark --ignore tests/spark/ml' \
	'$1/$(TESTS) tests/spark/ml tests/runs/test_fit.py $(OTHER_JOBS)'

.venv-min-spark/ready: requirements-min-spark.lock requirements-build.lock pyproject.toml scripts/setup.sh | java
	@scripts/setup.sh .venv-min-spark requirements-min-spark.lock

.PHONY: test-min-spark
test-min-spark: java .venv-min-spark/ready  ## the test suite on the oldest Spark that is supported, in an environment of its own
	@$(call on_another_spark,.venv-min-spark/bin)

.venv-spark-4.1/ready: requirements-spark-4.1.lock requirements-build.lock pyproject.toml scripts/setup.sh | java
	@scripts/setup.sh .venv-spark-4.1 requirements-spark-4.1.lock

.PHONY: test-spark-4.1
test-spark-4.1: java .venv-spark-4.1/ready  ## the test suite on Spark 4.1, for which Delta and Iceberg can be had
	@$(call on_another_spark,.venv-spark-4.1/bin)

DIST := dist/environment.tar.gz
$(DIST): $(READY) requirements-run.lock scripts/dist.sh scripts/environment-python $(shell find src -name '*.py' -o -name '*.html' -o -name '*.css' -o -name '*.js')
	@scripts/dist.sh

.PHONY: dist
dist: $(DIST)  ## build the wheel, the zip for --py-files and the packed environment into dist/

.PHONY: submit
submit: java $(DIST)  ## fit CONF on MASTER=spark://..., whose workers need nothing but Python
	@$(BIN)/spark-submit --master '$(MASTER)' --archives '$(DIST)#environment' \
		--conf spark.pyspark.python=./environment/bin/python \
		--conf spark.pyspark.driver.python=$(BIN)/python jobs/fit_gmm.py --config $(CONF)

.PHONY: test-cluster
test-cluster: java $(DIST) .venv/classes.jsa  ## faults and restarts on a real standalone cluster on this machine
	@$(BIN)/python -m pytest -m "cluster and not long" tests/cluster

.PHONY: test-faults
test-faults: java $(DIST) .venv/classes.jsa  ## every fault on the cluster, half an hour
	@$(BIN)/python -m pytest -m cluster tests/cluster

.venv-airflow/ready: requirements-airflow.lock
	@echo "making .venv-airflow, for the tests of conf/schedule"
	@rm -rf .venv-airflow && $(or $(PYTHON),python3) -m venv .venv-airflow
	@.venv-airflow/bin/python -m pip --disable-pip-version-check -qq install --require-hashes --only-binary :all: -r $<
	@touch $@

.PHONY: test-airflow
test-airflow: java $(READY) .venv-airflow/ready .venv/classes.jsa  ## the DAG in a real Airflow, conf/deploy in the vendors' own clients
	@$(BIN)/python -m pytest -m airflow tests/airflow

.PHONY: maven
maven:
	@command -v mvn >/dev/null || (apt-get update -q && apt-get install -y -q --no-install-recommends maven) >/dev/null

build/jars/%/ready: tests/storage/jars/%/pom.xml tests/storage/jars/%/sha256sums scripts/jars.sh | maven
	@echo "fetching the jars of tests/storage/jars/$*"
	@scripts/jars.sh $*

# The servers that the tests start have an environment of their own.
.venv-storage/ready: requirements-storage.lock
	@echo "making .venv-storage, for the S3 server of the tests"
	@rm -rf .venv-storage && $(or $(PYTHON),python3) -m venv .venv-storage
	@.venv-storage/bin/python -m pip --disable-pip-version-check -qq install --require-hashes --only-binary :all: -r $<
	@touch $@

JARS := build/jars/aws/ready build/jars/hadoop/ready build/jars/delta/ready build/jars/iceberg/ready
.PHONY: test-storage
test-storage: java $(DIST) $(JARS) .venv-storage/ready .venv-spark-4.1/ready .venv/classes.jsa .venv-spark-4.1/classes.jsa  ## S3A, HDFS, YARN, Delta and Iceberg, against real servers on this machine
	@$(BIN)/python scripts/side_by_side.py \
		'$(BIN)/$(TESTS) -m "storage and not long" tests/storage --ignore tests/storage/tables' \
		'.venv-spark-4.1/bin/$(TESTS) -m "storage and not long" tests/storage/tables'

.PHONY: test-hadoop
test-hadoop: java $(DIST) build/jars/hadoop/ready .venv/classes.jsa  ## all tests of HDFS and YARN, with 2,000,000 rows and servers that hang (half an hour)
	@$(BIN)/python -m pytest -m storage tests/storage/hadoop

# Where the long tests are that take about as long as all others of them.
OTHER_LONG := tests/jobs tests/deploy tests/core tests/exports
.PHONY: test-long
test-long: java $(READY) .venv/classes.jsa  ## hostile input, resuming, and jobs as processes
	@$(BIN)/python scripts/side_by_side.py \
		'$(BIN)/$(TESTS) -m "$(LONG)" $(addprefix --ignore ,$(OTHER_LONG))' '$(BIN)/$(TESTS) -m "$(LONG)" $(OTHER_LONG)'

# From the folder of the tests and without this project's settings, of which "a warning is an error" is one.
.PHONY: test-sklearn
test-sklearn: $(READY)  ## scikit-learn's own tests of its mixture, run against sparkgmm.sklearn
	@cd tests && SCIPY_ARRAY_API=1 SKLEARN_RUN_FLOAT32_TESTS=1 ../$(BIN)/python -m pytest -c /dev/null --rootdir . -q -r fExX \
		-p no:cacheprovider -p helpers.scikit_learns_tests --pyargs sklearn.mixture.tests.test_gaussian_mixture

.PHONY: bench-partitions
bench-partitions: java $(READY)  ## the driver's peak memory at 100 and at 10,000 partitions (some ten minutes)
	@$(BIN)/python scripts/bench/partitions.py 100 10000

.PHONY: test-nights
test-nights: java $(DIST) .venv/classes.jsa  ## thirty nights, updates, the commands of the guide, the notebook and the crontab, many fits in one application
	@$(BIN)/python -m pytest -m nights

.PHONY: test-soak
test-soak: java $(READY)  ## 200 fits in one application, and twenty at once
	@SPARKGMM_SOAK=200 $(BIN)/python -m pytest -m nights -s tests/runs/test_soak.py

.PHONY: browser
browser:  ## install Debian's Chromium, in which the tests open the pages (as root)
	@command -v chromium >/dev/null || (apt-get update -q && apt-get install -y -q --no-install-recommends chromium) >/dev/null

.PHONY: lint
lint: $(READY)  ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: $(READY)  ## format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.venv-docs/ready: requirements-docs.lock
	@echo "making .venv-docs, for the documentation"
	@rm -rf .venv-docs && $(or $(PYTHON),python3) -m venv .venv-docs
	@.venv-docs/bin/python -m pip --disable-pip-version-check -qq install --require-hashes --only-binary :all: -r $<
	@touch $@

build/gallery/ready: scripts/gallery.py $(shell find src -name '*.py' -o -name '*.html' -o -name '*.css' -o -name '*.js') | java $(READY)
	@echo "fitting the examples of the gallery"
	@$(BIN)/python scripts/gallery.py
	@touch $@

.PHONY: docs
docs: .venv-docs/ready build/gallery/ready  ## build the documentation as a site that needs no network: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.PHONY: audit
audit: $(READY)  ## compare the pinned dependencies with the known vulnerabilities (needs the network)
	@$(BIN)/python -m pip_audit --require-hashes --disable-pip --requirement requirements.lock

.PHONY: picture
picture: $(READY)  ## draw docs/faithful.png, the README's picture
	@$(BIN)/python scripts/picture.py

.PHONY: configuration
configuration: $(READY)  ## write docs/configuration.md, every key of the jobs, from the table of options
	@$(BIN)/python scripts/configuration.py

.PHONY: walkthrough
walkthrough: java $(READY)  ## run docs/walkthrough.ipynb anew and keep its pictures
	@$(BIN)/python scripts/walkthrough.py

.PHONY: bench
bench: java $(READY)  ## measure against the peers and write docs/benchmarks.md (about an hour, 20 GB of disk)
	@$(BIN)/python scripts/bench

.PHONY: bench-clean
bench-clean:  ## forget what was measured
	rm -rf build/bench

.PHONY: lock
lock:  ## pin the dependencies anew (needs uv)
	@scripts/lock.sh

.PHONY: clean
clean:  ## remove the environment, runs and caches
	rm -rf .venv .venv-min-spark .venv-spark-4.1 .venv-airflow .venv-storage .venv-docs runs spark-warehouse .mypy_cache .ruff_cache .pytest_cache .hypothesis build
