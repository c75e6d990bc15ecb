# Every target runs through standalone/run.sh, which makes the tools environment when it is missing or outdated.
# Nothing needs root, Docker or an activated environment.
RUN := sh standalone/run.sh

.DEFAULT_GOAL := help
.PHONY: help install up down status logs demo test lint bench chaos lock clean

help: ## explain every target (this list)
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "State is in .standalone/ (or LABELWHEEL_HOME). Ports: LABELWHEEL_AIRFLOW_PORT, LABELWHEEL_ARGILLA_PORT,"
	@echo "LABELWHEEL_S3_PORT, LABELWHEEL_REDIS_PORT; LABELWHEEL_PORTS=auto takes free ones and remembers them."

install: ## install the environments; does nothing when the locks have not changed
	@$(RUN) standalone install

up: ## install, start everything, wait until it works, show where to sign in
	@$(RUN) standalone up

down: ## stop everything; the data stays
	@$(RUN) standalone down

status: ## show the services; exit code 0 only when all are healthy
	@$(RUN) standalone status

logs: ## show the last lines of every log; s=<service> follows one
	@$(RUN) standalone logs $(s)

demo: ## install, start, load real e-mails, run the loop to the first promoted model
	@$(RUN) standalone.demo

test: ## lint, types, and every test with real servers (needs Chromium; nothing else prepared)
	@$(RUN) standalone.checks

lint: ## only lint and types
	@$(RUN) standalone.checks lint

bench: ## every benchmark; bench-<name> runs one of bench/ (the last line printed is JSON)
	@$(RUN) standalone.bench

bench-%:
	@$(RUN) standalone.bench $*

chaos: ## kill tasks, workers and the S3 server 200 times while data lands (the last line printed is JSON)
	@$(RUN) standalone.chaos

lock: ## resolve requirements*.in and standalone/tools.in anew, keeping versions that still fit
	@$(RUN) standalone.lock

clean: ## stop, then remove the state folder with all data and environments
	@$(RUN) standalone clean
