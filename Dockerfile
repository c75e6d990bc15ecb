# The production image: Airflow's official one, our pinned libraries, and the three folders that are Labelwheel.
# Same Airflow and Python minor version as requirements.txt was locked and tested with.
FROM apache/airflow:3.3.2-python3.11

# --no-deps: the lock is complete; resolving again could only drift from what was tested.
COPY --chown=airflow:root requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.txt

COPY --chown=airflow:root dags /opt/airflow/dags
COPY --chown=airflow:root plugins /opt/airflow/plugins
COPY --chown=airflow:root include /opt/airflow/include

# The provider's entry point is what makes Airflow offer the Argilla connection type.
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e /opt/airflow/plugins

# One BLAS thread per task: workers run several tasks at once, and small fits are slower with more.
ENV PYTHONPATH=/opt/airflow:/opt/airflow/plugins \
    OMP_NUM_THREADS=1 \
    GX_ANALYTICS_ENABLED=false

# Inherited from the base image and stated here so that it cannot change unnoticed: never root.
USER airflow
