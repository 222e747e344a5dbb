#!/bin/sh
# What Prometheus's own tools say of what we give it: the files can be read, and each alert fires and stays silent as its test says.
# And whether the dashboards are those that grafana/dashboards.py writes.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh python3
tools="$(scripts/setup.sh prometheus)"
"$tools/promtool" check config prometheus/prometheus.yml
"$tools/promtool" test rules prometheus/prometheus.tests.yml
"$tools/amtool" check-config prometheus/alertmanager.yml
python3 grafana/dashboards.py --check
