#!/bin/sh
# Run a Python module of the repository in the tools environment, which is made here when it is missing or outdated.
#   sh standalone/run.sh standalone up
set -eu
cd "$(dirname "$0")/.."
LABELWHEEL_STARTED_AT=${LABELWHEEL_STARTED_AT:-$(date +%s)}
export LABELWHEEL_STARTED_AT
tools="${LABELWHEEL_VENVS:-${LABELWHEEL_HOME:-.standalone}/venvs}/tools"
lock=standalone/tools.txt

if ! cmp -s "$lock" "$tools/installed.txt" || ! "$tools/bin/python" -c '' 2>/dev/null; then
    python=
    for candidate in python3.11 python3.12 python3.13 python3; do
        # A name on PATH may be a version manager's shim for nothing: ask it.
        if "$candidate" -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info[:3] < (3, 14))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "Labelwheel needs Python 3.11.5 to 3.13, and none is on PATH. Install one (Debian: apt-get install python3 python3-venv)." >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python lacks the modules venv and ensurepip. Install them (Debian: apt-get install python3-venv)." >&2
        exit 1
    fi
    echo "Installing tools ($("$python" --version)) ..."
    rm -rf "$tools"
    if ! { "$python" -m venv "$tools" && "$tools/bin/python" -m pip install --quiet --disable-pip-version-check \
            --no-input --require-hashes --requirement "$lock"; }; then
        echo "The tools could not be installed in $tools (see above). Check the network and the free disk space, then run it again." >&2
        exit 1
    fi
    cp "$lock" "$tools/installed.txt"
fi

# The folder of the repository is the import root; an inherited PYTHONPATH could shadow it.
case $tools in /*) ;; *) tools="$PWD/$tools" ;; esac
PYTHONPATH=$PWD exec "$tools/bin/python" -m "$@"
