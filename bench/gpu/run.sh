#!/usr/bin/env bash
# Measures the models at their true size, without any network:
#     bash run.sh levers|requests|acceleration|fp8|oracles [--quick] [--out FILE.json]
# The machine needs Python, torch and transformers. The first call makes the environment `env` beside this file: it has
# the machine's own packages and those in `wheels`. PYTHON names another interpreter than python3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
own=$here/env/bin/python
if [ ! -e "$here/env/ready" ]; then
	python=${PYTHON:-python3}
	"$python" -m venv --clear --without-pip "$here/env"
	packages=$("$own" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	"$python" -m tarfile -e "$here/longtake.tar.xz" "$here"
	for wheel in "$here"/wheels/*.whl; do "$own" -m zipfile -e "$wheel" "$packages"; done
	# The packages of the machine come last, so that those in `wheels` have the right versions.
	"$python" -c 'import sys; print(*(path for path in sys.path if path.endswith("-packages")), sep="\n")' \
		>"$packages/machine.pth"
	"$own" -c 'import av, PIL.Image, pydantic, torch, transformers' ||
		{ echo "$python lacks packages, or is not the version of Python that the wheels are for." >&2; exit 1; }
	touch "$here/env/ready"
fi
export HF_HUB_OFFLINE=1 # a machine whose network swallows packets would wait for each one
PYTHONPATH=$here/src:$here exec "$own" -P -m bench.gpu "$@"
