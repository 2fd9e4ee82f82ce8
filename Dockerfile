# Two images: `service` runs every Airflow component of docker-compose.yaml, `demo` the servers of its demo profile.
#
# The slim image holds Airflow alone: what else is installed is requirements.txt and nothing more, as in development.
# docs/security.md says how to pin it by digest.
FROM apache/airflow:slim-3.3.2-python3.11 AS base

WORKDIR /opt/airflow
COPY requirements.txt ./
# A lock file that pins another Airflow than the image's is an error, not a quiet upgrade. Without bytecode, each start
# would compile everything anew, since the root is read-only.
RUN grep --quiet "^apache-airflow==${AIRFLOW_VERSION} " requirements.txt \
    && uv pip install --no-cache --compile-bytecode --no-deps --require-hashes --requirement requirements.txt

# Code belongs to root: the process that runs it cannot change it. Compiled here, since it cannot do that later either.
USER 0
COPY dags dags
COPY include include
COPY plugins plugins
COPY deploy/celery_results.py deploy/health.py deploy/
COPY deploy/preload deploy/preload
# Airflow writes airflow.cfg where there is none; an empty one leaves everything to the environment.
RUN mkdir -p include/customers certificates keys state \
    && chown 50000:0 state \
    && touch airflow.cfg \
    && python -m compileall -q dags plugins deploy
USER 50000
# Airflow itself finds the plugins folder; `python -m data_export_airflow` needs to be told. The name of the user is for
# libraries that ask for it where the container runs under a uid that has none, as on OpenShift.
ENV PYTHONPATH=/opt/airflow/plugins LOGNAME=airflow


FROM base AS demo

COPY requirements-dev.txt ./
RUN uv pip install --no-cache --compile-bytecode --no-deps --require-hashes --requirement requirements.txt --requirement requirements-dev.txt
COPY demo demo
ENV PYTHONPATH=/opt/airflow/plugins:/opt/airflow


FROM base AS service
