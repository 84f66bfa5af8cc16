"""Fit a Gaussian mixture: spark-submit jobs/fit_gmm.py --config conf/faithful.yaml."""

import sys

from sparkgmm.runs.cli import fit_main

if __name__ == "__main__":
    sys.exit(fit_main())
