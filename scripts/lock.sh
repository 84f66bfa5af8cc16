#!/usr/bin/env bash
# Pins every dependency with its hashes. Needs uv; run it when pyproject.toml changes, and commit the result.
set -euo pipefail
cd "$(dirname "$0")/.."
common=(--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet)
uv pip compile pyproject.toml --extra dev "${common[@]}" --output-file requirements.lock "$@"
# What the executors' environment holds: Spark brings itself (make dist).
uv pip compile pyproject.toml --constraint requirements.lock --no-emit-package pyspark --no-emit-package py4j "${common[@]}" --output-file requirements-run.lock
# The oldest Spark that is supported, with a numpy and a pyarrow of its time, for make test-min-spark.
printf 'pyspark<3.6\nnumpy<2\npyarrow<18\nonnx<1.19\n' | uv pip compile pyproject.toml --extra dev --constraint - "${common[@]}" --output-file requirements-min-spark.lock
# The newest Spark that Delta and Iceberg can be had for, for make test-spark-4.1 and the tests of tables.
printf 'pyspark>=4.1,<4.2\n' | uv pip compile pyproject.toml --extra dev --constraint - "${common[@]}" --output-file requirements-spark-4.1.lock
# What must be there before an sdist (pyspark) or the project itself can be built without fetching anything unpinned.
echo 'setuptools' | uv pip compile - --constraint requirements.lock "${common[@]}" --output-file requirements-build.lock
# A real Airflow, and the vendors' clients that check what conf/deploy has for them, for make test-airflow.
printf 'apache-airflow-core>=3,<4\napache-airflow-providers-standard\nbotocore\ndatabricks-sdk\ngoogle-cloud-dataproc\n' | uv pip compile - "${common[@]}" --output-file requirements-airflow.lock
# The documentation's site, for make docs; ruff lays out the signatures.
printf 'mkdocs-material\nmkdocstrings[python]\nlatex2mathml\nruff\n' | uv pip compile - --constraint requirements.lock "${common[@]}" --output-file requirements-docs.lock
# The S3 server of make test-storage.
echo 'moto[server]' | uv pip compile - "${common[@]}" --output-file requirements-storage.lock
